"""Plots of the report pages: figures turned into coordinates. The templates draw SVG with presentation attributes only, which a strict
content security policy allows; colours come from the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from apps.generation.reporting import CoverageRow, DiversityRow

LEFT, WIDTH, RIGHT = 260, 440, 60
TOP, LINE = 30, 26


@dataclass(frozen=True)
class Mark:
    """One line of a plot, in SVG units: a range from `low` to `high`, a box within it (empty without), and a point."""

    label: str
    y: int
    low: float
    high: float
    box_from: float
    box_width: float
    point: float
    published: tuple[float, ...]
    words: str


@dataclass(frozen=True)
class Plot:
    """`ticks` are (x, label) pairs of a scale from 0 to 1."""

    width: int
    height: int
    left: int
    bottom: int
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]


def diversity_plot(rows: Sequence[DiversityRow]) -> Plot:
    """Per row: range, quartiles and median of the sets' mean pairwise similarity."""
    marks = []
    for place, row in enumerate(rows):
        least, lower, median, upper, greatest = row.similarities
        words = f"median {median:.3f}, quartiles {lower:.3f} to {upper:.3f}, range {least:.3f} to {greatest:.3f}"
        label = f"{row.recipe}, {row.language}"
        marks.append(Mark(label, _y(place), _x(least), _x(greatest), _x(lower), _x(upper) - _x(lower), _x(median), (), words))
    return _plot(marks)


def coverage_plot(rows: Sequence[CoverageRow]) -> Plot:
    """Per row and pole: the share with its interval, and the published shares of the pole where there are any."""
    marks: list[Mark] = []
    for row in rows:
        for share in row.shares:
            published = tuple(_x(value) for value in share.published or ())
            words = f"{share.share:.0%}, interval {share.low:.0%} to {share.high:.0%}"
            label = f"{row.recipe}, {row.language}: {share.pole.name}"
            marks.append(Mark(label, _y(len(marks)), _x(share.low), _x(share.high), 0, 0, _x(share.share), published, words))
    return _plot(marks)


def _plot(marks: Sequence[Mark]) -> Plot:
    bottom = TOP + LINE * len(marks)
    ticks = tuple((_x(tenth / 10), f"{tenth / 10:g}") for tenth in range(0, 11, 2))
    return Plot(LEFT + WIDTH + RIGHT, bottom + 10, LEFT, bottom, ticks, tuple(marks))


def _x(value: float) -> float:
    return round(LEFT + WIDTH * value, 1)


def _y(place: int) -> int:
    return TOP + LINE * place + LINE // 2
