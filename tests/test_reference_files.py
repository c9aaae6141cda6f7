"""Files of reference numbers, as tools of all ages write them: read, or refused with a remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api import reference_files
from api.reference_files import FileProblemError, ParsedFiles
from api.reference_models import CheckpointFinder
from ucurve.registry.suites import Checkpoint, Location, Suite
from ucurve.schemas.references import SentFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LAMBADA = {"lambada_openai": {"perplexity,none": 80.0, "perplexity_stderr,none": 3.0}}


def suite(name: str, root: str, *revisions: str, tokens_per_step: int = 2048) -> Suite:
    """A suite of a folder, or of a repository "owner/name"."""
    is_hub = not root.startswith("/")

    def checkpoint(revision: str) -> Checkpoint:
        step = int("".join(c for c in revision if c.isdigit()))
        path = root if is_hub else f"{root}/{revision}"
        return Checkpoint(
            suite=name,
            revision=revision,
            location=Location(
                scheme="hub" if is_hub else "path", path=path, commit=COMMIT if is_hub else None
            ),
            step=step,
            tokens=step * tokens_per_step,
        )

    return Suite(name=name, checkpoints=[checkpoint(revision) for revision in revisions])


SUITES = (
    suite("mine", "/models/mine", "step500", "step1000", "step2000"),
    suite("trainer", "/runs/a/checkpoints", "checkpoint-500", "checkpoint-1000"),
    suite("numbered", "/models/numbered", "0000500", "0001000"),
    suite("hubbed", "EleutherAI/pythia-70m", "step1000", tokens_per_step=2_097_152),
)


def harness(args: Any, results: Any = None, **document: Any) -> dict[str, Any]:
    config = {"model": "hf", "model_args": args, **document.pop("config", {})}
    return {"results": results or LAMBADA, "config": config, **document}


def read(
    *contents: Any, suite: str | None = None, importer: str = "lm-eval", same_model: str = ""
) -> ParsedFiles:
    texts = [content if isinstance(content, str) else json.dumps(content) for content in contents]
    files = [SentFile(name=f"f{place}", content=text) for place, text in enumerate(texts)]
    return reference_files.read(importer, files, CheckpointFinder(SUITES, suite, same_model))


def refused(*contents: Any, **options: Any) -> str:
    with pytest.raises(FileProblemError) as caught:
        read(*contents, **options)
    return str(caught.value)


def values(parsed: ParsedFiles) -> dict[str, float]:
    return {row.metric: row.value for row in parsed.rows}


@pytest.mark.parametrize(
    ("args", "revision"),
    [
        ("pretrained=/models/mine/step1000", "step1000"),
        ("pretrained=/models/mine/step1000/,dtype=float", "step1000"),
        ("pretrained=./mine/step1000", "step1000"),
        ("pretrained=mine/step1000/", "step1000"),
        ("pretrained=../models/mine/step1000", None),
        ("pretrained=/runs/a/checkpoints/checkpoint-500", "checkpoint-500"),
        ("pretrained=/models/mine,subfolder=step1000", "step1000"),
        ({"pretrained": "/models/mine/step1000"}, "step1000"),
        ({"pretrained": "/models/mine/step1000", "revision": None}, "step1000"),
        ('{"pretrained": "/models/mine/step1000", "revision": null}', "step1000"),
        ({"pretrained": "/models/mine", "subfolder": "step2000", "revision": "main"}, "step2000"),
        ({"pretrained": "/models/numbered", "revision": 1000}, "0001000"),
        ({"pretrained": "/models/numbered", "revision": 1000.0}, "0001000"),
        ("pretrained=/models/numbered,revision=0001000", "0001000"),
        ("pretrained=EleutherAI/pythia-70m,revision=step1000", "step1000"),
        ("pretrained=eleutherai/Pythia-70m,revision=step1000", "step1000"),
        ("use_accelerate=True,pretrained=EleutherAI/pythia-v1.1-70m,revision=step1000", "step1000"),
        (f"pretrained=EleutherAI/pythia-70m,revision={COMMIT}", "step1000"),
        (f"pretrained=/hf/models--EleutherAI--pythia-70m/snapshots/{COMMIT}", "step1000"),
        ({"iteration": 1000, "load": None, "save": "/models/mine"}, "step1000"),
    ],
)
def test_a_file_finds_its_checkpoint_however_it_names_it(args: Any, revision: str | None) -> None:
    if revision is None:  # a folder above the one where the numbers were made
        assert "'../models/mine/step1000'" in refused(harness(args))
        return
    [row] = read(harness(args)).rows
    assert (row.revision, row.value, row.standard_error) == (revision, 80.0, 3.0)


def test_the_folder_of_another_machine_is_the_suite_s_when_it_bears_its_name() -> None:
    for folder in ("/mnt/disk2/mine/step1000", r"D:\runs\mine\step1000", "/data/mine/hf/step1000"):
        [row] = read(harness(f"pretrained={folder}"), suite="mine").rows
        assert (row.revision, row.tokens) == ("step1000", 1000 * 2048)
    said = refused(harness("pretrained=/mnt/other/step1000"), suite="mine")
    assert "f0, config.model_args: the numbers are about '/mnt/other/step1000'" in said
    assert "not the model of suite 'mine' (/models/mine/step500)" in said
    # Two trainers both call their folder "checkpoints".
    assert "not the model" in refused(
        harness("pretrained=/runs/b/checkpoints/checkpoint-500"), suite="trainer"
    )


def test_numbers_of_another_model_are_asked_about_and_can_be_confirmed() -> None:
    files = [harness(f"pretrained=lab/other,revision=step{step}") for step in (1000, 4000)]
    said = refused(*files, suite="hubbed")
    assert "the numbers are about 'lab/other'" in said
    assert "suite 'hubbed' (EleutherAI/pythia-70m)" in said
    assert "confirm it with same_model" in said
    rows = read(*files, suite="hubbed", same_model="lab/other").rows
    assert [row.tokens for row in rows] == [2_097_152_000, 4 * 2_097_152_000]
    folders = [harness(f"pretrained=/x/run7/step{step}") for step in (500, 1000)]
    assert len(read(*folders, suite="mine", same_model="/x/run7/").rows) == 2
    # A folder that is registered as another suite.
    assert "not the model" in refused(harness("pretrained=/models/numbered/0001000"), suite="mine")
    assert "not the model" in refused(
        harness("pretrained=someone/pythia-70m,revision=step1000"), suite="hubbed"
    )


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        ("pretrained=/models/mine/step999", {}, "revision 'step999' of '/models/mine/step999'"),
        ("pretrained=/models/mine/step999", {}, "is not in suite 'mine', which has 'step500'"),
        ({"pretrained": "/models/mine", "revision": 77}, {}, "revision '77' of '/models/mine'"),
        ("pretrained=/nowhere/step1", {}, "no suite of this lab was registered from there"),
        ("pretrained=EleutherAI/pythia-70m", {}, "revision 'main' of 'EleutherAI/pythia-70m'"),
        ("", {"suite": "mine"}, "revision 'main' is not in suite 'mine'"),
    ],
)
def test_a_refusal_names_the_revision_that_was_looked_for_and_the_suite(
    args: Any, options: dict[str, Any], said: str
) -> None:
    assert said in refused(harness(args), **options)


def test_a_trainer_s_config_must_count_as_many_tokens_per_step_as_the_suite() -> None:
    neox = {
        "iteration": 103000,
        "save": "/fsx/pythia/ckpts/19M_dedup",
        "seq_length": 2048,
        "train_batch_size": 1024,
    }
    results = {"lambada_openai": {"ppl": 101.2631601134421, "ppl_stderr": 4.149694990737916}}
    document = {"results": results, "config": {"model": "neox", "model_args": neox}}
    assert "the numbers are about '/fsx/pythia/ckpts/19M_dedup'" in refused(
        document, suite="hubbed"
    )
    confirmed: dict[str, Any] = {"suite": "hubbed", "same_model": "/fsx/pythia/ckpts/19M_dedup"}
    [row] = read(document, **confirmed).rows
    assert (row.revision, row.tokens) == ("step103000", 103000 * 2_097_152)
    assert (row.metric, row.value) == ("lambada_openai/perplexity", 101.2631601134421)
    neox["train_batch_size"] = 2048
    said = refused(document, **confirmed)
    assert "4,194,304 tokens per step, suite 'hubbed' 2,097,152: they are two runs" in said


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"config": {"limit": 10}}, "f0, config.limit: it was made with a limit"),
        ({"config": {"limit": 0.1}}, "f0, config.limit: it was made with a limit"),
        (
            {"n-samples": {"lambada_openai": {"original": 5153, "effective": 100}}},
            "f0, n-samples: it was made with 100 of 5,153 examples",
        ),
        ({"args": ",peft=/adapters/a"}, "f0, config.model_args: it was made with peft"),
        ({"args": ",delta=lab/delta"}, "it was made with delta"),
        ({"args": ",load_in_4bit=True"}, "it was made with load_in_4bit"),
        ({"args": ",gptqmodel=True"}, "it was made with gptqmodel"),
    ],
)
def test_numbers_of_a_part_or_of_a_changed_checkpoint_are_refused(
    document: dict[str, Any], said: str
) -> None:
    args = "pretrained=EleutherAI/pythia-70m,revision=step1000" + document.pop("args", "")
    assert said in refused(harness(args, **document))


def test_arguments_that_change_nothing_are_no_reason_to_refuse() -> None:
    args = {
        "pretrained": "EleutherAI/pythia-70m",
        "revision": "step1000",
        "peft": None,
        "load_in_8bit": False,
        "delta": "None",
    }
    whole = {"lambada_openai": {"original": 5153, "effective": 5153}}
    assert len(read(harness(args, **{"n-samples": whole, "config": {"limit": None}})).rows) == 1


def test_each_seed_s_repository_has_its_own_checkpoints_in_a_suite() -> None:
    seeds = [
        checkpoint.model_copy(update={"suite": "seeds", "revision": f"{short}@step1000"})
        for short in ("pythia-14m-seed1", "pythia-14m-seed2")
        for checkpoint in suite("seeds", f"EleutherAI/{short}", "step1000").checkpoints
    ]
    finder = CheckpointFinder([Suite(name="seeds", checkpoints=seeds)], None)
    contents = [
        json.dumps(harness(f"pretrained=EleutherAI/pythia-14m-seed{seed},revision=step{step}"))
        for seed in (1, 2)
        for step in (1000, 3000)
    ]
    files = [SentFile(name=f"f{i}", content=content) for i, content in enumerate(contents)]
    rows = reference_files.read("lm-eval", files, finder).rows
    assert [(row.revision, row.tokens) for row in rows] == [
        ("pythia-14m-seed1@step1000", 2_048_000),
        ("pythia-14m-seed2@step1000", 2_048_000),
        ("pythia-14m-seed1@step3000", 3000 * 2_097_152),
        ("pythia-14m-seed2@step3000", 3000 * 2_097_152),
    ]


def test_numbers_after_pre_training_are_not_placed_by_their_count() -> None:
    said = refused(harness("pretrained=EleutherAI/pythia-70m,revision=sft-step500"))
    assert "revision 'sft-step500' of 'EleutherAI/pythia-70m' is not in suite 'hubbed'" in said


HUBBED = "pretrained=EleutherAI/pythia-70m,revision=step1000"


def test_what_is_no_metric_is_not_imported() -> None:
    new = {
        "alias": "a",
        "acc,none": 0.25,
        "acc_stderr,none": 0.01,
        "acc,flexible-extract": 0.5,
        "sample_len": 9,
        "total_seconds": 12.5,
        "name": "a",
        "is_best": True,
    }
    old = {"acc": 0.25, "acc_stderr": 0.01, "total_seconds": 1.5, "sample_len": 9, "eval_time": 2}
    assert values(read(harness(HUBBED, {"a": new, "b": old}))) == {
        "a/acc": 0.25,
        "a/acc,flexible-extract": 0.5,
        "b/acc": 0.25,
    }


def test_shots_and_versions_of_a_task_are_told_apart() -> None:
    row = {"arc_easy": {"acc,none": 0.3}}
    named = harness(HUBBED, row, **{"n-shot": {"arc_easy": 5}})
    zero = harness(HUBBED, row, **{"n-shot": {"arc_easy": 0}})
    old = harness(HUBBED, {"arc_easy": {"acc": 0.4}}, config={"num_fewshot": 10})
    task = harness(HUBBED, row, configs={"arc_easy": {"num_fewshot": 25}})
    assert set(values(read(named, zero, old, task))) == {
        "arc_easy (5-shot)/acc",
        "arc_easy/acc",
        "arc_easy (10-shot)/acc",
        "arc_easy (25-shot)/acc",
    }
    one, two = (harness(HUBBED, row, versions={"arc_easy": version}) for version in (0, 1.0))
    assert set(values(read(one, two))) == {
        "arc_easy (version 0)/acc",
        "arc_easy (version 1.0)/acc",
    }
    assert "already has this metric, at f0" in refused(zero, {**zero, "date": 1})


def test_rolling_perplexities_have_no_interval_and_it_is_said() -> None:
    rolling = {
        "word_perplexity,none": 40.0,
        "word_perplexity_stderr,none": "N/A",
        "bits_per_byte,none": 1.1,
        "bits_per_byte_stderr,none": "N/A",
    }
    parsed = read(harness(HUBBED, {"wikitext": rolling}))
    assert {row.standard_error for row in parsed.rows} == {None}
    assert parsed.notes == [
        "No interval for wikitext/bits_per_byte, wikitext/word_perplexity: lm-evaluation-harness "
        "gives rolling perplexities no standard error, with any number of bootstraps."
    ]
    assert read(harness(HUBBED)).notes == []


def test_infinity_as_mlflow_stores_it_is_not_a_number() -> None:
    clipped = "1.7976931348623157e+308"
    table = f"checkpoint,tokens,metric,value\nstep1000,,loss,{clipped}\nstep4000,,loss,9.3e18\n"
    parsed = read(table, importer="csv", suite="hubbed")
    assert values(parsed) == {"loss": 9.3e18}
    assert parsed.num_left_out == 1
    assert "1 number at the largest float left out: that is how MLflow stores infinity." in (
        parsed.notes
    )
    infinite = {"t": {"perplexity,none": float("inf"), "acc,none": -float(clipped)}}
    assert "no finite number" in refused(harness(HUBBED, infinite))


@pytest.mark.parametrize(
    ("written", "number"),
    [
        # determined-ai/determined pull request 3101, cloudfoundry-community/splunk-firehose-nozzle
        # pull request 271: numbers that JSON has not, as text
        ('"NaN"', None),
        ('"Infinity"', None),
        ('"-inf"', None),
        ("NaN", None),  # megaradrp pull request 93: as Python writes it
        ("1e99999", None),  # godotengine/godot pull request 108837: beyond every float
        ("1" + 400 * "0", None),
        ('"12.5"', 12.5),  # wandb, summaries of a run
        ('" 1.25e1 "', 12.5),
        ('"N/A"', ...),  # EleutherAI/lm-evaluation-harness, no number at all
        ("true", ...),
    ],
    ids=range(10),
)
def test_numbers_are_read_however_json_spells_them(written: str, number: Any) -> None:
    """None: a number that is not finite, counted; an ellipsis: no number."""
    document = json.dumps(harness(HUBBED, {"t": {"perplexity,none": "HERE", "acc,none": 0.5}}))
    parsed = read(document.replace('"HERE"', written))
    assert values(parsed).get("t/perplexity") == (None if number is ... else number)
    assert (values(parsed)["t/acc"], parsed.num_left_out) == (0.5, int(number is None))


@pytest.mark.parametrize("written", ["1.#INF", "N/A", "", "null", "12%", "0x10", "1_000"])
def test_cells_that_are_no_number_are_refused_with_their_place(written: str) -> None:
    """Microsoft's C library, spreadsheets, pandas and Python each have their own."""
    table = f"checkpoint,tokens,metric,value\nstep1000,,loss,{written}\n"
    message = refused(table, importer="csv", suite="hubbed")
    assert "line 2, column value: it is not a number; write it like 12.5" in message


