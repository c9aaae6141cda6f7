"""Import rules: light parts stay light, experiments know nothing of the runtime, no cycles.

Rules about names are read from the source, rules about loaded modules from a fresh process: a
static rule "the API must not reach torch" would pass vacuously, because experiment types are
discovered at run time.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import LIGHT

ROOT = Path(__file__).parents[1]
OURS = ("api", "worker", "dashboard", "db", "ucurve")
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "safetensors",
    "tokenizers",
    "pandas",
    "altair",
    "scipy",
)

# What of ours each room may import, anywhere in a file. Modules of ucurve that are named here load
# nothing heavy.
CONTRACT = (
    "ucurve.bounds",
    "ucurve.csv_cells",
    "ucurve.experiments",
    "ucurve.spec",
    "ucurve.schemas",
    "ucurve.formatting",
    "ucurve.disk_space",
    "ucurve.logs",
    "ucurve.settings",
)
ARROWS = {
    "dashboard": (
        "dashboard",
        "ucurve.client",
        "ucurve.analysis.comparison",
        "ucurve.analysis.headline",
        "ucurve.analysis.measurement_table",
        "ucurve.analysis.reproducibility",
        "ucurve.analysis.verdict_order",
        "ucurve.figures",
        "ucurve.import_export.report",
        "ucurve.registry.suites",
        "ucurve.registry.names.token_batches",
        *CONTRACT,
    ),
    "api": ("api", "db", "worker.queue", "ucurve.registry", "ucurve.analysis", *CONTRACT),
    "worker": (
        "worker",
        "db",
        "ucurve.experiments",
        "ucurve.spec",
        "ucurve.modeling.device",
        "ucurve.logs",
        "ucurve.modeling.preload",
        "ucurve.modeling.throughput",
        "ucurve.modeling.trial",
        "ucurve.registry",
        "ucurve.schemas.measurements",
        "ucurve.disk_space",
        "ucurve.settings",
    ),
    "db": ("db", "ucurve.settings"),
    # What names say, and what files hold, for every suite.
    "ucurve/registry/names": ("ucurve.registry.names", "ucurve.bounds"),
    "ucurve/registry/tensors": ("ucurve.registry.tensors", "ucurve.bounds"),
    # It breaks a lab from outside: over REST, with signals, and in plain SQL.
    "ucurve/chaos": ("ucurve.chaos", "ucurve.client", "ucurve.lab"),
}
PACKAGE = ("ucurve.spec", "ucurve.experiments", "ucurve.schemas", "ucurve.client")
# Parts of experiment types in ucurve/experiments; none of them defines a kind.
SHARED = (
    "checkpoint_selection",
    "evaluation_fields",
    "evaluation_points",
    "fine_tuning_datasets",
    "fine_tuning_fields",
    "fine_tuning_optimisers",
    "fine_tuning_points",
    "fine_tuning_run",
    "interpolation_fields",
    "interpolation_pairs",
    "interpolation_tuned",
    "intervention_fields",
    "interventions_run",
    "noise_points",
    "pretraining_fields",
    "pretraining_run",
    "sharpness_noise",
    "tensor_choice",
    "training_fields",
    "weight_changes",
)


@dataclass(frozen=True)
class Import:
    """One imported module, and whether importing the file loads it, or nothing ever does."""

    module: str
    at_top: bool
    typing_only: bool
    where: str


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later, typing_only = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing_only |= {id(inner) for part in node.body for inner in ast.walk(part)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            later |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            source = node.module or ""
            inner = [f"{source}.{alias.name}" for alias in node.names]
            modules = [
                name if source.split(".")[0] in OURS and is_module(name) else source
                for name in inner
            ]
        else:
            continue
        for module in modules:
            yield Import(
                module,
                id(node) not in later | typing_only,
                id(node) in typing_only,
                f"{path.relative_to(ROOT)}:{node.lineno} imports {module}",
            )


def files(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"there is no {room}: this test would prove nothing"
    return found


def under(module: str, *prefixes: str) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("room", ARROWS)
def test_each_room_imports_only_what_its_arrows_allow(room: str) -> None:
    wrong = [
        found.where
        for path in files(room)
        for found in imports_of(path)
        if under(found.module, *OURS)
        and found.module != "ucurve"
        and not under(found.module, *ARROWS[room])
    ]
    assert not wrong, "\n".join(wrong)


def test_no_route_imports_a_route_and_only_main_imports_them() -> None:
    routes = files("api/routes")
    wrong = [
        found.where
        for path in files("api")
        for found in imports_of(path)
        if under(found.module, "api.routes") and path != ROOT / "api" / "main.py"
    ]
    assert len(routes) > 10, "there are fewer routes than expected: this would prove little"
    assert not wrong, "\n".join(wrong)


def kind_files() -> list[Path]:
    """The files of ucurve/experiments/ that define a kind."""
    from ucurve.experiments import kinds

    names = {kind.__module__ for kind in kinds().values()}
    return [path for path in files("ucurve/experiments") if name_of(path) in names]


def test_services_import_experiments_only_through_the_contract() -> None:
    kinds = [name_of(path) for path in kind_files()]
    wrong = [
        found.where
        for room in ("worker", "api", "dashboard")
        for path in files(room)
        for found in imports_of(path)
        if under(found.module, *kinds)
    ]
    assert not wrong, "\n".join(wrong)


def test_experiments_import_the_contract_at_the_top_and_never_each_other() -> None:
    shared = [f"ucurve.experiments.{name}" for name in SHARED]
    contract = ("ucurve.spec", "ucurve.schemas.results", "ucurve.registry.suites")
    ours = (*contract, "ucurve.formatting", "ucurve.registry.library_formats", *shared)
    light = (*ours, "pydantic", *sys.stdlib_module_names)
    runtime = ("ucurve.experiments", "api", "worker", "db", "dashboard", "ucurve.client")
    wrong = []
    for path in kind_files():
        for found in imports_of(path):
            if under(found.module, *runtime) and not under(found.module, *shared):
                wrong.append(found.where)
            elif found.at_top and not under(found.module, *light):
                wrong.append(f"{found.where} at the top")
    assert not wrong, "\n".join(wrong)


def test_tensors_are_in_one_room_that_knows_nothing_of_the_lab() -> None:
    torch_modules = [
        path
        for path in files("ucurve")
        if any(found.at_top and under(found.module, "torch") for found in imports_of(path))
    ]
    assert {path.stem for path in torch_modules} >= {"checkpoints", "perturb", "perplexity"}
    assert {path.parent.name for path in torch_modules} == {"modeling"}
    lab = ("ucurve.client", "ucurve.schemas", "ucurve.experiments", "ucurve.lab", "ucurve.spec")
    wrong = [
        found.where
        for path in files("ucurve/modeling")
        for found in imports_of(path)
        if under(found.module, *lab)
    ]
    assert not wrong, "\n".join(wrong)


def test_analysis_imports_no_charts_and_figures_import_no_experiments() -> None:
    forbidden = {
        "analysis": ("ucurve.figures", "ucurve.experiments", "altair", "vl_convert"),
        "figures": ("ucurve.experiments",),
    }
    wrong = [
        found.where
        for room, modules in forbidden.items()
        for path in files(f"ucurve/{room}")
        for found in imports_of(path)
        if under(found.module, *modules)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rooms_of_the_package_import_each_other_without_a_circle() -> None:
    """Rooms are folders and single modules of ucurve/; imports in functions count, too."""
    imports: dict[str, dict[str, str]] = {}
    for path in files("ucurve"):
        room = path.relative_to(ROOT / "ucurve").with_suffix("").parts[0]
        for found in imports_of(path):
            package, _, module = found.module.partition(".")
            other = module.partition(".")[0]
            if package == "ucurve" and not found.typing_only and other not in ("", room):
                imports.setdefault(room, {})[other] = found.where
    while leaves := {
        room for others in imports.values() for room in others if room not in imports
    } | {room for room, others in imports.items() if not others}:
        imports = {
            room: {other: where for other, where in others.items() if other not in leaves}
            for room, others in imports.items()
            if room not in leaves
        }
    assert not imports, "\n".join(w for others in imports.values() for w in others.values())


def test_nothing_of_the_package_imports_the_services() -> None:
    services = ("api", "worker", "db", "dashboard")
    wrong = [
        found.where
        for path in files("ucurve")
        for found in imports_of(path)
        if under(found.module, *services)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import api.main", (*HEAVY, "numpy", "worker.tasks")),
        ("import worker.queue", (*HEAVY, "numpy", "db", *PACKAGE, "worker.tasks")),
        (
            "import db.models, db.leases, db.submissions",
            (*HEAVY, "api", "worker", *PACKAGE, "celery", "fastapi"),
        ),
        (
            "import ucurve.experiments; assert ucurve.experiments.kinds()",
            (*HEAVY, "numpy", "httpx", "db"),
        ),
        ("import ucurve; ucurve.Client", (*HEAVY, "numpy", "sqlalchemy", "celery", "db")),
        ("import ucurve.cli", (*HEAVY, "numpy", "sqlalchemy", "celery", "db")),
    ],
)
def test_a_fresh_process_loads_nothing_heavy(code: str, absent: tuple[str, ...]) -> None:
    asked = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    loaded = json.loads(done.stdout)
    assert not [module for module in loaded if under(module, *absent)]


def test_judging_every_experiment_type_loads_no_charts_and_no_tensors() -> None:
    script = subprocess.run(
        [sys.executable, "tests/judge_every_kind.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert script.returncode == 0, script.stderr
    loaded = json.loads(script.stdout)
    assert "ucurve.analysis.fine_tuning_verdicts" in loaded, "the kinds were judged here"
    unwanted = ("altair", "vl_convert", "torch", "transformers", "ucurve.figures")
    assert not [module for module in loaded if under(module, *unwanted)]


def test_the_tests_own_api_and_dashboard_run_without_the_worker_extra() -> None:
    def imports(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=LIGHT,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=60,
        )

    assert "No module named 'torch'" in imports("import torch").stderr
    assert "No module named 'transformers'" in imports("import transformers").stderr
    assert imports("import api.main").returncode == 0
