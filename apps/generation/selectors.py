"""Reads about generation that are not one queryset."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from apps.core.text import counted
from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec, ValueScore
from apps.studies.models import Study

# The error code of a set that waits until a budget is raised, and its `retry_at`: no clock makes it due.
BUDGET_EXHAUSTED = "budget_exhausted"
NEVER = datetime(9000, 1, 1, tzinfo=UTC)
WITHOUT_BUDGET = Q(state=CandidateSet.State.PENDING, error_code=BUDGET_EXHAUSTED)
MICRO = Decimal("0.000001")


@dataclass(frozen=True)
class GenerationProgress:
    """Where pre-generation of a study stands (sets), and what all its calls for candidates so far used, live ones included.

    Each set is counted once: `pending` waits for a worker or an endpoint, `without_budget` for a higher budget.
    """

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


@dataclass(frozen=True)
class SpendLine:
    """What one kind of call cost. `calls` and tokens are None where no row keeps them."""

    name: str
    cost: Decimal
    calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


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
            without_budget=Count("pk", filter=made_before & WITHOUT_BUDGET),
            pending=Count("pk", filter=made_before & Q(state=state.PENDING) & ~WITHOUT_BUDGET),
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
    return GenerationProgress(**sets, **{**calls, "cost": _money(calls["cost"])})


def sets_in_work(study: Study) -> QuerySet[CandidateSet]:
    """Sets of `study` that are being made or will be without anybody's doing: not those that wait for a higher budget."""
    state = CandidateSet.State
    open_sets = CandidateSet.objects.filter(recipe__study=study, state__in=[state.PENDING, state.GENERATING])
    return open_sets.exclude(WITHOUT_BUDGET)


def sets_without_budget(study: Study) -> QuerySet[CandidateSet]:
    """Pre-generated sets of `study` that wait until its budget or that of an endpoint is raised."""
    return CandidateSet.objects.filter(WITHOUT_BUDGET, recipe__study=study, is_live=False)


def resting_endpoints(study: Study, now: datetime) -> list[str]:
    """One line for each endpoint of `study` whose breaker is open or that asked for rest."""
    rows = ModelSpec.objects.filter(study=study, paused_until__gt=now).order_by("key")
    return [
        f"{row.key} rests until {row.paused_until:%H:%M:%S} UTC after {counted(row.failures_in_row, 'failure')} in a row" for row in rows
    ]


def spend_by_purpose(policy: GenerationPolicy, progress: GenerationProgress) -> list[SpendLine]:
    """What the study of `policy` has spent, by what for; the costs add up to `policy.committed`.

    Only calls for candidates have a row each. A judge's calls are known by the scores that came of them, moderation's by the stored
    verdicts, tests by the last one of each endpoint; the last line is the rest: calls of these three kinds that failed, were cut off,
    are in flight, were repeated, or whose trace was erased.
    """
    study = policy.study
    in_flight = GenerationAttempt.objects.filter(candidate_set__recipe__study=study, state=GenerationAttempt.State.CALLING)
    reserved = _money(in_flight.aggregate(sum=Sum("reserved", default=Decimal(0)))["sum"])
    scores = ValueScore.objects.filter(judge__study=study).aggregate(calls=Count("pk"), cost=Sum("cost", default=Decimal(0)))
    moderated = CandidateSet.objects.filter(recipe__study=study, is_live=True, moderation__isnull=False)
    verdicts = [cost for row in moderated.values_list("moderation", flat=True).iterator() for cost in _moderation_costs(row or {})]
    tests = [Decimal(probe["cost"]) for probe in study.model_specs.values_list("probe", flat=True) if "cost" in probe]
    lines = [
        SpendLine("Candidates", progress.cost + reserved, progress.calls, progress.input_tokens, progress.output_tokens),
        SpendLine("Judge", _money(scores["cost"]), scores["calls"]),
        SpendLine("Moderation", sum(verdicts, Decimal(0)), len(verdicts)),
        SpendLine("Last test of each endpoint", sum(tests, Decimal(0))),
    ]
    rest = policy.committed - sum((line.cost for line in lines), Decimal(0))
    return [*lines, SpendLine("Other calls to judge, moderation and for tests", rest)]


def _money(sum_of_rows: Decimal) -> Decimal:
    """A sum as the database gives it; SQLite adds decimals as floats and gives 0 for none."""
    return Decimal(sum_of_rows).quantize(MICRO)


def _moderation_costs(moderation: dict[str, Any]) -> list[Decimal]:
    """What each verdict that a live set keeps cost: of its message, of refused ones before it, and of its answers."""
    message = [moderation["message"]] if "message" in moderation else []
    return [Decimal(verdict["cost"]) for verdict in (*message, *moderation.get("refused", []), *moderation.get("answers", []))]