@pytest.mark.parametrize("written", ["NAN", "+Inf", "-Infinity", "-1e400"])
def test_cells_that_are_not_finite_are_left_out_and_counted(written: str) -> None:
    table = f"checkpoint,tokens,metric,value\nstep1000,,loss,{written}\nstep4000,,loss,2\n"
    parsed = read(table, importer="csv", suite="hubbed")
    assert (values(parsed), parsed.num_left_out) == ({"loss": 2.0}, 1)


LIGHTEVAL = {
    "config_general": {
        "lighteval_sha": "494ee12",
        "max_samples": None,
        "total_evaluation_time_secondes": "3579.858985528117",
        "model_config": {"model_name": "EleutherAI/pythia-70m", "revision": "step1000"},
    },
    "results": {
        "leaderboard|arc:challenge|25": {"acc": 0.2, "acc_stderr": 0.01},
        "lighteval|arc:challenge|0|0": {"acc": 0.21, "acc_stderr": 0.01},
        "gsm8k|5": {"em": 0.1, "em_stderr": 0.02},
        "all": {"acc": 0.2, "em": 0.1},
    },
    "versions": {"gsm8k|5": 0},
}


def test_results_of_lighteval_are_read_with_their_shots() -> None:
    parsed = read(LIGHTEVAL)
    assert parsed.tool == "lighteval"
    assert values(parsed) == {
        "gsm8k (5-shot)/em": 0.1,
        "leaderboard|arc:challenge (25-shot)/acc": 0.2,
        "lighteval|arc:challenge/acc": 0.21,
    }
    older = {
        "config_general": {"model_name": "EleutherAI/pythia-70m", "model_sha": COMMIT},
        "results": {"harness|hellaswag|10": {"acc_norm": 0.3, "acc_norm_stderr": 0.004}},
    }
    [row] = read(older).rows
    assert (row.revision, row.metric) == ("step1000", "harness|hellaswag (10-shot)/acc_norm")
    text = "model_name=/models/mine/step1000,dtype=bfloat16"
    assert read({**older, "config_general": {"model_name": text}}).rows[0].revision == "step1000"
    general = LIGHTEVAL["config_general"]
    limited = {**LIGHTEVAL, "config_general": {**general, "max_samples": 10}}
    assert "f0, config_general.max_samples: it was made with a limit" in refused(limited)
    adapted = {**general, "model_config": {**general["model_config"], "adapter_weights": True}}
    assert "made with adapter_weights" in refused({**LIGHTEVAL, "config_general": adapted})


