"""The shipped tables. See README.md for their sources, grades and gaps."""

import csv
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path

from apps.quotas.population.tables import Stratum, Table

_FOLDER = Path(__file__).parent


@cache
def builtin_tables() -> dict[str, Table]:
    """Key (“FR/age_gender”) → table, in the order of the file."""
    strata: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for row in _rows("strata.csv"):
        strata.setdefault((row["country"], row["dimension"], row["stratum"]), {})[row["question"]] = row["codes"].split()
    grades = {(row["country"], row["dimension"]): row["grade"] for row in _rows("grades.csv")}
    lines: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in _rows("population.csv"):
        lines.setdefault((row["country"], row["dimension"]), []).append(row)
    return {
        f"{country}/{dimension}": Table(
            key=f"{country}/{dimension}",
            country=country,
            dimension=dimension,
            year=_once(rows, "year"),
            grade=grades[country, dimension],
            source=_once(rows, "source"),
            note=_once(rows, "note"),
            strata=tuple(
                Stratum(row["stratum"], Decimal(row["share"]), strata.get((country, dimension, row["stratum"]), {})) for row in rows
            ),
        )
        for (country, dimension), rows in lines.items()
    }


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_FOLDER / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _once(rows: list[dict[str, str]], column: str) -> str:
    return "; ".join(dict.fromkeys(row[column] for row in rows if row[column]))
