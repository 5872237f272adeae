"""`manage.py judge_candidates STUDY`: value scores for the candidates of a study, with a progress bar."""

import sys
from argparse import ArgumentParser
from collections import Counter
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from apps.core.errors import DomainError
from apps.generation.reporting import is_offline
from apps.generation.services.judging import Trouble, judge_candidates, judge_of, unjudged_candidates
from apps.generation.tables import find_study


class Command(BaseCommand):
    help = (
        "Ask the study's judge to score each candidate on the two Inglehart–Welzel dimensions. Runs in this process, with as many calls "
        "at once as the judge's endpoint allows. Can be stopped and started at any time: what is scored is not asked again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="Slug of the study.")

    def handle(self, *, study: str, **options: Any) -> None:
        row = find_study(study)
        reasons: Counter[str] = Counter()
        done, example = 0, ""
        told: datetime | None = None
        try:
            judge = judge_of(row)
            total = unjudged_candidates(row, judge).count()
            self.stdout.write(f"{total} candidates to score, by {judge.model_spec} at {judge.model_spec.address}.")
            with tqdm(total=total, unit="candidate", desc=f"Judging {study}", file=sys.stderr) as bar:
                for event in judge_candidates(study=row, judge=judge):
                    if isinstance(event, Trouble):
                        told = _tell(bar, event, told)
                        continue
                    done += event.error is None
                    if event.error is not None:
                        reasons[event.error.code] += 1
                        example = str(event.error)
                    bar.set_postfix_str("", refresh=False)
                    bar.update()
        except DomainError as error:
            raise CommandError(f"{error} {done} candidates were scored; the same command goes on from there.") from error
        except KeyboardInterrupt:
            raise CommandError(f"Stopped; {done} candidates were scored. The same command goes on from there.", returncode=130) from None
        self.stdout.write(f"{done} of {total} candidates scored by {judge.model_spec.key} with rubric {judge.rubric}.")
        if is_offline(judge.model_spec):
            self.stdout.write("The judge is the bundled offline endpoint: it repeats the labels written by hand beside its answers.")
        if reasons:
            counts = ", ".join(f"{count} × {code}" for code, count in reasons.most_common())
            raise CommandError(
                f"{reasons.total()} candidates were not scored: {counts}. For example: {example} "
                "Run the same command again to ask for them."
            )


def _tell(bar: "tqdm[Any]", trouble: Trouble, told: datetime | None) -> datetime | None:
    """Say beside the bar what is wrong, and once for each pause (`told`: the last one) until when it lasts; the pause told last."""
    if trouble.until is None:
        bar.set_postfix_str(f"asking again: {trouble.reason}")
        return told
    if trouble.until != told:
        bar.write(
            f"{trouble.reason} Judging waits until {trouble.until:%H:%M:%S} UTC and then tries again; Ctrl+C stops it.", file=sys.stderr
        )
    bar.set_postfix_str(f"waits {(trouble.until - timezone.now()).total_seconds():.0f} s")
    return trouble.until