TASK = {"num_shots": 5, "limit": 1000, "primary_metric": "acc_per_char"}
METRICS = {"acc_per_char": 0.5, "primary_score": 0.5, "no_answer": 0, "extra_metrics": {"n": 1}}
MODEL = {"model": "pythia-70m", "model_path": "EleutherAI/pythia-70m", "revision": "step1000"}


def test_results_of_olmes_are_read_from_each_of_its_files() -> None:
    expected = {
        "arc_easy:rc::olmes (limit 1000) (5-shot)/acc_per_char": 0.5,
        "arc_easy:rc::olmes (limit 1000) (5-shot)/primary_score": 0.5,
    }
    summary = {
        "all_primary_scores": ["arc_easy:rc::olmes: 0.5"],
        "tasks": [{"alias": "arc_easy:rc::olmes", "metrics": METRICS, "task_config": TASK}],
        "model_config": MODEL,
    }
    flat = {
        "all_primary_scores": ["arc_easy:rc::olmes: 0.5"],
        "metrics": [
            {"task": "arc_easy:rc::olmes", **METRICS, "num_instances": 1000, "task_config": TASK}
        ],
        "model_config": MODEL,
    }
    one = {
        "task_name": "arc_easy",
        "metrics": METRICS,
        "processing_time": 12.5,
        "task_config": {**TASK, "metadata": {"alias": "arc_easy:rc::olmes"}},
        "model_config": MODEL,
    }
    other = {**one, "task_config": {"num_shots": 0, "metadata": {"alias": "piqa:rc::olmes"}}}
    for document in (summary, flat, one):
        parsed = read(document)
        assert (parsed.tool, values(parsed)) == ("olmes", expected)
        assert parsed.rows[0].revision == "step1000"
    lines = read("\n".join(map(json.dumps, (one, other))))
    assert values(lines) == {
        **expected,
        "piqa:rc::olmes/acc_per_char": 0.5,
        "piqa:rc::olmes/primary_score": 0.5,
    }
    assert "f1: it is of olmes, f0 of lighteval" in refused(LIGHTEVAL, one)


