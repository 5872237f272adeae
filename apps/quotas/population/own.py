"""A researcher's own table from CSV."""

import csv
import io
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from apps.core.text import clean_text
from apps.quotas.population.tables import Stratum, Table, TableRefused, overlaps, rounded_targets

MAX_LINES = 5000
_UNITS = 10**8  # shares are stored with eight decimals


def read_own_table(text: str, *, key: str, country: str, year: str = "", source: str = "", note: str = "") -> Table:
    """The table of a CSV text with the columns `stratum`, `share` or `count`, and one column per question.

    `share` holds proportions that sum to 1 (± 0.001) or percentages that sum to 100 (± 0.1); `count` holds people. A
    question's column lists the options or strata that fall in the line, separated by `|`; empty: the question does not matter.
    Raises `TableRefused` with every problem and its line.
    """
    try:
        reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline=""), strict=True)
        columns = [clean_text(name or "") for name in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise TableRefused([f"expected a CSV table: {error}"]) from error
    figures = [name for name in ("share", "count") if name in columns]
    problems = []
    if "stratum" not in columns:
        problems.append("line 1: expected a column `stratum`")
    if len(figures) != 1:
        problems.append("line 1: expected one column `share` or `count`")
    if len(set(columns)) < len(columns) or "" in columns:
        problems.append("line 1: expected each column once, with a name")
    questions = [name for name in columns if name not in {"stratum", "share", "count"}]
    if not questions:
        problems.append("line 1: expected a column per question, named by its code")
    if not rows or len(rows) > MAX_LINES:
        problems.append(f"expected 1 to {MAX_LINES} lines below the first, found {len(rows)}")
    if problems:
        raise TableRefused(problems)
    return _table(rows, questions, figures[0], Table(key, country, key, year, "", source, note, ()))


def _table(rows: list[tuple[int, dict[str, str]]], questions: list[str], figure: str, table: Table) -> Table:
    problems: list[str] = []
    lines: dict[str, int] = {}
    strata: list[tuple[str, Decimal, dict[str, list[str]]]] = []
    asked: list[tuple[int, dict[str, list[str]]]] = []
    for line, row in rows:
        if None in row or None in row.values():
            problems.append(f"line {line}: expected as many values as the first line has columns")
            continue
        name = clean_text(row["stratum"])
        if not name or len(name) > 120:
            problems.append(f"line {line}, stratum: expected a name of at most 120 characters")
        elif lines.setdefault(name, line) != line:
            problems.append(f"line {line}, stratum: “{name}” stands on line {lines[name]} already")
        wanted = {question: [code.strip() for code in row[question].split("|") if code.strip()] for question in questions}
        wanted = {question: codes for question, codes in wanted.items() if codes}
        if not wanted:
            problems.append(f"line {line}: expected options of at least one question")
        asked.append((line, wanted))
        number = _number(row[figure])
        if number is None or (figure == "count" and number != int(number)):
            problems.append(f"line {line}, {figure}: expected a number of at least 0, found “{row[figure].strip()[:40]}”")
            continue
        strata.append((name, number, wanted))
    for first, second in overlaps([wanted for _, wanted in asked]):
        problems.append(f"line {asked[second][0]}: expected strata that share nobody; this one overlaps with line {asked[first][0]}")
    if problems:
        raise TableRefused(problems)
    _check_sum(sum((number for _, number, _ in strata), Decimal(0)), figure)
    units = rounded_targets([number for _, number, _ in strata], _UNITS)
    shares = (Stratum(name, Decimal(share) / _UNITS, wanted) for share, (name, _, wanted) in zip(units, strata, strict=True))
    return replace(table, strata=tuple(shares))


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number < 10**10 else None


def _check_sum(total: Decimal, figure: str) -> None:
    if figure == "count":
        if total <= 0:
            raise TableRefused(["count: expected people, found 0 in all lines"])
    elif abs(total - 1) > Decimal("0.001") and abs(total - 100) > Decimal("0.1"):
        raise TableRefused([f"share: expected a sum of 1 (± 0.001) or of 100 percent (± 0.1), found {total}"])
