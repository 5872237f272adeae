"""Reads about generation that are not one queryset."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum

from apps.generation.models import CandidateSet, GenerationAttempt, ModelSpec
from apps.studies.models import Study

# The error code of a set that waits until a budget is raised, and its `retry_at`: no clock makes it due.
BUDGET_EXHAUSTED = "budget_exhausted"
NEVER = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class GenerationProgress:
    """Where pre-generation of a study stands (sets), and what all its calls so far used, live ones included."""

    total: int
    ready: int
    failed: int
    held: int
    without_budget: int
    pending: int
    generating: int
    live_total: int
    live_failed: int
    calls: int
    failed_calls: int
    input_tokens: int
    output_tokens: int
    cost: Decimal

    @property
    def is_finished(self) -> bool:
        return self.ready + self.failed + self.held == self.total


def generation_progress(study: Study) -> GenerationProgress:
    """Counts over the sets of `study` that no reviewer rejected."""
    state = CandidateSet.State
    made_before = Q(is_live=False)
    sets = (
        CandidateSet.objects.filter(recipe__study=study)
        .exclude(state=state.REJECTED)
        .aggregate(
            total=Count("pk", filter=made_before),
            ready=Count("pk", filter=made_before & Q(state=state.READY)),
            failed=Count("pk", filter=made_before & Q(state=state.FAILED)),
            held=Count("pk", filter=made_before & Q(state=state.HELD)),
            without_budget=Count("pk", filter=made_before & Q(state=state.PENDING, error_code=BUDGET_EXHAUSTED)),
            pending=Count("pk", filter=made_before & Q(state=state.PENDING)),
            generating=Count("pk", filter=made_before & Q(state=state.GENERATING)),
            live_total=Count("pk", filter=~made_before),
            live_failed=Count("pk", filter=~made_before & Q(state=state.FAILED)),
        )
    )
    calls = GenerationAttempt.objects.filter(candidate_set__recipe__study=study).aggregate(
        calls=Count("pk"),
        failed_calls=Count("pk", filter=Q(state=GenerationAttempt.State.FAILED)),
        input_tokens=Sum("input_tokens", default=0),
        output_tokens=Sum("output_tokens", default=0),
        cost=Sum("cost", default=Decimal(0)),
    )
    return GenerationProgress(**sets, **calls)


def sets_in_work(study: Study) -> QuerySet[CandidateSet]:
    """Sets of `study` that are being made or will be without anybody's doing: not those that wait for a higher budget."""
    state = CandidateSet.State
    open_sets = CandidateSet.objects.filter(recipe__study=study, state__in=[state.PENDING, state.GENERATING])
    return open_sets.exclude(state=state.PENDING, error_code=BUDGET_EXHAUSTED)


def resting_endpoints(study: Study, now: datetime) -> list[str]:
    """One line for each endpoint of `study` whose breaker is open or that asked for rest."""
    rows = ModelSpec.objects.filter(study=study, paused_until__gt=now).order_by("key")
    return [f"{row.key} rests until {row.paused_until:%H:%M:%S} UTC after {row.failures_in_row} failures in a row" for row in rows]
