"""Folders that are no export, or a changed one: one clear line each, and nothing is stored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from test_import_export import contents, imported, rewritten
from test_import_export import exported as exported
from test_import_export import ids as ids
from test_import_export import other as other

Rows = list[dict[str, Any]]
Make = Callable[[Path, Path], Path]


def changed(table: str, change: Callable[[Rows], Any]) -> Make:
    """A consistent folder in which one table was changed."""
    return lambda exported, folder: rewritten(exported, folder, table, change)


def damaged(damage: Callable[[Path], Any]) -> Make:
    """A copy of the folder with something else in it."""

    def make(exported: Path, folder: Path) -> Path:
        shutil.copytree(exported, folder)
        damage(folder)
        return folder

    return make


def table_of(name: str, content: bytes) -> Callable[[Path], None]:
    """Put a file in the place of a table, with a manifest that agrees."""

    def damage(folder: Path) -> None:
        from ucurve.registry.artifacts import file_sha256

        (folder / name).write_bytes(content)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name]["sha256"] = file_sha256(folder / name)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def manifest_of(**fields: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, **fields}))

    return damage


def link(folder: Path) -> None:
    shutil.move(folder / "attempts.parquet", folder.parent / "attempts.parquet")
    (folder / "attempts.parquet").symlink_to(folder.parent / "attempts.parquet")


def pipe(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def other_columns(folder: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "attempts.parquet")
    index = table.schema.get_field_index("worker")
    table = table.set_column(index, "worker", pa.array(range(len(table))))
    out = io.BytesIO()
    pq.write_table(table, out)
    table_of("attempts.parquet", out.getvalue())(folder)


def first(**fields: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[0].update(fields)


def number(name: str, value: Any) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        metrics = rows[0]["metrics"]
        metrics[next(iter(metrics)) if name == "" else name] = value

    return change


DEEP = "[" * 50_000 + "]" * 50_000
FOLDERS: dict[str, tuple[Make, str]] = {
    "no manifest": (damaged(lambda f: (f / "manifest.json").unlink()), "has no manifest.json"),
    "a manifest that is no JSON": (
        damaged(lambda f: (f / "manifest.json").write_bytes(b"\xff{")),
        "is not a ucurve manifest",
    ),
    "a deep manifest": (
        damaged(lambda f: (f / "manifest.json").write_text(DEEP)),
        "is not a ucurve manifest",
    ),
    "a pipe for a manifest": (damaged(pipe("manifest.json")), "not a regular file"),
    "a newer format": (damaged(manifest_of(format=99)), "install a newer version"),
    "format 0": (damaged(manifest_of(format=0)), "format 0"),
    "a missing table": (damaged(lambda f: (f / "points.parquet").unlink()), "points.parquet"),
    "a pipe for a table": (damaged(pipe("suites.parquet")), "not a regular file"),
    "a link out of the folder": (damaged(link), "leads out of the folder"),
    "no Parquet": (damaged(table_of("attempts.parquet", b"PAR1 nothing")), "read as Parquet"),
    "an empty file": (damaged(table_of("suites.parquet", b"")), "read as Parquet"),
    "a column of numbers": (damaged(other_columns), "the column worker is not of type"),
    "a name that climbs": (
        changed("datasets", first(name="../../x")),
        "datasets.0.name: String should match",
    ),
    "a hash that climbs": (changed("datasets", first(sha256="../../../x")), "datasets.0.sha256"),
    "spec that is no JSON": (changed("experiments", first(spec="{")), "experiments.parquet, row 1"),
    "deep JSON": (changed("measurements", first(labels=DEEP)), "nested too deeply"),
    "NaN in JSON": (changed("measurements", first(labels='{"a": NaN}')), "NaN is no number"),
    "NaN for a metric": (changed("attempts", number("", float("nan"))), "finite number"),
    "a duplicate": (
        changed("measurements", lambda rows: rows.append({**rows[0], "id": rows[-1]["id"] + 1})),
        "the same measurement as row 1",
    ),
    "a doubled id": (changed("measurements", lambda rows: rows.append(rows[0])), "its id is not"),
    "an attempt of nothing": (
        changed("attempts", lambda rows: rows.append({**rows[-1], "measurement": 10**9})),
        "has the id 1000000000",
    ),
    "a doubled attempt": (
        changed("attempts", lambda rows: rows.insert(0, {**rows[0], "id": 10**9})),
        "an attempt is listed twice",
    ),
    "a point of nothing": (
        changed("points", first(identity="0" * 64)),
        "its measurement 000000000000 is not in measurements.parquet",
    ),
    "an absurd number": (changed("measurements", first(repeat=2**40)), "repeat: Input should be"),
    "an unknown state": (changed("measurements", first(state="sleeping")), "state: Input should"),
    "an unknown outcome": (changed("attempts", first(outcome="won")), "outcome: Input should be"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder_ends_in_one_line_and_nothing_is_stored(
    other: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, reason = FOLDERS[name]
    folder = make(exported, tmp_path / "folder")
    before = contents(other.client)
    capsys.readouterr()
    assert imported(other, folder) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    [line] = [text for text in printed.splitlines() if text.startswith("ucurve: ")]
    assert reason in line
    assert contents(other.client) == before


def test_a_changed_number_of_a_known_attempt_is_refused_by_name_before_anything_is_stored(
    other: Lab, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(other, exported) == 0
    before = contents(other.client)

    def add_a_half(rows: Rows) -> None:
        name = next(iter(rows[-1]["metrics"]))
        rows[-1]["metrics"][name] += 0.5

    folder = rewritten(exported, tmp_path / "changed", "attempts", add_a_half)
    folder = rewritten(
        folder, tmp_path / "both", "suites", lambda rows: rows.append({**rows[0], "name": "new"})
    )
    capsys.readouterr()
    assert imported(other, folder) == 2
    printed = capsys.readouterr().err
    assert "is known here with other numbers" in printed
    assert "measurements.parquet, row " in printed
    assert contents(other.client) == before, "the new suite was not stored either"

    def cut_series(rows: Rows) -> None:
        attempt = next(row for row in rows if row["series"])
        attempt["series"] = {name: values[:-1] for name, values in attempt["series"].items()}

    folder = rewritten(exported, tmp_path / "cut", "attempts", cut_series)
    assert imported(other, folder) == 2
    assert "the values of" in capsys.readouterr().err
    assert contents(other.client) == before
