"""`manage.py judge_candidates STUDY`: value scores for the candidates of a study, with a progress bar."""

import sys
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from apps.core.errors import DomainError
from apps.generation.reporting import is_offline
from apps.generation.services.judging import judge_candidates, judge_of, unjudged_candidates
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
        done = 0
        try:
            judge = judge_of(row)
            total = unjudged_candidates(row, judge).count()
            with tqdm(total=total, unit="candidate", desc=f"Judging {study}", file=sys.stderr) as bar:
                for judged in judge_candidates(study=row, judge=judge):
                    done += judged.error is None
                    if judged.error is not None:
                        reasons[judged.error.code] += 1
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
            raise CommandError(f"{reasons.total()} candidates were not scored: {counts}. Run the same command again to ask for them.")