HEADER = "checkpoint,tokens,metric,value"


@pytest.mark.parametrize(
    ("table", "value"),
    [
        (f"{HEADER}\nstep1000,,perplexity,12.5\n", 12.5),
        ("Checkpoint,Tokens,METRIC,Value\nstep1000,,perplexity,12.5\n", 12.5),
        ("checkpoint;tokens;metric;value\nstep1000;;perplexity;12,5\n", 12.5),
        ("checkpoint;tokens;metric;value\nstep1000;;perplexity;12.5\n", 12.5),
        ("checkpoint;tokens;metric;value\r\nstep1000;2097152000;perplexity;1,25E1\r\n", 12.5),
        ("\ufeffCheckpoint;Tokens;Metric;Value;Stderr\nstep1000;;perplexity;12,5;0,5\n", 12.5),
        ("checkpoint\ttokens\tmetric\tvalue\nstep1000\t\tperplexity\t12,5\n", 12.5),
        ('revision,tokens,metric,value\nstep1000,,"perplexity",12.5\n', 12.5),
        (f"{HEADER}\n1000,,perplexity,12.5\n", 12.5),
        (f"{HEADER}\nstep-1000,,perplexity,12.5\n", 12.5),
    ],
)
def test_a_table_is_read_with_the_separators_and_headers_people_have(
    table: str, value: float
) -> None:
    [row] = read(table, importer="csv", suite="hubbed").rows
    assert (row.revision, row.tokens, row.value) == ("step1000", 2_097_152_000, value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "checkpoint;tokens;metric;value\nstep1000;;a;1,5\nstep4000;;a;2.5\n",
            "f0, line 2, column value: it is not a number; write it like 12.5",
        ),
        (
            "checkpoint;tokens;metric;value\nstep1000;2.097.152.000;a;1,5\n",
            "f0, line 2, column tokens: give an integer, without separators",
        ),
        (f'{HEADER}\nstep1000,,a,"1,5"\n', "f0, line 2, column value: it is not a number"),
        (
            f"{HEADER}\nstep1000,1000000,a,1.5\n",
            "column tokens: suite 'hubbed' has other tokens for this checkpoint, 2,097,152,000",
        ),
        ("step,loss\n1,2\n", "f0, line 1, column checkpoint: it is missing; the header is"),
        (
            "checkpoint,Checkpoint,tokens,metric,value\na,a,1,m,1\n",
            "f0, line 1, column checkpoint: the header has it twice",
        ),
    ],
)
def test_a_table_that_can_be_misread_is_refused_with_its_place(table: str, said: str) -> None:
    assert said in refused(table, importer="csv", suite="hubbed")


