"""Reads about generation that are not one queryset."""

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Count, Q, Sum

from apps.generation.models import CandidateSet, GenerationAttempt
from apps.studies.models import Study


@dataclass(frozen=True)
class GenerationProgress:
    """Where pre-generation of a study stands (sets), and what all its calls so far used, live ones included."""

    total: int
    ready: int
    failed: int
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
        return self.ready + self.failed == self.total


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
