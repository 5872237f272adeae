"""`manage.py pregenerate STUDY`: candidates for every prompt, made by the workers, with a progress bar."""

import sys
import time
from argparse import ArgumentParser
from collections import Counter
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from apps.generation.models import CandidateSet, GenerationAttempt
from apps.generation.selectors import generation_progress
from apps.generation.services import enqueue_pending, request_sets_for_study, retry_failed_sets
from apps.studies.models import Study

POLL_SECONDS = 0.5
NO_WORKER_SECONDS = 15
STATE = CandidateSet.State


class Command(BaseCommand):
    help = "Make the candidate sets of a study: every current prompt × language × recipe. Can be stopped and started at any time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="Slug of the study.")
        parser.add_argument("--no-wait", action="store_true", help="Enqueue the sets and return at once.")
        parser.add_argument("--retry-failed", action="store_true", help="Try sets again that failed before.")

    def handle(self, *, study: str, no_wait: bool, retry_failed: bool, **options: Any) -> None:
        row = Study.objects.filter(slug=study).first()
        if row is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none; load one with manage.py load_study"
            raise CommandError(f"There is no study {study!r}. Studies: {known}.")
        requested = request_sets_for_study(study=row)
        for text in requested.missing_texts:
            self.stderr.write(f"No text, so no candidates: prompt {text}.")
        if not requested.ids:
            raise CommandError(f"{study} has nothing to generate for: it needs a locale, a current recipe and a prompt with a text.")
        if retry_failed:
            retry_failed_sets(study=row, candidate_set_ids=requested.ids)
        enqueued = enqueue_pending(study=row)
        if no_wait:
            self.stdout.write(f"{enqueued} of {len(requested.ids)} candidate sets enqueued.")
            return
        try:
            self._wait(row, requested.ids)
        except KeyboardInterrupt:
            raise CommandError("Stopped watching; the workers go on. The same command shows the progress again.", returncode=130) from None
        self._summarise(row, requested.ids)

    def _wait(self, study: Study, wanted: frozenset[int]) -> None:
        """Show progress until every wanted set is READY or FAILED."""
        changed_at, before, told = time.monotonic(), len(wanted), False
        with tqdm(total=len(wanted), unit="set", desc=f"Candidates of {study.slug}", file=sys.stderr) as bar:
            while True:
                open_ids = set(
                    CandidateSet.objects.filter(recipe__study=study, state__in=[STATE.PENDING, STATE.GENERATING]).values_list(
                        "pk", flat=True
                    )
                )
                left = len(open_ids & wanted)
                bar.update(len(wanted) - left - bar.n)
                if not left:
                    return
                if left != before or self._work_is_going_on(study):
                    changed_at, before, told = time.monotonic(), left, False
                elif not told and time.monotonic() - changed_at >= NO_WORKER_SECONDS:
                    told = True
                    bar.write(
                        f"Nothing was claimed for {NO_WORKER_SECONDS} s: no worker seems to be running. Start one with "
                        "`celery -A annotation_site worker -B -Q interactive,bulk,maintenance`; this command waits.",
                        file=sys.stderr,
                    )
                time.sleep(POLL_SECONDS)

    def _work_is_going_on(self, study: Study) -> bool:
        now = timezone.now()
        held = CandidateSet.objects.filter(recipe__study=study, state=STATE.GENERATING, claimed_until__gte=now)
        recent = GenerationAttempt.objects.filter(candidate_set__recipe__study=study, started_at__gte=now - timedelta(seconds=2))
        return held.exists() or recent.exists()

    def _summarise(self, study: Study, wanted: frozenset[int]) -> None:
        sets = CandidateSet.objects.filter(recipe__study=study).exclude(state=STATE.READY)
        reasons = Counter(code for pk, code in sets.values_list("pk", "error_code") if pk in wanted)
        progress = generation_progress(study)
        self.stdout.write(
            f"{len(wanted) - reasons.total()} of {len(wanted)} candidate sets ready. All calls of this study so far: {progress.calls}"
            f" ({progress.failed_calls} failed), {progress.input_tokens} tokens in, {progress.output_tokens} out, cost {progress.cost:.2f}."
        )
        if reasons:
            counts = ", ".join(f"{count} × {code}" for code, count in reasons.most_common())
            raise CommandError(
                f"{reasons.total()} candidate sets failed: {counts}. The attempts of a set, in the admin, say more. "
                f"Mend the cause, then run `manage.py pregenerate {study.slug} --retry-failed`."
            )
