"""API keys come from private files, the environment or standard input."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ucurve.cli import command_parser, main
from ucurve.cli.arguments import connect
from ucurve.client import Client, ClientError

URL = "http://127.0.0.1:9"


def key(*options: str) -> str:
    """The key that a command sends."""
    args = command_parser().parse_args(["--url", URL, *options, "list"])
    with connect(args) as client:
        return str(client._http.headers["Authorization"]).removeprefix("Bearer ")


def test_a_key_comes_from_a_private_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text("ucurve_in_a_file\n")
    file.chmod(0o600)
    assert key("--token-file", str(file)) == "ucurve_in_a_file"
    monkeypatch.setenv("UCURVE_TOKEN_FILE", str(file))
    assert key() == "ucurve_in_a_file"
    monkeypatch.setattr("sys.stdin", io.StringIO("ucurve_typed\nand more"))
    assert key("--token", "-") == "ucurve_typed"
    assert "warning" not in capsys.readouterr().err
    assert key("--token", "ucurve_seen") == "ucurve_seen"
    assert "shows the key to all users" in capsys.readouterr().err
    monkeypatch.setenv("UCURVE_TOKEN", "ucurve_in_the_environment")
    assert key() == "ucurve_in_the_environment"


@pytest.mark.parametrize(
    ("mode", "content", "message"),
    [(0o644, "ucurve_x", "chmod 600"), (0o600, "", "not hold an API key"), (0o600, "a b", "key")],
)
def test_a_token_file_that_others_can_read_or_without_a_key_is_refused(
    tmp_path: Path,
    mode: int,
    content: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    url = ["--url", URL]
    assert main([*url, "--token-file", str(file), "list"]) == 2
    assert message in capsys.readouterr().err
    monkeypatch.setenv("UCURVE_TOKEN_FILE", str(file))
    with pytest.raises(ClientError, match=message):
        Client(URL)
    assert main([*url, "--token-file", str(tmp_path), "list"]) == 2
    assert "a directory" in capsys.readouterr().err
    assert main([*url, "--token-file", str(tmp_path / "none"), "list"]) == 2
    assert "cannot read" in capsys.readouterr().err
