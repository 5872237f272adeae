"""`manage.py coverage_report STUDY`: which values a study's candidate sets reach, after saying how far the judge can be trusted."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.errors import DomainError
from apps.generation.judging import bank_labels, read_labels
from apps.generation.measures.agreement import CLOSE
from apps.generation.measures.coverage import HIGH_POLE, LOW_POLE, PUBLISHED
from apps.generation.reporting import (
    OFFLINE_WARNING,
    Share,
    coverage_rows,
    is_offline,
    judge_agreement,
    judge_standing,
    speaks_offline,
)
from apps.generation.services.judging import judge_of
from apps.generation.tables import find_study, print_table, share_text


class Command(BaseCommand):
    help = "The share of candidate sets that hold at least one answer at each value pole, per recipe and language, by the judge's scores."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="Slug of the study.")
        parser.add_argument(
            "--labels",
            type=Path,
            metavar="FILE",
            help="Hand labels of some of the study's candidates (CSV or JSONL: text, traditional_secular, survival_self_expression). "
            "Without it, the labels of the offline endpoint's banks are used where they fit.",
        )
        parser.add_argument("--without-agreement", action="store_true", help="Use scores of a judge that nobody compared with labels.")

    def handle(self, *, study: str, labels: Path | None, without_agreement: bool, **options: Any) -> None:
        row = find_study(study)
        try:
            judge = judge_of(row)
            known = read_labels(labels) if labels else bank_labels()
        except DomainError as error:
            raise CommandError(str(error)) from error
        found = judge_agreement(row, judge.model_spec, judge.rubric, known)
        standing = judge_standing(row, judge.model_spec, judge.rubric, known, found)
        if speaks_offline(row, judge.model_spec):
            self.stdout.write(OFFLINE_WARNING)
        if standing.unlabelled:
            self.stdout.write(f"{standing.unlabelled} texts have no label in the offline banks; their scores of 0.5 mean nothing.")
        if found:
            self.stdout.write(
                f"Agreement of {judge.model_spec.key} with {labels.name if labels else 'the labels of the offline banks'} "
                f"({standing.matched} of {standing.labels} labels match one of {standing.scored} scored texts):"
            )
            columns = ["dimension", "texts", "mean_absolute_error", f"within_{CLOSE:g}", "correlation"]
            cells = [
                [
                    one.dimension,
                    str(one.count),
                    share_text(one.mean_absolute_error),
                    share_text(one.share_close),
                    share_text(one.correlation),
                ]
                for one in found
            ]
            print_table(self.stdout, columns, cells)
            if labels is None and is_offline(judge.model_spec):
                self.stdout.write("The offline endpoint repeats these very labels: the agreement is full by construction.")
        elif not standing.scored and not standing.unlabelled:
            raise CommandError(standing.gap)
        elif not without_agreement:
            raise CommandError(f"{standing.gap} Or take the scores unchecked with --without-agreement.")
        else:
            self.stdout.write(f"Nobody has compared this judge with hand labels. {standing.gap}")
        self._print_coverage(row, judge)

    def _print_coverage(self, row: Any, judge: Any) -> None:
        rows = coverage_rows(row, judge.model_spec, judge.rubric)
        if not rows:
            raise CommandError(f"{row.slug} has no ready candidate set. Make some with `manage.py pregenerate {row.slug}`.")
        self.stdout.write(
            f"\nSets with at least one answer at a pole (score ≤ {LOW_POLE:g} or ≥ {HIGH_POLE:g}), 95 % Wilson intervals; "
            f"judge {judge.model_spec.key}, rubric {judge.rubric}:"
        )
        names = [share.pole.name for share in rows[0].shares]
        print_table(
            self.stdout,
            ["recipe", "language", "locales", "sets", "unscored", *names],
            [
                [
                    one.recipe,
                    one.language,
                    " ".join(one.locales),
                    str(one.sets),
                    str(one.unscored),
                    *(_share(share) for share in one.shares),
                ]
                for one in rows
            ],
        )
        published = "; ".join(f"{name} {low:.0%} → {high:.0%}" for name, (low, high) in PUBLISHED.items())
        self.stdout.write(f"Published for independent draws → negatively correlated sampling: {published} (arXiv 2507.09650).")


def _share(share: Share) -> str:
    return f"{share.share:.0%} [{share.low:.0%}, {share.high:.0%}]"
