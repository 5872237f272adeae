"""`manage.py diversity_report STUDY`: how different the candidates of a study are, before anyone has judged them."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from apps.generation.reporting import OFFLINE_WARNING, UnreadyArm, diversity_rows, ready_sets, speaks_offline, unready_arms
from apps.generation.tables import DIVERSITY_COLUMNS, diversity_table, find_study, print_table, write_diversity_csv


class Command(BaseCommand):
    help = "Mean pairwise similarity, distinct-1 and distinct-2, and the spread of lengths, per recipe and language."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="Slug of the study.")
        parser.add_argument("--csv", type=Path, metavar="FILE", help="Write the figures to a CSV file too.")

    def handle(self, *, study: str, csv: Path | None, **options: Any) -> None:
        row = find_study(study)
        total = ready_sets(row).count()
        unready = unready_arms(row)
        if not total:
            self._explain(unready)
            raise CommandError(f"{study} has no ready candidate set. Make some with `manage.py pregenerate {study}`.")
        with tqdm(total=total, unit="set", desc=f"Diversity of {study}", file=sys.stderr) as bar:
            rows = diversity_rows(row, progress=bar.update)
        if speaks_offline(row):
            self.stdout.write(OFFLINE_WARNING)
        print_table(self.stdout, DIVERSITY_COLUMNS, diversity_table(rows, unready))
        self._explain(unready)
        self.stdout.write("Similarity is 0 to 1; figures of two measures do not compare. distinct-n: Li et al. 2016.")
        if csv is not None:
            try:
                with csv.open("w", encoding="utf-8", newline="") as file:
                    write_diversity_csv(file, rows, unready)
            except OSError as error:
                raise CommandError(f"{csv} cannot be written: {error.strerror}.") from error
            self.stdout.write(f"Written to {csv}.")

    def _explain(self, unready: list[UnreadyArm]) -> None:
        for arm in unready:
            self.stdout.write(f"{arm.recipe}, {arm.language}: 0 ready sets: {arm.why}.")
