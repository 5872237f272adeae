"""`manage.py pregenerate STUDY`: candidates for every prompt, made by the workers, with a progress bar."""

import sys
import time
from argparse import ArgumentParser
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from apps.core.text import counted
from apps.generation.amounts import amount_text
from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec
from apps.generation.policies import policy_of
from apps.generation.selectors import BUDGET_EXHAUSTED, generation_progress, resting_endpoints, sets_in_work, sets_without_budget
from apps.generation.services import (
    cancel_generation,
    enqueue_pending,
    estimate_generation,
    pause_generation,
    request_sets_for_study,
    resume_generation,
    retry_failed_sets,
)
from apps.generation.services.estimating import RULE
from apps.studies.models import Study

POLL_SECONDS = 0.5
NO_WORKER_SECONDS = 15
STATE = CandidateSet.State


class Command(BaseCommand):
    help = "Make the candidate sets of a study: every current prompt × language × recipe. Can be stopped and started at any time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="Slug of the study.")
        parser.add_argument("--no-wait", action="store_true", help="Enqueue the sets and return at once.")
        parser.add_argument("--retry-failed", action="store_true", help="Try sets again that failed or were cancelled before.")
        steering = parser.add_mutually_exclusive_group()
        steering.add_argument("--dry-run", action="store_true", help="Estimate calls, tokens, cost and time; make nothing.")
        steering.add_argument("--pause", action="store_true", help="Let the workers finish what they began and begin nothing new.")
        steering.add_argument("--resume", action="store_true", help="Go on after --pause.")
        steering.add_argument("--cancel", action="store_true", help="Give up the waiting sets; --retry-failed brings them back.")

    def handle(self, *, study: str, no_wait: bool, retry_failed: bool, **options: Any) -> None:
        row = Study.objects.filter(slug=study).first()
        if row is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none; load one with manage.py load_study"
            raise CommandError(f"There is no study {study!r}. Studies: {known}.")
        if options["dry_run"]:
            self._estimate(row)
            return
        if options["pause"]:
            pause_generation(study=row)
            self.stdout.write(f"{study} rests: sets being made are finished, no other is begun. `pregenerate {study} --resume` goes on.")
            return
        if options["cancel"]:
            count = counted(cancel_generation(study=row), "candidate set")
            self.stdout.write(f"{count} cancelled. `pregenerate {study} --retry-failed` brings them back.")
            return
        if options["resume"]:
            resume_generation(study=row)
        elif policy_of(row).is_paused:
            raise CommandError(f"The pre-generation of {study} is paused. Go on with `manage.py pregenerate {study} --resume`.")
        requested = request_sets_for_study(study=row)
        for text in requested.missing_texts:
            self.stderr.write(f"No text, so no candidates: prompt {text}.")
        if not requested.ids:
            raise CommandError(f"{study} has nothing to generate for: it needs a locale, a current recipe and a prompt with a text.")
        if retry_failed:
            retry_failed_sets(study=row, candidate_set_ids=requested.ids)
        enqueued = enqueue_pending(study=row)
        if no_wait:
            self.stdout.write(f"{enqueued} of {counted(len(requested.ids), 'candidate set')} enqueued.")
            return
        try:
            self._wait(row, requested.ids)
        except KeyboardInterrupt:
            raise CommandError("Stopped watching; the workers go on. The same command shows the progress again.", returncode=130) from None
        self._summarise(row, requested.ids)

    def _estimate(self, study: Study) -> None:
        policy = policy_of(study)
        if policy.is_paused:
            self.stdout.write(f"{study.slug} is paused: nothing is begun before `pregenerate {study.slug} --resume`.")
        estimate = estimate_generation(study=study)
        if not estimate.sets:
            self._tell_nothing_is_left(study)
            return
        self.stdout.write(f"{counted(estimate.sets, 'candidate set')} to make with {counted(estimate.calls, 'call')}.")
        if estimate.unanswerable:
            unanswerable = counted(estimate.unanswerable, "candidate set")
            self.stdout.write(f"{unanswerable} cannot be asked for: an instruction or a variant of the recipe is missing.")
        if not estimate.calls:
            return
        for row in estimate.endpoints.values():
            self.stdout.write(
                f"  {row.model_spec.key}: {counted(row.calls, 'call')}, {row.input_tokens:,.0f} tokens in, {row.output_tokens:,.0f} out, "
                f"cost {amount_text(row.cost)} (at most {amount_text(row.highest_cost)}), {_duration(row.seconds)}"
            )
        cost = f"cost {amount_text(estimate.cost)} (at most {amount_text(estimate.highest_cost)})"
        self.stdout.write(f"In all: {cost}, about {_duration(estimate.seconds)}.")
        self._compare("the study", policy, estimate.cost)
        for row in estimate.endpoints.values():
            self._compare(f"endpoint {row.model_spec.key}", row.model_spec, row.cost)
        self.stdout.write(RULE)

    def _tell_nothing_is_left(self, study: Study) -> None:
        progress = generation_progress(study)
        self.stdout.write(
            f"No candidate set is left to make: {progress.ready} ready, {progress.held} held below the diversity floor, "
            f"{progress.failed} failed."
        )
        if progress.failed:
            self.stdout.write(f"`pregenerate {study.slug} --retry-failed` tries the failed ones again.")

    def _compare(self, name: str, purse: GenerationPolicy | ModelSpec, cost: Decimal) -> None:
        if purse.budget is not None:
            left = max(purse.budget - purse.committed, Decimal(0))
            word = "is enough for the estimate" if left >= cost else "is NOT enough"
            self.stdout.write(f"Budget of {name}: {amount_text(left)} of {amount_text(purse.budget)} left; it {word}.")

    def _wait(self, study: Study, wanted: frozenset[int]) -> None:
        """Show progress until no wanted set is in the workers' hands. Sets that wait for a higher budget are not done."""
        changed_at, before, told = time.monotonic(), len(wanted), False
        with tqdm(total=len(wanted), unit="set", desc=f"Candidates of {study.slug}", file=sys.stderr) as bar:
            while True:
                left = len(set(sets_in_work(study).values_list("pk", flat=True)) & wanted)
                unpaid = len(set(sets_without_budget(study).values_list("pk", flat=True)) & wanted)
                notes = [f"{unpaid} without budget"] if unpaid else []
                bar.set_postfix_str("; ".join([*notes, *resting_endpoints(study, timezone.now())]), refresh=False)
                bar.update(len(wanted) - left - unpaid - bar.n)
                if not left or policy_of(study).is_paused:
                    return
                if left != before or self._work_is_going_on(study):
                    changed_at, before, told = time.monotonic(), left, False
                elif not told and time.monotonic() - changed_at >= NO_WORKER_SECONDS:
                    told = True
                    bar.write(
                        f"Nothing was claimed for {NO_WORKER_SECONDS} s: no worker seems to be running. Start one with `celery -A "
                        "annotation_site worker -B -P threads --concurrency 32 -Q interactive,maintenance,bulk`; this command waits.",
                        file=sys.stderr,
                    )
                time.sleep(POLL_SECONDS)

    def _work_is_going_on(self, study: Study) -> bool:
        now = timezone.now()
        held = CandidateSet.objects.filter(recipe__study=study, state=STATE.GENERATING, claimed_until__gte=now)
        recent = GenerationAttempt.objects.filter(candidate_set__recipe__study=study, started_at__gte=now - timedelta(seconds=2))
        return held.exists() or recent.exists() or bool(resting_endpoints(study, now))

    def _summarise(self, study: Study, wanted: frozenset[int]) -> None:
        sets = CandidateSet.objects.filter(recipe__study=study).exclude(state=STATE.READY)
        states = [(state, code) for pk, state, code in sets.values_list("pk", "state", "error_code") if pk in wanted]
        progress = generation_progress(study)
        self.stdout.write(
            f"{len(wanted) - len(states)} of {counted(len(wanted), 'candidate set')} ready. All calls for candidates of this study so far: "
            f"{progress.calls} ({progress.failed_calls} failed), {progress.input_tokens:,} tokens in, {progress.output_tokens:,} out, "
            f"cost {amount_text(progress.cost)}."
        )
        for line in resting_endpoints(study, timezone.now()):
            self.stdout.write(f"Circuit breaker: {line}.")
        if policy_of(study).is_paused:
            raise CommandError(f"The pre-generation was paused. Go on with `manage.py pregenerate {study.slug} --resume`.")
        unpaid = states.count((STATE.PENDING, BUDGET_EXHAUSTED))
        held = sum(state == STATE.HELD for state, _ in states)
        failed = Counter(code for state, code in states if state != STATE.HELD and (state, code) != (STATE.PENDING, BUDGET_EXHAUSTED))
        told = []
        if unpaid:
            told.append(
                f"{counted(unpaid, 'candidate set')} without budget ({BUDGET_EXHAUSTED}). Raise the budget of the study or of the endpoint "
                "in the desk; the workers then go on by themselves."
            )
        if held:
            told.append(f"{counted(held, 'candidate set')} held below the diversity floor. Accept, edit or reject them in the desk.")
        if failed:
            reasons = ", ".join(f"{count} × {code}" for code, count in failed.most_common())
            told.append(
                f"{counted(failed.total(), 'candidate set')} failed: {reasons}.{_example(wanted)} The attempts in the admin say more. "
                f"Mend the cause, then run `manage.py pregenerate {study.slug} --retry-failed`."
            )
        if told:
            raise CommandError("\n".join(told))


def _example(wanted: frozenset[int]) -> str:
    """What the newest failed call of these sets said, in its own words."""
    failed = GenerationAttempt.objects.filter(state=GenerationAttempt.State.FAILED).exclude(error_detail="").order_by("-pk")
    failed = failed.exclude(candidate_set__error_code__in=["cancelled", BUDGET_EXHAUSTED])  # their own reason says it all
    detail = next((detail for pk, detail in failed.values_list("candidate_set_id", "error_detail")[:200] if pk in wanted), "")
    return f" For example: {detail}" if detail else ""


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
