"""The comparison of sample and population as rows of text, for files and terminals, and as a chart."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apps.core.text import neutralise
from apps.quality.selectors import Compared, SetComparison, TableComparison

COLUMNS = [
    "locales", "table", "year", "grade", "source", "stratum", "target_share", "all", "all_share", "completed", "completed_share",
    "difference_points", "balanced", "balanced_share", "weighted_share", "is_small",
]  # fmt: skip


def comparison_rows(sets: Sequence[SetComparison]) -> Iterator[list[str]]:
    """The rows of every table, in the order of `COLUMNS`."""
    for each in sets:
        for compared in each.tables:
            yield from table_rows(compared)


def table_rows(compared: TableComparison) -> Iterator[list[str]]:
    """One row per stratum, and one for the people in none; an empty cell is a figure that there is none of."""
    table = compared.table
    facts = [" ".join(compared.locales), table.key, table.year, table.grade, table.source]
    for row in compared.rows:
        yield [*facts, row.stratum, *_figures(row)]
    yield [*facts, "(not known)", "", str(compared.unknown_all), "", str(compared.unknown_completed), *[""] * 6]


def write_comparison_csv(file: Any, sets: Sequence[SetComparison]) -> None:
    """Write the rows to an open text file or a response. No cell runs as a formula."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([neutralise(cell) if column < 6 else cell for column, cell in enumerate(row)] for row in comparison_rows(sets))


def _figures(row: Compared) -> list[str]:
    return [
        _share(row.target),
        str(row.all),
        _share(row.all_share),
        str(row.completed),
        _share(row.completed_share),
        "" if row.difference is None else f"{row.difference:.2f}",
        "" if row.balanced is None else str(row.balanced),
        _share(row.balanced_share),
        _share(row.weighted_share),
        "yes" if row.is_small else "no",
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


# --- The chart: SVG with presentation attributes only, which a strict content security policy allows ---

LEFT, WIDTH, RIGHT, TOP, LINE = 200, 440, 60, 30, 26


@dataclass(frozen=True)
class Bar:
    """One stratum in SVG units: a bar for the people who completed, a mark for the target, a ring for the weighted share."""

    label: str
    y: int
    width: float
    target: float
    weighted: float | None
    words: str


@dataclass(frozen=True)
class Chart:
    """`ticks` are (x, label) pairs."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    left: int
    width: int
    height: int


def chart_of(compared: TableComparison) -> Chart:
    """Sample beside target, on a scale that ends at the next ten per cent."""
    shares = [share for row in compared.rows for share in (row.target, row.completed_share, row.weighted_share) if share is not None]
    tenths = max(int(max(shares, default=0.0) * 10 - 1e-9) + 1, 1)

    def x(share: float) -> float:
        return round(WIDTH * share * 10 / tenths, 1)

    bars = [
        Bar(
            label=row.stratum,
            y=TOP + LINE * place,
            width=x(row.completed_share or 0.0),
            target=LEFT + x(row.target),
            weighted=None if row.weighted_share is None else LEFT + x(row.weighted_share),
            words=f"{100 * (row.completed_share or 0.0):.1f} % of {row.target * 100:.1f} %",
        )
        for place, row in enumerate(compared.rows)
    ]
    ticks = tuple((LEFT + x(tenth / 10), f"{tenth * 10} %") for tenth in range(tenths + 1))
    return Chart(tuple(bars), ticks, LEFT, LEFT + WIDTH + RIGHT, TOP + LINE * len(bars) + 8)
