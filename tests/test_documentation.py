"""The documentation builds, covers everything the code offers, and names nothing removed."""

import doctest
import importlib
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import doc_pages
import pytest
from doc_pages import DOCS, ROOT, Block

sys.path.append(str(DOCS))
reference = importlib.import_module("reference_pages")

# Read by docker-compose.yml or by tools only, never by our processes; described in .env.example.
COMPOSE_ONLY = {
    "UCURVE_DATABASE_PASSWORD",
    "UCURVE_BROKER_PASSWORD",
    "UCURVE_PUBLIC_URL",
    "UCURVE_API_PORT",
    "UCURVE_DASHBOARD_PORT",
}
SOURCES = ("api", "dashboard", "db", "ucurve", "worker")


# ---- it builds


def test_the_documentation_builds_offline_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    build = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    for page in (tmp_path / "html").rglob("*.html"):
        loaded = re.findall(r'(?:src|<link[^>]+href)="((?:https?:)?//[^"]+)', page.read_text())
        assert not loaded, f"{page.name} loads {loaded} from the network"


def test_every_page_is_reachable_from_the_table_of_contents() -> None:
    contents = (DOCS / "index.md").read_text() + (DOCS / "decisions" / "index.md").read_text()
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS).with_suffix(""))
        if "_build" not in page.parts and name != "index" and not name.startswith("decisions/0"):
            assert re.search(rf"^{re.escape(name)}$", contents, re.MULTILINE), name


# ---- everything is described


def test_every_setting_is_described() -> None:
    missing = [
        name for name, one in reference.declared_settings().items() if not one["description"]
    ]
    assert not missing, f"settings without a description in ucurve/settings.py: {missing}"


def test_every_environment_variable_in_the_code_is_a_declared_setting() -> None:
    declared = set(reference.declared_settings()) | COMPOSE_ONLY
    files = [ROOT / "docker-compose.yml", ROOT / ".env.example", *doc_pages.pages()]
    for folder in SOURCES:
        files += (ROOT / folder).rglob("*.py")
    for file in files:
        if file.name in ("CHANGELOG.md", "LOG.md"):
            continue
        named = set(re.findall(r"\bUCURVE_[A-Z]+(?:_[A-Z]+)*\b(?!_\*)", file.read_text()))
        unknown = named - declared
        assert not unknown, f"{file.relative_to(ROOT)} names {unknown}, which no setting declares"


def test_every_command_and_argument_is_described() -> None:
    missing = []
    for words, parser in reference.commands():
        name = " ".join(words)
        missing += [] if parser.description else [name]
        missing += [
            f"{name}: {label}" for label, action in reference.arguments(parser) if not action.help
        ]
    assert not missing, "no help text for " + ", ".join(missing)


def test_every_route_and_parameter_is_described() -> None:
    missing = []
    for method, path, route in reference.routes():
        name = f"{method.upper()} {path}"
        missing += [name] if not route.get("summary") else []
        missing += [
            f"{name}: {parameter['name']}"
            for parameter in route.get("parameters", [])
            if not (parameter.get("description") or parameter["schema"].get("description"))
            and parameter["in"] != "path"
        ]
    assert not missing, "no description of " + ", ".join(missing)


def test_every_route_names_its_role() -> None:
    roles = reference.required_roles()
    for method, path, _ in reference.routes():
        assert roles[method, path], (method, path)


def test_every_spec_field_is_described() -> None:
    from ucurve.experiments import kinds

    missing = [
        f"{kind}.{name}"
        for kind, spec in kinds().items()
        for name, field in spec.model_fields.items()
        if name != "kind" and not field.description
    ]
    assert not missing, "no description of " + ", ".join(missing)


def test_every_client_method_has_a_docstring() -> None:
    from ucurve import Client

    missing = [
        name
        for name, method in inspect.getmembers(Client, callable)
        if not name.startswith("_") and not inspect.getdoc(method)
    ]
    assert not missing, "no docstring of Client." + ", ".join(missing)


# ---- what the pages name exists


def shell_blocks() -> Iterator[Block]:
    for page in doc_pages.pages():
        yield from (b for b in doc_pages.blocks(page) if b.language in ("sh", "console"))


@pytest.mark.parametrize("block", list(shell_blocks()), ids=lambda block: block.where)
def test_commands_in_the_pages_exist(block: Block) -> None:
    from ucurve.cli import command_parser

    for command in doc_pages.commands(block):
        try:
            status = 0
            command_parser().parse_args(shlex.split(command))
        except SystemExit as left:
            status = int(left.code or 0)
        assert status == 0, f"{block.where}: ucurve {command}"


def test_files_and_modules_that_pages_name_exist() -> None:
    pattern = re.compile(
        r"`((?:api|benchmarks|dashboard|db|docs|tests|ucurve|worker)/[\w./-]*\w\.(?:py|md|json|ipynb))`"
    )
    history = re.compile(r"CHANGELOG\.md|decisions/\d+")
    for page in doc_pages.pages():
        if history.search(str(page)):
            continue
        for name in pattern.findall(page.read_text()):
            if "rounding" not in name:  # the example of a new experiment type
                assert (ROOT / name).exists(), f"{page.relative_to(ROOT)} names {name}"
        for module in re.findall(r"`(ucurve\.[\w.]+)`", page.read_text()):
            assert resolves(module), f"{page.relative_to(ROOT)} names {module}"


def resolves(dotted: str) -> bool:
    """Whether `package.module.attribute` can be reached."""
    parts = dotted.split(".")
    for split in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        try:
            for name in parts[split:]:
                value = getattr(value, name)
        except AttributeError:
            return False
        return True
    return False


def test_relative_links_outside_of_the_built_pages_lead_somewhere() -> None:
    for page in [*doc_pages.PROJECT, ROOT / "LOG.md", ROOT / "benchmarks" / "README.md"]:
        text = page.read_text()
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


# ---- files beside the code


def test_the_licence_is_the_full_apache_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text.split()) > 1500
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()


def test_the_citation_names_the_version() -> None:
    import yaml

    import ucurve

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == ucurve.__version__
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"]


def test_the_changelog_keeps_its_format() -> None:
    import ucurve

    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert ucurve.__version__ in headings
    sections = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_glossary_has_thirty_words() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition("## Glossary")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|(.+?)\|(.+?)\|$", table, re.MULTILINE)
    assert len(rows) == 30
    assert all(cell.strip() for row in rows for cell in row)


def test_decisions_are_numbered_and_complete() -> None:
    files = sorted((DOCS / "decisions").glob("0*.md"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        text = file.read_text()
        assert text.startswith(f"# {int(file.name[:4])}. "), file.name
        for part in ("- Status: ", "- Date: ", "## Context", "## Decision", "## Consequences"):
            assert part in text, f"{file.name} lacks {part!r}"


def test_notebooks_are_committed_without_outputs() -> None:
    assert len(doc_pages.notebooks()) >= 2
    for notebook in doc_pages.notebooks():
        for cell in doc_pages.cells(notebook):
            assert not cell.get("outputs"), notebook.name
            assert cell.get("execution_count") is None, notebook.name


# ---- examples in docstrings


def modules_with_doctests() -> list[str]:
    files = [file for folder in SOURCES for file in (ROOT / folder).rglob("*.py")]
    return sorted(
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if any(">>> " in line and "+SKIP" not in line for line in file.read_text().splitlines())
    )


@pytest.mark.parametrize("module", [*modules_with_doctests(), "reference_pages"])
def test_examples_in_docstrings_hold(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted > 0
