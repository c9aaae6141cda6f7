"""Print tables so that they can be read and copied: in a pipe, a wide and a narrow terminal.

    show(table)    # numbers right, names in one piece, prose wrapped between words

Where a terminal is too narrow for that, every row is printed as lines "column  value".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

NUMBER = re.compile(r"[-+]?[\d,.]+%?(/[\d,]+)?")
PROSE = 24  # width from which a column of several words is wrapped
MIN_PROSE = 16  # width that such a column needs
GAP = 2


def table_of(*columns: str) -> Table:
    """Return an empty table without borders."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show(table: Table) -> None:
    """Print a table; into a pipe at full width, without blanks at the ends of lines."""
    print("\n".join(table_lines(table)))


def table_lines(table: Table, console: Console | None = None) -> list[str]:
    """Return the lines of a table as they fit the terminal; all of it where there is none."""
    console = console or Console(markup=False, emoji=False, highlight=False)
    widths = [max(map(cell_len, _texts(column))) for column in table.columns]
    prose = [_is_prose(column, width) for column, width in zip(table.columns, widths, strict=True)]
    if not console.is_terminal:
        return _aligned(console, table, sum(widths) + GAP * len(widths))
    needed = [
        min(width, MIN_PROSE) if wraps else width
        for width, wraps in zip(widths, prose, strict=True)
    ]
    if sum(needed) + GAP * (len(needed) - 1) > console.width:
        return list(_records(table))
    for column, wraps in zip(table.columns, prose, strict=True):
        column.no_wrap = not wraps
    return _aligned(console, table, console.width)


def _aligned(console: Console, table: Table, width: int) -> list[str]:
    for column in table.columns:
        if all(NUMBER.fullmatch(text) for text in _texts(column)[1:] if text):
            column.justify = "right"
    rendered = console.render_lines(table, console.options.update(width=width), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in rendered]


def _texts(column: Column) -> list[str]:
    return [str(column.header), *map(str, column.cells)]


def _is_prose(column: Column, width: int) -> bool:
    return width > PROSE and any(" " in text for text in _texts(column))


def _records(table: Table) -> Iterator[str]:
    """Yield the rows as lines: the first cell, then every other one that is not empty."""
    names = [str(column.header) for column in table.columns]
    indent = max(map(cell_len, names), default=0)
    for cells in zip(*(_texts(column)[1:] for column in table.columns), strict=True):
        yield f"{names[0]} {cells[0]}"
        for name, cell in zip(names[1:], cells[1:], strict=True):
            if cell:
                yield f"  {name:<{indent}}  {cell}"
