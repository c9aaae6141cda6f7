"""The documentation's pages and the code blocks in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
FENCE = re.compile(r"^( *)```([\w{}-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^\s*(?:\S+=\S+ )*(?:\.venv/bin/)?ucurve\b(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language, its text, and where it begins."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every hand-written page: those of docs/, and the files beside the README."""
    written = [page for page in DOCS.rglob("*.md") if "_build" not in page.parts]
    return sorted(written) + [page for page in PROJECT if page.exists()]


def blocks(page: Path) -> Iterator[Block]:
    """All code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text[: match.start()].count("\n") + 1
        yield Block(page, line, match[2], match[3])


def commands(block: Block) -> Iterator[str]:
    """The arguments of every `ucurve ...` command in a shell block, as typed."""
    joined = block.text.replace("\\\n", " ")
    for line in joined.splitlines():
        for part in re.split(r"\||&&|;", line):
            if match := PROMPT.match(part):
                yield re.split(r" # | >", match[1])[0].strip()


def notebooks() -> list[Path]:
    return sorted((DOCS / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, object]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return list(content["cells"])
