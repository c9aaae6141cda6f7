"""Files that requests name: only regular ones below the lab's folders, nothing said of others.

The first test is the attack that made a submitter an admin: a dataset of the file with the admin's
key, and a model whose losses spell it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from in_process import Context
from test_suites import write_model
from tiny_model import model_of

from ucurve.modeling.checkpoints import CheckpointError, load, save
from ucurve.modeling.token_data import DataError, text_file
from ucurve.registry import hashing, roots
from ucurve.registry.artifacts import folder_of
from ucurve.registry.roots import LocationError, open_file, readable_roots
from ucurve.registry.suites import Checkpoint, Dataset, Location
from ucurve.settings import SettingsError, settings

SECRET = "ucurve_0123456789abcdef"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as an embedded lab has it."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("artefacts", "artefacts/suites", "postgres"):
        (folder / name).mkdir()
    for secret in ("admin-token", "webhook-secret", "artefacts/admin-token"):
        (folder / secret).write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def api(database_url: str, data: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_ARTEFACTS", str(data / "artefacts"))
        patch.setenv("UCURVE_ADMIN_TOKEN_FILE", str(data / "admin-token"))
        patch.setenv("UCURVE_ACCESS", "open")
        from api.main import app

        yield TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


def ended(api: TestClient, url: str, **body: Any) -> Any:
    """The answer of a POST, which arrives although a pipe is named."""
    answers: list[Any] = []

    def post() -> None:
        answers.append(api.post(url, json={"name": "x", **body}))

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    thread.join(60)
    assert answers, "the request never ended"
    return answers[0]


def rejected(api: TestClient, url: str, **body: Any) -> tuple[str, str]:
    """Pointer and detail of a 422."""
    answer = ended(api, url, **body)
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    return error["pointer"], error["detail"]


@pytest.mark.parametrize("field", ["text", "train", "validation"])
def test_no_secret_of_the_lab_can_be_registered_and_existence_is_not_answered(
    api: TestClient, data: Path, field: str
) -> None:
    there = ["admin-token", "webhook-secret", "artefacts/admin-token", "postgres"]
    details = set()
    for name in (*there, "artefacts/nothing", "nothing/at/all"):
        other = "validation" if field == "train" else "train"
        files = {field: f"{data}/{name}"} | ({} if field == "text" else {other: f"{data}/{name}"})
        _, detail = rejected(api, "/v1/datasets", **files)
        details.add(detail.replace(name, "NAME"))
    assert len(details) == 1, "existing and missing files get the same answer"
    assert "ucurve up --models DIR" in detail
    assert str(settings().models[0]) in detail, "the answer names the folders that exist"
    assert SECRET not in detail


def test_a_suite_is_registered_from_below_the_folders_only(
    api: TestClient, data: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_model(elsewhere / "step1", 1)
    details = {
        rejected(api, "/v1/suites", path=str(path))[1].removeprefix(str(path))
        for path in (elsewhere, elsewhere / "nothing", Path("/"), data, Path("/proc/self/cwd"))
    }
    assert len(details) == 1
    (tmp_path / "step1").symlink_to(elsewhere / "step1")
    assert roots.OUTSIDE in rejected(api, "/v1/suites", path=str(tmp_path))[1], "through a link"
    (tmp_path / "step1").unlink()
    (tmp_path / "step1").symlink_to(elsewhere / "nothing")
    assert roots.OUTSIDE in rejected(api, "/v1/suites", path=str(tmp_path))[1]


def test_paths_that_climb_or_loop_or_hold_odd_characters_are_outside(
    api: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    odd = [f"{tmp_path}/../../../admin-token", f"{tmp_path}/loop"]
    odd += [str(tmp_path / ("x" * 300)), "/proc/self/environ", "/dev/zero"]
    for path in odd:
        pointer, detail = rejected(api, "/v1/datasets", text=path)
        assert pointer == "/text"
        assert roots.OUTSIDE in detail or "not a file" in detail, path
    assert rejected(api, "/v1/datasets", text=f"{tmp_path}/a\0b")[0] == "/text"
    assert rejected(api, "/v1/datasets", text="~nobody-of-this-name/x")[0] == "/text"


def test_a_link_below_a_root_that_leads_out_is_refused_for_every_file_of_a_model(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        folder = tmp_path / f"with-{name}"
        write_model(folder, 1)
        outside.write_bytes((folder / "config.json").read_bytes())
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside)
        checkpoint = Checkpoint(
            suite="s", revision="r", location=Location(scheme="path", path=str(folder))
        )
        resolved = hashing.resolve(checkpoint, folder)
        assert roots.OUTSIDE in (resolved.unresolved or ""), name
        assert resolved.config_sha256 is None
        assert resolved.tokenizer_sha256 is None


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)  # a short name: sockets have few bytes for theirs


@pytest.mark.parametrize("make", [pipe, listening, Path.mkdir])
def test_a_pipe_socket_or_folder_in_the_place_of_a_file_ends_in_an_error(
    api: TestClient, tmp_path: Path, make: Any
) -> None:
    make(tmp_path / "text.txt")
    assert "not a file" in rejected(api, "/v1/datasets", text=f"{tmp_path}/text.txt")[1]
    for name in ("config.json", "model.safetensors", "tokenizer.json", "suite.json"):
        folder = tmp_path / f"models-{name}"
        target = folder / name if name == "suite.json" else folder / "step1" / name
        write_model(folder / "step1", 1)
        target.unlink(missing_ok=True)
        make(target)
        suite = f"x-{name.split('.')[0]}-{make.__name__}"
        answer = ended(api, "/v1/suites", name=suite, path=str(folder))
        if answer.status_code == 201:
            assert answer.json()["checkpoints"][0]["unresolved"], name
        else:
            assert answer.status_code == 422, answer.text


def test_what_is_checked_is_the_open_file_though_a_link_takes_its_place(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_text(SECRET)
    (tmp_path / "inner").mkdir()
    honest = tmp_path / "inner" / "text.txt"
    honest.write_text("harmless")
    within = roots._within

    def swapped(path: Path, folders: Any) -> Any:
        checked = within(path, folders)
        honest.unlink()
        honest.symlink_to(outside)
        return checked

    monkeypatch.setattr(roots, "_within", swapped)
    with pytest.raises(OSError, match="symbolic links"):
        open_file(honest)
    monkeypatch.setattr(roots, "_within", within)
    honest.unlink()
    honest.write_text("harmless")

    def folder_swapped(path: Path, folders: Any) -> Any:
        checked = within(path, folders)
        (tmp_path / "inner").rename(tmp_path / "gone")
        (tmp_path / "inner").symlink_to(outside.parent)
        return checked

    monkeypatch.setattr(roots, "_within", folder_swapped)
    with pytest.raises(OSError):
        open_file(honest)


def test_workers_apply_the_same_check_to_rows_that_name_other_files(
    data: Path, tmp_path: Path
) -> None:
    secret = data / "artefacts" / "admin-token"
    for scheme, path in (("path", str(secret)), ("artefacts", "admin-token")):
        location = Location(scheme=scheme, path=path)  # type: ignore[arg-type]
        text = Dataset(name="t", kind="text", location=location)
        with pytest.raises(CheckpointError, match=f"outside|{roots.OUTSIDE}"):
            text_file(text, data / "artefacts")
    (tmp_path / "text.txt").symlink_to(secret)
    text = Dataset(
        name="t", kind="text", location=Location(scheme="path", path=f"{tmp_path}/text.txt")
    )
    with pytest.raises((CheckpointError, DataError), match=roots.OUTSIDE):
        text_file(text, data / "artefacts")
    folder = tmp_path / "model"
    saved = save(model_of(), folder)
    checkpoint = Checkpoint(
        suite="s",
        revision="r",
        location=Location(scheme="path", path=str(folder)),
        weights_sha256=saved.weights_sha256,
    )
    assert load(checkpoint, "cpu", data / "artefacts").model.num_parameters() > 0
    (folder / "tokenizer.json").symlink_to(secret)
    with pytest.raises(CheckpointError, match=roots.OUTSIDE):
        load(checkpoint, "cpu", data / "artefacts")


def test_nothing_secret_lies_below_a_folder_that_workers_or_registration_read(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(data / "artefacts"))
    secrets = [path for path in data.rglob("*") if path.is_file() and path.read_text() == SECRET]
    assert len(secrets) == 3
    for secret in secrets:
        with pytest.raises(LocationError):
            open_file(secret)
        assert not any(secret.is_relative_to(root) for root in readable_roots())
    with pytest.raises(LocationError):
        folder_of(Location(scheme="artefacts", path="state"), data / "artefacts")
    assert Context(data / "artefacts").state_dir.name == "state"


@pytest.mark.parametrize(
    "folder", ["/", "~", "~/.ssh", "/proc", "/etc", "DATA", "DATA/postgres", "DATA/artefacts"]
)
def test_a_folder_of_models_that_holds_a_secret_is_refused_at_the_start(
    data: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("UCURVE_ADMIN_TOKEN_FILE", str(data / "admin-token"))
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(data / "artefacts"))
    named = folder.replace("DATA", str(data))
    monkeypatch.setenv("UCURVE_MODELS", os.pathsep.join([str(data / "artefacts/suites"), named]))
    with pytest.raises(SettingsError, match=r"UCURVE_MODELS names .* must stay private"):
        settings()
    monkeypatch.setenv("UCURVE_MODELS", "models")
    with pytest.raises(SettingsError, match=r"UCURVE_MODELS .*not an absolute path"):
        settings()


def test_a_text_outside_is_uploaded_by_content_and_stored_once(api: TestClient, data: Path) -> None:
    sent = [
        api.post("/v1/uploads", content=b"Call me Ishmael.", params={"suffix": "txt"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in sent] == [201, 201], sent[0].text
    assert sent[0].json() == sent[1].json()
    [stored] = list((data / "artefacts/uploads").iterdir())
    assert stored.read_bytes() == b"Call me Ishmael."
    body = {"name": "uploaded", "text": sent[0].json()["file"]}
    added = api.post("/v1/datasets", json=body)
    assert added.status_code == 201, added.text
    assert added.json()["location"]["path"] == f"uploads/{stored.name}"
    assert added.json()["size_bytes"] == 16
    for name in ("../admin-token", "0" * 64 + ".txt", stored.name + "/..", "x"):
        detail = rejected(api, "/v1/datasets", text=f"upload:{name}")[1]
        assert "was not uploaded" in detail


def test_uploads_are_bounded_and_a_refused_one_leaves_no_file(
    api: TestClient, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.uploads.MAX_UPLOAD_BYTES", 1000)
    before = set((data / "artefacts/uploads").glob("*"))
    answer = api.post("/v1/uploads", content=b"x" * 1001)
    assert answer.status_code == 413
    assert "larger than" in answer.json()["detail"]
    assert api.post("/v1/uploads", content=b"x", params={"suffix": "../x"}).status_code == 422
    monkeypatch.setenv("UCURVE_UPLOADS_GB", "0")
    answer = api.post("/v1/uploads", content=b"y" * 10)
    assert (answer.status_code, "UCURVE_UPLOADS_GB" in answer.json()["detail"]) == (413, True)
    assert set((data / "artefacts/uploads").glob("*")) == before
