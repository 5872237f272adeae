"""The board as CSV. Cells that a spreadsheet would run as a formula are made inert, as in releases."""

import csv
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from apps.desk.board.reading import Board
from apps.exports.formats import neutralise
from apps.exports.selectors import iso

CELL_COLUMNS = (
    *("study", "counted_at", "locales", "quota", "kind", "cell", "is_outside", "target"),
    *("reserved", "completed", "released", "over", "expected", "earliest", "latest"),
)
FUNNEL_COLUMNS = (
    *("study", "counted_at", "locale", "link", "purpose", "opened", "consented", "eligible", "placed", "started", "completed"),
    *("at_work", "silent", "ended"),
)


def write_cells(file: TextIO, board: Board) -> None:
    """One line per cell; people outside the cells have `is_outside` true."""
    rows = (
        (
            *(board.study.slug, iso(board.counted_at), " ".join(cell.count.locales), cell.count.quota, cell.count.kind, cell.count.cell),
            *("true" if cell.count.is_outside else "false", cell.count.target),
            *(cell.count.reserved, cell.count.completed, cell.count.released, cell.count.over),
            *(cell.forecast.expected, cell.forecast.earliest, cell.forecast.latest),
        )
        for cell in board.cells()
    )
    _write(file, CELL_COLUMNS, rows)


def write_funnel(file: TextIO, board: Board) -> None:
    """One line per link and locale; `silent` and `ended` are `reason=people`, separated by `;`."""
    rows = (
        (
            *(board.study.slug, iso(board.counted_at), row.locale, row.link, row.purpose),
            *(row.opened, row.consented, row.eligible, row.placed, row.started, row.completed, row.at_work),
            *(";".join(f"{reason}={people}" for reason, people in sorted(counted.items())) for counted in (row.silent, row.ended)),
        )
        for row in board.funnel
    )
    _write(file, FUNNEL_COLUMNS, rows)


def _write(file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if value is None else neutralise(str(value)) for value in row])
