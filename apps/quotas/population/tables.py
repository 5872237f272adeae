"""What a population table is, and the one rule by which its shares become whole people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from apps.core.errors import DomainError


class TableRefused(DomainError):
    """A table cannot be read. `extra["problems"]` lists everything found, each with its line."""

    code = "population_table_refused"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems), problems=problems)


@dataclass(frozen=True)
class Stratum:
    """One line of a table. `strata` maps question codes to the options that fall in it; empty where no question tells."""

    key: str
    share: Decimal
    strata: dict[str, list[str]]


@dataclass(frozen=True)
class Table:
    """The shares of the strata of one dimension in one country, with where they come from."""

    key: str
    country: str
    dimension: str
    year: str
    grade: str
    source: str
    note: str
    strata: tuple[Stratum, ...]

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions that tell the strata apart, in their order; empty where some stratum cannot be told."""
        if not all(stratum.strata for stratum in self.strata):
            return ()
        return tuple(dict.fromkeys(question for stratum in self.strata for question in stratum.strata))

    def targets(self, total: int) -> list[int]:
        return rounded_targets([stratum.share for stratum in self.strata], total)


def overlaps(strata: Sequence[Mapping[str, Sequence[str]]]) -> Iterator[tuple[int, int]]:
    """(earlier, later) places of strata that one person can fall in both; for each later one the first such earlier one.

    Two strata overlap where their options meet in every question that both name; one without questions is left aside.
    Sets of strata are bits of whole numbers, since a table may have thousands of lines.
    """
    earlier = 0
    named: dict[str, int] = {}
    listing: dict[tuple[str, str], int] = {}
    for place, stratum in enumerate(strata):
        if not stratum:
            continue
        meeting = earlier
        for question, codes in stratum.items():
            listed = ~named.get(question, 0)
            for code in codes:
                listed |= listing.get((question, code), 0)
            meeting &= listed
        if meeting:
            yield (meeting & -meeting).bit_length() - 1, place
        here = 1 << place
        earlier |= here
        for question, codes in stratum.items():
            named[question] = named.get(question, 0) | here
            for code in codes:
                listing[question, code] = listing.get((question, code), 0) | here


def rounded_targets(shares: Sequence[Decimal], total: int) -> list[int]:
    """`total` people by `shares`, by largest remainder: the sum is exactly `total`.

    Every share gets its whole people; those left go one each to the largest remainders, ties to the earlier line.
    Shares that do not quite sum to 1 are taken in proportion. Raises `ValueError` where they sum to nothing.
    """
    whole = sum((Fraction(share) for share in shares), Fraction(0))
    if whole <= 0:
        raise ValueError("shares sum to nothing")
    exact = [Fraction(share) * total / whole for share in shares]
    targets = [int(people) for people in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: targets[place] - exact[place])
    for place in by_remainder[: total - sum(targets)]:
        targets[place] += 1
    return targets
