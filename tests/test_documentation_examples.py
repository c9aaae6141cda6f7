"""The examples of the documentation run on a real lab: Python and sh blocks, and notebooks.

Blocks marked `python` or `sh` are executed, page by page and in order; `console` blocks are only
parsed (tests/test_documentation.py), because they show placeholders or start services.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doc_pages
import pytest
from conftest import Lab
from doc_pages import DOCS, ROOT
from in_process import Context
from test_kinds import Catalogue

NUM_WORKERS = 2
SECONDS = 600

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def environment(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The lab's address, and `ucurve` on the PATH."""
    bin_folder = str(Path(sys.executable).parent)
    changes = {"UCURVE_URL": lab.url, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            patch.setenv(name, value)
        patch.delenv("UCURVE_TOKEN", raising=False)
        yield {**os.environ, **changes}


def pages_with_examples() -> list[Path]:
    """The quickstart first: it submits experiment 1, which later pages look at."""
    found = [
        page
        for page in doc_pages.pages()
        if any(block.language in ("sh", "python") for block in doc_pages.blocks(page))
    ]
    return sorted(found, key=lambda page: (page != DOCS / "quickstart.md", page))


@pytest.mark.parametrize(
    "page", pages_with_examples(), ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_examples_of_a_page_run(
    page: Path, lab: Lab, environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    if not lab.client.experiments().experiments:  # this page alone was selected
        spec = {"kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.2], "draws": 5}
        lab.client.wait(lab.client.submit(spec).id)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in doc_pages.blocks(page):
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), namespace)
        elif block.language == "sh":
            shell = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert shell.returncode == 0, f"{block.where}\n{shell.stdout}\n{shell.stderr}"


def test_the_example_of_a_new_experiment_type_measures(tmp_path: Path) -> None:
    page = DOCS / "how-to" / "add-an-experiment-type.md"
    source = next(b for b in doc_pages.blocks(page) if b.language == "python")
    (tmp_path / "rounding.py").write_text(source.text)
    namespace: dict[str, Any] = {"__name__": "rounding"}
    exec(compile(source.text, source.where, "exec"), namespace)
    kind = namespace["Rounding"]
    kind.model_rebuild(_types_namespace=namespace)
    points = list(kind(bits=[3]).plan(Catalogue()))
    assert len(points) == 20
    context = Context(tmp_path)
    base, rounded = (kind.run(point, context).metrics["nll_mean"] for point in points[:2])
    again = kind.run(points[0], context).metrics["nll_mean"]
    assert rounded > base
    assert again == base, "the weights were not restored"


@pytest.mark.parametrize("notebook", doc_pages.notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, environment: dict[str, str], tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    client = NotebookClient(
        content,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in content.cells for output in cell.get("outputs", [])
    )
    if notebook.stem == "worked-example":
        assert "tiny: yes" in printed
        assert "tiny-constant: undetermined" in printed
        constant = printed.partition("tiny-constant: ")[2]
        assert "Yes with noise relative to current weights" in constant
        assert "growth of the weights may explain the effect" in constant
    if notebook.stem == "suite-to-figure":
        written = {path.name for path in tmp_path.iterdir()}
        assert {"figure-1.pdf", "figure-1-bare.pdf", "figure-1.csv"} <= written
