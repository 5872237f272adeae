"""`manage.py representativeness STUDY [--csv FILE]`."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.quality.selectors import SetComparison, representativeness
from apps.quality.tables import COLUMNS, table_rows, write_comparison_csv
from apps.studies.models import Study

_SHOWN = [name for name in COLUMNS if name not in {"locales", "source", "table", "year", "grade"}]


class Command(BaseCommand):
    help = "Put the sample of a study beside the population: shares per stratum, balanced subset, weights."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("study", help="slug of the study")
        parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures to a CSV file instead")

    def handle(self, *, study: str, csv: Path | None, **options: Any) -> None:
        found = Study.objects.filter(slug=study).first()
        if found is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no study “{study}”; known studies: {known}.")
        sets = representativeness(found)
        if csv is None:
            for each in sets:
                self._print(each)
            return
        try:
            with csv.open("w", encoding="utf-8", newline="") as file:
                write_comparison_csv(file, sets)
        except OSError as error:
            raise CommandError(f"{csv} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"Written to {csv}.")

    def _print(self, each: SetComparison) -> None:
        line = f"{', '.join(each.locales)}: {each.people} admitted, {each.completed} completed"
        if each.weights is not None:
            line += f", {each.balanced} in the balanced subset; effective size of the weighted sample {each.weights.effective_size:.1f}"
        self.stdout.write(line)
        for compared in each.tables:
            table = compared.table
            self.stdout.write(f"\n{table.key} ({table.year or 'no year'}, grade {table.grade or 'none'}): {table.source}")
            rows = [dict(zip(COLUMNS, row, strict=True)) for row in table_rows(compared)]
            cells = [_SHOWN, *([row[name] or "–" for name in _SHOWN] for row in rows)]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            for row in cells:
                self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        self.stdout.write("")
