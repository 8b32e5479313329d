"""Calm tables on stdout for people: no frames, no animation, colour only for a status and only on a terminal."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 500
"""Wider than any row: an id is never cut or folded; a narrow terminal wraps lines by itself."""

_COLOURS = {"succeeded": "green", "failed": "red", "canceled": "red", "parked": "yellow", "unknown": "yellow"}


def write_table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Write rows in columns, which a header may name."""
    table = Table(box=None, pad_edge=False, show_header=bool(header), header_style="bold", padding=(0, 2, 0, 0))
    for name in header:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell), _COLOURS.get(cell, "")) for cell in row))
    console = Console(file=sys.stdout, width=WIDTH, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor or change its colours."""
    return "".join(ch if ch.isprintable() else "�" for ch in text)
