"""Reference curves: reading files of other tools, errors in them, and drawing them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

from ucurve.cli import main
from ucurve.figures.published import available_curves, metrics_of, with_curves

SHARED_LAB = True
REVISIONS = ("step1000", "step4000")


def lm_eval(revision: str, perplexity: float, **config: Any) -> dict[str, Any]:
    """As lm-evaluation-harness 0.4 writes it, shortened."""
    return {
        "results": {
            "lambada_openai": {
                "alias": "lambada_openai",
                "perplexity,none": perplexity,
                "perplexity_stderr,none": 3.5,
                "acc,none": 0.25,
                "acc_stderr,none": "N/A",
            },
            "gsm8k": {
                "alias": "gsm8k",
                "exact_match,strict-match": 0.5,
                "exact_match_stderr,strict-match": 0.01,
                "sample_len": 9,
            },
        },
        "configs": {"lambada_openai": {"task": "lambada_openai"}},
        "versions": {"lambada_openai": 1.0},
        "n-shot": {"lambada_openai": 0},
        "config": {
            "model": "hf",
            "model_args": f"pretrained=EleutherAI/pythia-70m,revision={revision},dtype=float",
            **config,
        },
        "git_hash": "abc1234",
    }


def ucurve(lab: Lab, *arguments: str) -> int:
    return main(["--url", lab.url, "references", *arguments])


def test_results_of_lm_eval_become_a_curve_with_tokens_and_errors(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"results_{revision}.json" for revision in REVISIONS]
    paths[0].write_text(json.dumps(lm_eval("step1000", 1500.25)))
    as_object = {"pretrained": "EleutherAI/pythia-70m", "revision": "step4000"}
    paths[1].write_text(json.dumps(lm_eval("step4000", float("nan"), model_args=as_object)))
    assert (
        ucurve(lab, "add", "EleutherAI's", "--citation", "a paper", "--lm-eval", *map(str, paths))
        == 0
    )
    assert "5 numbers on pythia-70m, 1 not finite and skipped" in capsys.readouterr().out
    [curve] = lab.client.references("pythia-70m")
    assert curve.metrics == [
        "gsm8k/exact_match,strict-match",
        "lambada_openai/acc",
        "lambada_openai/perplexity",
    ]
    [perplexity] = [row for row in curve.rows if row.metric == "lambada_openai/perplexity"]
    assert (perplexity.revision, perplexity.tokens) == ("step1000", 2_097_152_000)
    assert (perplexity.value, perplexity.standard_error) == (1500.25, 3.5)
    assert {row.standard_error for row in curve.rows if row.metric == "lambada_openai/acc"} == {
        None
    }
    assert curve.origin.model_dump() == {
        "importer": "lm-eval",
        "files": [
            {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in paths
        ],
        "citation": "a paper",
        "model": "EleutherAI/pythia-70m",
        "num_left_out": 1,
        "notes": ["No interval for lambada_openai/acc: the files give no standard error."],
    }
    assert ucurve(lab, "add", "EleutherAI's", "--lm-eval", str(paths[0])) == 1  # as every conflict
    err = capsys.readouterr().err
    assert 'results_step1000.json is already in reference curve "EleutherAI\'s"' in err
    assert lab.client.references("pythia-70m") == [curve]
    assert ucurve(lab, "remove", "EleutherAI's") == 0
    assert lab.client.references() == []


HEADER = "checkpoint,tokens,metric,value,standard_error\n"
SECRET = "root:x:0:0:secret"


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("--csv", "checkpoint,metric,value\n", "f, line 1, column tokens: it is missing"),
        (
            "--csv",
            f"{HEADER}a,10,perplexity,1\nb,20,perplexity,{SECRET},\n",
            "f, line 3, column value: it is not a number",
        ),
        (
            "--csv",
            f"{HEADER}a,{SECRET},perplexity,1,\n",
            "f, line 2, column tokens: give an integer",
        ),
        ("--csv", f"{HEADER}a,,perplexity,1,\n", "f, line 2, column tokens: give an integer"),
        (
            "--csv",
            f"{HEADER}a,1,perplexity,1,-2\n",
            "f, line 2, column standard_error: it is not a number of at least 0",
        ),
        (
            "--csv",
            f"{HEADER}a,1,perplexity,1,\na,1,perplexity,2,\n",
            "f, line 3: this checkpoint already has this metric, at f, line 2",
        ),
        ("--csv", f"{HEADER}a,1,perplexity,1,,7\n", "f, line 2: the row does not have 5 values"),
        ("--csv", f'{HEADER}a,1,perplexity,"1\n{SECRET}', "f, line 3: this is not CSV"),
        ("--csv", HEADER, "f: the file holds a header and no rows"),
        ("--csv", SECRET, "f, line 1, column checkpoint: it is missing"),
        ("--lm-eval", f'{{"results": {SECRET}', "f, line 1, column 13: this is not JSON"),
        ("--lm-eval", f'["{SECRET}"]', 'f: there is no object "results"'),
        (
            "--lm-eval",
            '{"results": {"a": {"acc,none": 1}}}',
            "f, config.model_args: the tokens of its checkpoint are unknown",
        ),
        ("--lm-eval", "[" * 100_000, "f: this is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place_and_never_quoted(
    lab: Lab,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    content: str,
    said: str,
) -> None:
    (tmp_path / "f").write_text(content)
    assert ucurve(lab, "add", "bad", "--suite", "tiny", option, str(tmp_path / "f")) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "secret" not in err
    assert err.count("\n") == 1
    assert lab.client.references() == []


def test_an_upload_is_added_as_a_whole_or_not_at_all(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, other = tmp_path / "good.json", tmp_path / "other.json"
    good.write_text(json.dumps(lm_eval("step1000", 1500.25)))
    args = "pretrained=EleutherAI/pythia-410m,revision=step1000"
    other.write_text(json.dumps(lm_eval("step1000", 90.0, model_args=args)))
    add = ("add", "both", "--suite", "pythia-70m", "--lm-eval", str(good), str(other))
    assert ucurve(lab, *add) == 2
    err = capsys.readouterr().err
    assert "other.json, config.model_args: the numbers are about 'EleutherAI/pythia-410m'" in err
    assert lab.client.references() == []
    model = ("--same-model", "EleutherAI/pythia-410m")
    renamed = ("add", "renamed", "--suite", "pythia-70m", *model, "--lm-eval", str(other))
    assert ucurve(lab, *renamed) == 0
    # Without a suite, the files must agree on one.
    assert ucurve(lab, "remove", "renamed") == 0
    assert ucurve(lab, "add", "both", "--lm-eval", str(good), str(other)) == 2
    assert "several suites, pythia-410m, pythia-70m" in capsys.readouterr().err


def test_curves_are_searched_by_words_and_only_matching_metrics_are_shown(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.json").write_text(json.dumps(lm_eval("step1000", 1500.25)))
    (tmp_path / "two.csv").write_text(f"{HEADER}a,1,perplexity,1,\n")
    files = [str(tmp_path / name) for name in ("one.json", "two.csv")]
    assert ucurve(lab, "add", "Evaluations", "--lm-eval", files[0]) == 0
    assert ucurve(lab, "add", "table 2", "--suite", "tiny", "--csv", files[1]) == 0

    def found(text: str, suite: str | None = None) -> dict[str, list[str]]:
        return {curve.name: curve.metrics for curve in lab.client.references(suite, text)}

    assert found("LAMBADA acc") == {"Evaluations": ["lambada_openai/acc"]}
    assert found("one.json gsm8k") == {"Evaluations": ["gsm8k/exact_match,strict-match"]}
    assert found("perplexity") == {
        "Evaluations": ["lambada_openai/perplexity"],
        "table 2": ["perplexity"],
    }
    assert found("perplexity", "tiny") == {"table 2": ["perplexity"]}
    assert found("nothing") == {}
    assert len(found("evaluations")["Evaluations"]) == 3
    capsys.readouterr()
    assert ucurve(lab, "list", "lambada", "acc") == 0
    out = capsys.readouterr().out
    assert "Evaluations" in out
    assert "table 2" not in out
    for curve in lab.client.references():
        lab.client.remove_reference(curve.id)


EVALUATIONS = Path(__file__).parent / "pythia_evaluations" / "pythia-70m_zero-shot.jsonl"


def test_the_27_zero_shot_results_of_pythia_70m_are_one_curve_over_pre_training(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for line in EVALUATIONS.read_text().splitlines():
        file = json.loads(line)
        paths.append(tmp_path / Path(file["path"]).name)
        paths[-1].write_text(json.dumps(file["contents"], indent=2))
    assert ucurve(lab, "add", "Biderman et al. 2023", "--lm-eval", *map(str, paths)) == 0
    assert "54 numbers on pythia-70m" in capsys.readouterr().out
    [curve] = lab.client.references("pythia-70m")
    steps = [0, *(2**n for n in range(10)), *range(1000, 4000, 2000), *range(13000, 143001, 10000)]
    perplexities = [row for row in curve.rows if row.metric == "lambada_openai/perplexity"]
    assert [row.tokens for row in perplexities] == [step * 2_097_152 for step in steps]
    assert all((row.standard_error or 0) > 0 for row in perplexities)
    by_step = {row.revision: (row.value, row.standard_error) for row in perplexities}
    assert by_step["step3000"] == (411.658325603736, 17.894759386978997)
    assert by_step["step143000"] == (142.42891015470678, 6.043810708201551)
    assert min(by_step, key=lambda name: by_step[name][0]) == "step53000"
    experiment = lab.client.submit(
        {"kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.22], "draws": 1}
    )
    figures = lab.client.figures(experiment.id)
    drawn = with_curves(figures, [curve], [(curve.id, "lambada_openai/perplexity")])
    marks = [
        [row for rows in figure.datasets.values() for row in rows if row["what"] == "reference"]
        for figure in drawn.values()
    ]
    for row in (rows := max(marks, key=len)):
        assert row["error_low"] < row["y"] < row["error_high"]
    in_a_panel = list(dict.fromkeys(row["tokens"] for row in rows))
    assert in_a_panel == [step * 2_097_152 for step in steps]
    captions = [figure.caption for figure in drawn.values()]
    assert any("Bars: 95% intervals from the standard errors in the files." in c for c in captions)
    lab.client.cancel(experiment.id)
    lab.client.remove_reference(curve.id)


def test_a_curve_is_drawn_on_the_figures_of_its_suite_and_metric(lab: Lab, tmp_path: Path) -> None:
    revision = "seed0-step437-tokens894976"
    rows = f"{revision},,perplexity,15.5,0.25\n{revision},,lambada/perplexity,200,\n"
    rows += "later,99,perplexity,16,\n"
    (tmp_path / "paper.csv").write_text(HEADER + rows)
    assert ucurve(lab, "add", "paper", "--suite", "tiny", "--csv", str(tmp_path / "paper.csv")) == 0
    curves = lab.client.references()
    experiment = lab.client.submit(
        {"kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.21], "draws": 1}
    )
    figures = lab.client.figures(experiment.id)
    found = available_curves(curves, "tiny", metrics_of(figures), "tiny-language")
    assert {label: own for label, (_, _, own) in found.items()} == {
        "paper: perplexity": True,
        "paper (lambada): perplexity": False,
    }
    drawn = with_curves(
        figures, curves, [(id, metric) for id, metric, own in found.values() if own]
    )
    marks = {
        name: [row for rows in f.datasets.values() for row in rows if row["what"] == "reference"]
        for name, f in drawn.items()
    }
    with_marks = {name for name, rows in marks.items() if rows}
    assert with_marks == {
        name
        for name, f in figures.items()
        if f.chart.get("usermeta", {}).get("metric") == "perplexity"
    }
    assert with_marks
    for name in with_marks:
        assert {(row["tokens"], row["y"], row["label"]) for row in marks[name]} == {
            (894976, 15.5, "paper (± 0.25)"),
            (99, 16, "paper (no interval)"),
        }
        assert drawn[name].caption.endswith("No interval is known for paper.")
    assert available_curves(curves, "tiny-constant", metrics_of(figures), None) == {}
    lab.client.cancel(experiment.id)
    lab.client.remove_reference(curves[0].id)
