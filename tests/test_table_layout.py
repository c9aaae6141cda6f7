"""Tables of the command line can be read in every terminal, and cut up in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from ucurve.cli.table_layout import table_lines, table_of

LONG = "pythia-6.9b-deduped-continued-on-code-with-a-very-long-name"
PROSE = "EleutherAI/pythia-6.9b-deduped: 154 checkpoints on the Pile, without duplicates"


def suites() -> Table:
    table = table_of("name", "checkpoints", "tokens", "description")
    table.add_row("tiny", "30", "2.1M to 62.9M", "five seeds [bold]")
    table.add_row(LONG, "1,154", "2.1M to 323M", PROSE)
    table.add_row("模型", "2", "", "")
    return table


def lines(width: int | None) -> list[str]:
    console = Console(
        width=width, file=io.StringIO(), force_terminal=width is not None, markup=False
    )
    return table_lines(suites(), console)


def test_a_pipe_gets_a_line_per_row_without_blanks_at_its_end() -> None:
    header, *rows = lines(None)
    assert len(rows) == 3
    assert all(line == line.rstrip() for line in (header, *rows))
    assert rows[1].endswith(PROSE)
    assert rows[0].endswith("five seeds [bold]"), "brackets are text, no markup"
    counts = ("30", "1,154", "2")
    ends = {
        cell_len(row[: row.index(num) + len(num)]) for row, num in zip(rows, counts, strict=True)
    }
    assert ends == {len("checkpoints") + header.index("checkpoints")}, "numbers are aligned"


@pytest.mark.parametrize("width", [200, 130, 120])
def test_a_terminal_wraps_prose_between_words_and_leaves_names_whole(width: int) -> None:
    shown = lines(width)
    assert max(map(cell_len, shown)) <= width
    assert shown[0].split() == ["name", "checkpoints", "tokens", "description"]
    assert sum(LONG in line for line in shown) == 1
    assert "checkpoints" in " ".join(shown).split(LONG)[1]


@pytest.mark.parametrize("width", [100, 80, 40, 20])
def test_a_narrow_terminal_shows_every_row_as_lines(width: int) -> None:
    assert lines(width) == [
        "name tiny",
        "  checkpoints  30",
        "  tokens       2.1M to 62.9M",
        "  description  five seeds [bold]",
        f"name {LONG}",
        "  checkpoints  1,154",
        "  tokens       2.1M to 323M",
        f"  description  {PROSE}",
        "name 模型",
        "  checkpoints  2",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    empty = table_of("name", "kind")
    assert table_lines(empty, Console(width=80, file=io.StringIO())) == ["name  kind"]
