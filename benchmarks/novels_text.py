"""Prepare the English that the built-in suite `novels` is trained and evaluated on.

    pip install rdata==1.1.0
    python benchmarks/novels_text.py janeaustenr_1.0.0.tar.gz -o novels-training.txt

The archive is release 1.0.0 of the R package janeaustenr, from CRAN, or from Debian as
r-cran-janeaustenr_1.0.0.orig.tar.gz: Jane Austen's novels as Project Gutenberg transcribed them.
The output has four novels to train on, joined by the separator of documents; `--held-out FILE` also
writes the evaluation text, the first chapters of a fifth. Nothing is written unless each has the
SHA-256 that is recorded in ucurve/builtin.

Only the novels' own words are kept: title pages, notes of editors and printers, and the marks of
italics are left out, and every paragraph becomes one line.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BUILTIN = Path(__file__).parents[1] / "ucurve" / "builtin"
SOURCE = json.loads((BUILTIN / "suites" / "novels" / "text.json").read_text())
TRAINING = ("sensesensibility", "prideprejudice", "mansfieldpark", "emma")
HELD_OUT = "persuasion"
HELD_OUT_CHAPTERS = 6
EVALUATION = "novels-held-out"
END_OF_TEXT = "<|endoftext|>"
HEADING = re.compile(r"(?:CHAPTER|Chapter|VOLUME) (?:[0-9]+|[IVXL]+)")
LAST_WORDS = ("THE END", "FINIS", "Finis")
# Notes of editions: where a volume ended, and who printed it.
NOTE = re.compile(r"\[(?:At this point|End volume)[^\]]*\]")


def paragraphs(lines: Sequence[str]) -> list[str]:
    """Return the paragraphs of a novel, from its first heading to before its last words."""
    first = next(i for i, line in enumerate(lines) if HEADING.fullmatch(line.strip()))
    text = NOTE.sub("", "\n".join(line.rstrip() for line in lines[first:])).replace("_", "")
    blocks = [" ".join(block.split()) for block in re.split(r"\n{2,}", text)]
    return [b for b in blocks if b and b not in LAST_WORDS and b.strip("* ")]


def chapters(novel: Sequence[str], number: int) -> list[str]:
    """Return the paragraphs of the first `number` chapters."""
    starts = [i for i, paragraph in enumerate(novel) if HEADING.fullmatch(paragraph)]
    return list(novel[: starts[number]])


def read_novel(archive: bytes, name: str) -> list[str]:
    """Return the lines of a novel in the archive of the R package."""
    import rdata

    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        member = files.extractfile(f"janeaustenr/data/{name}.rda")
        assert member, f"the archive has no {name}"
        return [str(line) for line in rdata.read_rda(member)[name]]


def training_text(archive: bytes) -> str:
    """Return the novels to train on, a paragraph per line."""
    novels = (paragraphs(read_novel(archive, name)) for name in TRAINING)
    return END_OF_TEXT.join("\n".join(novel) + "\n" for novel in novels)


def held_out_text(archive: bytes) -> str:
    """Return the chapters to evaluate on, a paragraph per line."""
    return "\n".join(chapters(paragraphs(read_novel(archive, HELD_OUT)), HELD_OUT_CHAPTERS)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--held-out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    archive = arguments.archive.read_bytes()
    expect(f"{arguments.archive} ({SOURCE['archive']['name']})", archive, SOURCE["archive"])
    content = training_text(archive).encode()
    expect("the training text", content, SOURCE)
    arguments.output.write_bytes(content)
    if arguments.held_out:
        sets = json.loads((BUILTIN / "datasets.json").read_text())
        content = held_out_text(archive).encode()
        expect("the evaluation text", content, next(s for s in sets if s["name"] == EVALUATION))
        arguments.held_out.write_bytes(content)


def expect(name: str, content: bytes, recorded: Mapping[str, Any]) -> None:
    """Stop unless the content has the SHA-256 that is recorded."""
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != recorded["sha256"]:
        sys.exit(f"{name} has SHA-256 {sha256} instead of {recorded['sha256']}")


if __name__ == "__main__":
    main()
