#!/bin/sh
# MLflow (mlflow-skinny 3.17.2) with a SQLite database and no server in between: a metric logged as
# inf reads back as 1.7976931348623157e308, a finite number like any other, and -inf as its
# negative. Nothing warns. NaN stays NaN. (The store replaces infinities before it writes, as it
# does for databases that cannot hold them; the REST API is not involved.)
#
# Seen on 2026-11-29:
#     inf 1.7976931348623157e+308
#     -inf -1.7976931348623157e+308
#     nan nan
# Exits with status 1 when an infinity comes back as one, or is refused.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1
cat >"$work/log_inf.py" <<'PY'
import math
import sys

from mlflow import MlflowClient

client = MlflowClient(tracking_uri=f"sqlite:///{sys.argv[1]}/mlflow.db")
run = client.create_run(client.create_experiment("inf")).info.run_id
largest = sys.float_info.max
expected = {"inf": largest, "-inf": -largest, "nan": math.nan}
changed = False
for name in expected:
    client.log_metric(run, name.replace("-", "minus_"), float(name))
for name, value in expected.items():
    (stored,) = client.get_metric_history(run, name.replace("-", "minus_"))
    print(name, stored.value)
    changed |= not (stored.value == value or math.isnan(value) and math.isnan(stored.value))
sys.exit(changed)
PY
cd "$work"
MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true "$work/venv/bin/python" log_inf.py "$work"
