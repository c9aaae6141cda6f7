"""Sphinx configuration: `make docs` builds the documentation offline, with warnings as errors."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import reference_pages  # noqa: E402

from ucurve import __version__  # noqa: E402

project = "ucurve"
author = "The ucurve developers"
project_copyright = "2026, the ucurve developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"ucurve {__version__}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

GENERATED = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
NOTEBOOK = re.compile(r"^<!-- notebook: ([\w-]+\.ipynb) -->$", re.MULTILINE)


def notebook_as_markdown(path: Path) -> str:
    """Text cells as they are, code cells as code blocks."""
    cells = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        cells.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(cells)


def insert_generated(app: Any, docname: str, source: list[str]) -> None:
    """Replace the markers of generated pages and of notebooks."""
    source[0] = GENERATED.sub(lambda match: reference_pages.PAGES[match[1]](), source[0])
    source[0] = NOTEBOOK.sub(
        lambda match: notebook_as_markdown(HERE / "notebooks" / match[1]), source[0]
    )


def always_outdated(app: Any, env: Any, added: Any, changed: Any, removed: Any) -> list[str]:
    """Pages made from the code are built again each time."""
    return [name for name in env.found_docs if name.startswith(("reference/", "notebooks/"))]


def docstring_as_rst(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text with `code` and indented examples; make them reStructuredText."""
    result: list[str] = []
    in_code = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not in_code and (not result or not result[-1].strip()):
            result += ["::", ""]
            in_code = True
        elif line.strip() and not indented:
            if in_code:
                result.append("")
            in_code = False
        if in_code:
            result.append(line)
            continue
        parts = re.split(r"(`[^`]+`)", line.strip() if line.strip() else "")
        result.append(
            "".join(
                f"`{part}`" if index % 2 else re.sub(r"([*|_\\])", r"\\\1", part)
                for index, part in enumerate(parts)
            )
        )
    lines[:] = [*result, ""]


def setup(app: Any) -> None:
    app.connect("source-read", insert_generated)
    app.connect("env-get-outdated", always_outdated)
    app.connect("autodoc-process-docstring", docstring_as_rst)
