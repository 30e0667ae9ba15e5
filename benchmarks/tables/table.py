"""One value for every table, and its forms: Markdown for the pages, a terminal's, HTML in `page.html.j2`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import rich.table
from rich.markup import escape


@dataclass(frozen=True)
class Row:
    """One cell a heading; where there are fewer, the last one takes the rest of the row. `ours`: stands out."""

    cells: tuple[str, ...]
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """`notes`: one paragraph each, below the table. `words`: headings of columns that hold text, beside the first."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def is_text(self, place: int) -> bool:
        """Whether a column is aligned to the left."""
        return place == 0 or self.headings[place] in self.words


def table_of(
    things: Iterable[Mapping[str, Any]],
    columns: Mapping[str, Callable[[Any], str]],
    *notes: str,
    words: tuple[str, ...] = (),
) -> Table:
    """A row a thing; `columns`: heading -> the cell of a thing."""
    rows = tuple(Row(tuple(cell(each) for cell in columns.values()), each.get("ours", False)) for each in things)
    return Table(tuple(columns), rows, notes, words)


def markdown(table: Table) -> str:
    """GitHub's kind of table, with the notes below it. What would be markup in a cell or note is escaped."""
    lines = [
        "| " + " | ".join(table.headings) + " |",
        "|" + "|".join("---" if table.is_text(place) else "--:" for place in range(len(table.headings))) + "|",
    ]
    for row in table.rows:
        cells = [_plain(cell) for cell in row.cells] + [""] * (len(table.headings) - len(row.cells))
        if row.ours:
            cells[0] = f"**{cells[0]}**"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *(line for note in table.notes for line in ("", _plain(note)))])


def terminal(table: Table) -> rich.table.Table:
    """A table of rich, without the notes."""
    made = rich.table.Table(padding=(0, 0, 0, 1))
    for place, heading in enumerate(table.headings):
        made.add_column(
            heading,
            justify="left" if table.is_text(place) else "right",
            overflow="fold",
            ratio=None if place else 1,
        )
    for row in table.rows:
        made.add_row(*map(escape, row.cells), style="bold" if row.ours else None)
    return made


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
