#!/bin/sh
# pytest 9.2.0 with pytest-xdist 3.8.0: `--dist loadgroup` promises that all tests with the same
# xdist_group mark run in one process. With these versions it ignores the marks: the tests of each
# group run in both processes, without a warning. (xdist appends "@group" to the private attribute
# `_nodeid` of an item, from which pytest 9.2 no longer reads the node ID.)
#
# Seen on 2026-11-29 (the split varies, the number of processes per group does not):
#     even 2 processes
#     odd 2 processes
# Exits with status 1 when a group runs in one process, as documented.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pytest==9.2.0 pytest-xdist==3.8.0
cat >"$work/test_groups.py" <<'PY'
import os
import time

import pytest


def run(group):
    time.sleep(0.05)
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{group} {os.environ['PYTEST_XDIST_WORKER']}\n")


@pytest.mark.xdist_group("even")
@pytest.mark.parametrize("number", range(0, 24, 2))
def test_even(number):
    run("even")


@pytest.mark.xdist_group("odd")
@pytest.mark.parametrize("number", range(1, 24, 2))
def test_odd(number):
    run("odd")
PY
cd "$work"
NOTES="$work/notes" "$work/venv/bin/python" -m pytest -q -n 2 --dist loadgroup test_groups.py
status=0
for group in even odd; do
  processes=$(grep "^$group " "$work/notes" | sort -u | wc -l)
  echo "$group $processes processes"
  [ "$processes" -eq 2 ] || status=1
done
exit $status
