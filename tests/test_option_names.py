"""An error about an option names the option as it was typed, whatever the request calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Lab
from test_suites import write_model

from ucurve.cli import command_parser, main
from ucurve.cli.option_names import OptionNames

SHARED_LAB = True

HARNESS = {
    "results": {"lambada_openai": {"perplexity,none": 80.0}},
    "config": {"model_args": "pretrained=lab/other,revision=step1000"},
}
COMMANDS = {
    "suites add mine --path /nowhere": "--path: ",
    "suites add mine --hub nobody": "--hub: ",
    "suites add mine --hub lab/one --hub nobody": "--hub: ",
    "suites add mine --preset nothing": "--preset: There is no preset",
    "suites add mine --path {folder} --positions {table}": "--positions: ",
    "suites add mine --path {folder} --evaluation nothing": "--evaluation: ",
    "datasets add mine --text {folder}/missing.txt": "--text: ",
    "references add mine --lm-eval {harness} --suite tiny": "confirm it with --same-model",
    "references add mine --lm-eval {harness} --suite nothing": "--suite: There is no suite",
    "list --after yesterday": "--after: ",
    "list --limit 1000": "--limit: ",
    "list --page 9999999999": "--page: ",
    "explore --where gamma!": "--where gamma!: ",
    "explore --after yesterday": "--after: ",
    "submit {spec} --priority 11": "--priority: ",
    "submit {spec} --tag ok --tag {long}": "--tag: Give at most 80 characters",
    "submit {spec} --webhook nonsense": "--webhook: ",
    "submit {named}": "priority: ",
    "plan {bad}": "gammas: ",
    "tokens create {long}": "name: ",
    "tokens create laptop --days -1": "--days: ",
    "tokens create laptop --user a/b": "--user: ",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_names_the_option_that_was_typed(
    command: str, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"kind": "linear_model", "draws": 1}
    files = {
        "harness": HARNESS,
        "spec": small,
        "named": {"priority": 11, "spec": small},
        "bad": {"kind": "gaussian_perturbation", "suite": "tiny", "gammas": []},
        "table": "nonsense",
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    write_model(tmp_path / "step1", 1)
    values = {name: str(tmp_path / f"{name}.json") for name in files}
    values |= {"folder": str(tmp_path), "long": "x" * 300}
    words = [word.format(**values) for word in command.split()]
    assert main(["--url", lab.url, *words]) == 2
    said = capsys.readouterr().err
    assert COMMANDS[command] in said, said


def test_a_word_that_the_user_typed_is_not_replaced() -> None:
    names = OptionNames(command_parser().parse_args(["references", "add", "x", "--csv", "y"]))
    for message in ("cannot read /data/same_model.csv", "no suite 'same_model'", "the same_models"):
        assert names.text(message) == message
    assert names.text("give same_model.") == "give --same-model."
