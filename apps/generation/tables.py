"""What the reports share: finding the study, tables for a terminal, and the diversity table as CSV."""

import csv
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from apps.generation.reporting import DiversityRow, UnreadyArm
from apps.studies.models import Study

DIVERSITY_COLUMNS = [
    "recipe", "language", "locales", "sets", "measure", "mean_similarity", "similarity_sd", "distinct_1", "distinct_2",
    "words_sd", "length_ratio", "highest_length_ratio",
]  # fmt: skip


def find_study(slug: str) -> Study:
    """Raises `CommandError` that names the studies there are."""
    study = Study.objects.filter(slug=slug).first()
    if study is None:
        known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none; load one with manage.py load_study"
        raise CommandError(f"There is no study {slug!r}. Studies: {known}.")
    return study


def print_table(out: Any, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns padded to their longest cell, two spaces apart."""
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        out.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def share_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def write_diversity_csv(file: Any, rows: Sequence[DiversityRow], unready: Sequence[UnreadyArm]) -> None:
    """Write the table to an open text file or a response."""
    writer = csv.writer(file)
    writer.writerow(DIVERSITY_COLUMNS)
    writer.writerows(diversity_table(rows, unready))


def diversity_table(rows: Sequence[DiversityRow], unready: Sequence[UnreadyArm]) -> list[list[str]]:
    """The cells of `DIVERSITY_COLUMNS`; an arm without a ready set has 0 sets and no figures."""
    without = [[arm.recipe, arm.language, " ".join(arm.locales), "0"] for arm in unready]
    none = [share_text(None)] * (len(DIVERSITY_COLUMNS) - 4)
    return [*(diversity_cells(row) for row in rows), *(cells + none for cells in without)]


def diversity_cells(row: DiversityRow) -> list[str]:
    return [
        row.recipe,
        row.language,
        " ".join(row.locales),
        str(row.sets),
        row.measure,
        share_text(row.mean_similarity),
        share_text(row.deviation),
        share_text(row.distinct_1),
        share_text(row.distinct_2),
        f"{row.length_deviation:.1f}",
        f"{row.length_ratio:.2f}",
        f"{row.highest_length_ratio:.2f}",
    ]