def test_files_that_hold_no_results_say_what_to_give_instead() -> None:
    assert "f0: these are single examples: give the results_*.json" in refused(
        {"doc_id": 0, "target": "signs", "acc": 1.0}
    )
    assert "or a metrics.json of OLMES" in refused({"metrics": [1]})
    assert "f1: it has the same contents as f0" in refused(harness(HUBBED), harness(HUBBED))


PHASES = {
    "sft-step100": "sft",
    "anneal-step500": "anneal",
    "lc-4k-to-32k-step-4000": "lc-4k-to-32k",
    "decay-step2000": "decay",
}


@pytest.mark.parametrize("revision", PHASES)
@pytest.mark.parametrize("importer", ["lm-eval", "csv"])
def test_a_checkpoint_after_pre_training_is_said_to_be_registered_and_why_it_has_no_place(
    revision: str, importer: str
) -> None:
    at = Location(scheme="path", path=f"/models/late/{revision}")
    phase = PHASES[revision]
    late = Checkpoint(
        suite="late", revision=revision, location=at, step=100, training_phase=phase
    )  # fmt: skip
    finder = CheckpointFinder([Suite(name="late", checkpoints=[late])], "late")
    content = json.dumps(harness(f"pretrained={at.path}"))
    if importer == "csv":
        content = f"checkpoint,tokens,metric,value\n{revision},,a/acc,0.5\n"
    with pytest.raises(FileProblemError) as caught:
        reference_files.read(importer, [SentFile(name="f", content=content)], finder)
    said = str(caught.value)
    assert f"'{revision}' is registered as training after pre-training ('{phase}')" in said
    assert "register it" not in said
    assert ("table of positions" if importer == "lm-eval" else "give an integer") in said


