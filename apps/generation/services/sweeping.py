"""Bring back what got lost: messages, workers, and sets that waited for money."""

from datetime import datetime, timedelta

from django.db.models import Min, Q

from apps.core.enqueue import enqueue_on_commit
from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy
from apps.generation.selectors import BUDGET_EXHAUSTED, NEVER
from apps.generation.services.claiming import close_calls, suspects_that_wait
from apps.generation.services.requesting import TASK_NAME, queue_of

# Sets that one sweep enqueues at most, of each kind, and how long bulk work has to rest before its messages are taken for lost:
# with the lease before and the sweep's period after it, a killed worker's sets are found within 30 s.
SWEEP_LIMIT = 1000
IDLE = timedelta(seconds=15)


def sweep(*, now: datetime) -> int:
    """Enqueue due sets whose message may be lost, and close calls of dead workers. Returns how many sets were enqueued.

    1. Calls in flight whose set no longer has a live claim are FAILED (worker_lost) and stay charged at their maximum.
    2. Live sets that are due go to `interactive`; retries and dead claims of pre-generation to `bulk`. A retry loses its `retry_at`
       with that, so that the next sweep does not enqueue it once more.
    3. Sets without `retry_at` have a message waiting, so they are enqueued only once bulk work has rested for a while;
       else each sweep would add the whole backlog to the queue again.
    4. Of the sets of each recipe that wait for money one is tried; where it finds some, the others follow.
    5. Sets whose workers died again and again are suspects: one of them kills its worker and takes the others along. Before their
       last try they are handed out one at a time, so that the innocent are made and the poison stops alone.
    """
    claimed = Q(candidate_set__state=CandidateSet.State.GENERATING, candidate_set__claimed_until__gte=now)
    close_calls(GenerationAttempt.objects.exclude(claimed), "worker_lost", now=now)

    paused = GenerationPolicy.objects.filter(is_paused=True).values("study_id")
    due = CandidateSet.objects.due(now).exclude(pk__in=suspects_that_wait(now)).order_by("pk")
    bulk = due.filter(is_live=False).exclude(recipe__study__in=paused)
    has_message = Q(state=CandidateSet.State.PENDING, retry_at__isnull=True)
    resting = (
        not CandidateSet.objects.filter(is_live=False, state=CandidateSet.State.GENERATING, claimed_until__gte=now).exists()
        and not GenerationAttempt.objects.filter(candidate_set__is_live=False, started_at__gt=now - IDLE).exists()
    )
    _try_one_of_each_recipe(paused_studies=list(paused.values_list("study_id", flat=True)), now=now)
    found = [
        *due.filter(is_live=True).values_list("pk", "is_live")[:SWEEP_LIMIT],
        *(bulk if resting else bulk.exclude(has_message)).values_list("pk", "is_live")[:SWEEP_LIMIT],
    ]
    CandidateSet.objects.filter(
        pk__in=[pk for pk, is_live in found if not is_live], state=CandidateSet.State.PENDING, retry_at__lte=now
    ).update(retry_at=None)
    for pk, is_live in found:
        enqueue_on_commit(TASK_NAME, pk, queue=queue_of(is_live))
    return len(found)


def _try_one_of_each_recipe(*, paused_studies: list[int], now: datetime) -> None:
    """Make one set due among those of a recipe that found no money, unless one is on its way already."""
    without = CandidateSet.objects.filter(state=CandidateSet.State.PENDING, error_code=BUDGET_EXHAUSTED)
    on_the_way = set(without.filter(retry_at__isnull=True).values_list("recipe", flat=True))
    waiting = without.filter(retry_at=NEVER).exclude(recipe__study__in=paused_studies)
    first = dict(waiting.order_by().values("recipe").annotate(first=Min("pk")).values_list("recipe", "first"))
    CandidateSet.objects.filter(pk__in=[pk for recipe, pk in first.items() if recipe not in on_the_way]).update(retry_at=now)