def test_a_phase_that_is_not_registered_is_not_asked_to_be() -> None:
    said = refused(harness("pretrained=/models/mine/sft-step7"))
    assert "is not in suite 'mine'" in said
    assert "its name says training after pre-training ('sft')" in said
    assert "register it" not in said


@pytest.mark.parametrize(
    ("content", "importer", "message"),
    [
        ({"results": {}}, "lm-eval", "f0, results: the file holds no task; looked for"),
        ({"results": {}, "config_general": {"model_name": "a/b"}}, "lm-eval", "holds no task"),
        (harness("pretrained=/models/mine/step500", {"a": {"alias": "a"}, "b": {"x": "N/A"}}),
         "lm-eval", "the file holds 2 tasks without a number"),
        ({"results": {"a": {}}}, "lm-eval", "1 task without a number"),
        ({"results": []}, "lm-eval", 'an object whose "results" are no objects of tasks'),
        ({"results": None, "x": 1}, "lm-eval", 'an object whose "results" are no objects of tasks'),
        ({}, "lm-eval", "the file holds no object"),
        ("[]", "lm-eval", "the file holds no object"),
        ("null", "lm-eval", "the file holds no object"),
        ({"a": 1, "b": 2}, "lm-eval", "the file holds an object with 2 fields"),
        ({"all_primary_scores": [], "tasks": []}, "lm-eval", "no metrics are in this file"),
        (" \n", "lm-eval", "the file is empty"),
        ("\ufeff", "csv", "the file is empty"),
        ("checkpoint,tokens,metric,value\n", "csv", "the file holds a header and no rows"),
        ("checkpoint,tokens,metric,value\na,1,b,inf\n", "csv", "1 number, none of them finite"),
    ],
)  # fmt: skip
def test_a_file_without_numbers_says_what_it_holds_and_what_was_looked_for(
    content: Any, importer: str, message: str
) -> None:
    assert message in refused(content, importer=importer)


def test_one_empty_file_among_others_is_named() -> None:
    good = harness("pretrained=/models/mine/step500")
    assert refused(good, {"results": {}}).startswith("f1, results: the file holds no task")
