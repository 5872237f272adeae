"""Workers die at every point of a call (SIGKILL): each set is made exactly once, paid for at most once more, and found in time.

One round takes a worker for each crash point, all at once on the same work. `make faults` runs twenty of them.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db.models import Count
from django.utils import timezone

from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec
from apps.generation.services import MAX_FAILURES, enqueue_pending, recount_endpoint, recount_study, request_candidate_set
from tests.factories import BareStudyFactory, ModelSpecFactory, RecipeFactory, StudyLocaleFactory
from tests.faults.conftest import Fleet, watch

pytestmark = [pytest.mark.postgresql, pytest.mark.redis, pytest.mark.django_db(transaction=True)]

POINTS = ("before_call", "during_call", "after_call", "after_commit")
SETS, CALLS_PER_SET = 8, 2
FOUND_WITHIN = timedelta(seconds=30)
STATE = CandidateSet.State


def make_study(prompts: list[str], *, budget: Decimal | None = None):
    study = BareStudyFactory()
    StudyLocaleFactory(study=study)
    ModelSpecFactory(study=study, timeout_seconds=20, input_price=2, output_price=10)
    recipe = RecipeFactory(study=study)
    recipe.parts.get(order=1).template.__class__.objects.filter(study=study, key="default").update(text_en="Answer in English.")
    GenerationPolicy.objects.create(study=study, budget=budget, min_words=1, near_duplicate_similarity=1, max_length_ratio=50)
    for text in prompts:
        request_candidate_set(recipe=recipe, language="en", text=text)
    return study


def play_round(fleet: Fleet, endpoint, number: int) -> None:
    endpoint.set(delay_seconds=0.6)
    endpoint.server.reset_counters()
    study = make_study([f"Round {number}: how should I spend day {day}?" for day in range(SETS)], budget=Decimal(1))
    for point in POINTS:
        (fleet.folder / f"{point}.killed").unlink(missing_ok=True)
        (fleet.folder / point).touch()
    enqueue_pending(study=study)
    sets = CandidateSet.objects.filter(recipe__study=study)
    assert watch(fleet, lambda: not sets.exclude(state=STATE.READY).exists(), 120), list(
        sets.values_list("state", "error_code", "failures")
    )
    assert all((fleet.folder / f"{point}.killed").exists() for point in POINTS), "each point was reached"

    # Exactly once.
    assert [row.count for row in sets.annotate(count=Count("candidates"))] == [4] * SETS
    attempts = GenerationAttempt.objects.filter(candidate_set__in=sets)
    assert not attempts.filter(state="CALLING").exists()
    assert attempts.filter(state="SUCCEEDED").count() == SETS * CALLS_PER_SET
    # One call more for each killed one: `after_commit` kills none.
    lost = attempts.filter(error_code="worker_lost")
    assert lost.count() <= len(POINTS) - 1
    assert attempts.exclude(state="SUCCEEDED").count() == lost.count()
    assert endpoint.calls <= SETS * CALLS_PER_SET + lost.count()
    # Found again in time.
    for point in POINTS[:-1]:
        killed_at = datetime.fromtimestamp(float((fleet.folder / f"{point}.killed").read_text()), UTC)
        orphan = lost.filter(started_at__lte=killed_at + timedelta(seconds=0.3)).order_by("-started_at").first()
        again = attempts.get(candidate_set=orphan.candidate_set, recipe_part=orphan.recipe_part, number=orphan.number + 1)
        assert again.started_at - killed_at <= FOUND_WITHIN, f"{point}: {again.started_at - killed_at}"
    # Paid for.
    policy, spec = GenerationPolicy.objects.get(study=study), ModelSpec.objects.get(study=study)
    assert all(attempt.cost == attempt.reserved for attempt in lost)
    assert policy.committed == recount_study(study)
    assert spec.committed == recount_endpoint(spec)
    assert policy.committed <= policy.budget


def start_fleet(fleet: Fleet) -> None:
    fleet.add_beat()
    for point in POINTS:
        fleet.add_worker(point, FAULT_POINT=point)


def test_r10_sets_of_killed_workers_are_made_once_and_found_in_time(fleet, offline_endpoint):
    start_fleet(fleet)
    play_round(fleet, offline_endpoint, 0)
    assert fleet.restarts == len(POINTS)


@pytest.mark.nightly
def test_r10_twenty_rounds_of_killed_workers(fleet, offline_endpoint):
    start_fleet(fleet)
    for number in range(20):
        play_round(fleet, offline_endpoint, number)


@pytest.mark.nightly
def test_r10_sabotage_with_a_long_lease_the_set_is_not_found_in_time(fleet, offline_endpoint):
    """The control: a claim that lasts ten minutes instead of a renewed quarter of one."""
    study = make_study(["How should I spend the day?"])
    fleet.add_beat()
    fleet.add_worker("during_call", FAULT_POINT="during_call", FAULT_LEASE="600")
    (fleet.folder / "during_call").touch()
    offline_endpoint.set(delay_seconds=0.6)
    enqueue_pending(study=study)
    assert watch(fleet, lambda: (fleet.folder / "during_call.killed").exists(), 60)
    assert not watch(fleet, lambda: CandidateSet.objects.get().state == STATE.READY, FOUND_WITHIN.total_seconds() + 2)


@pytest.mark.nightly
def test_r10_a_poison_set_stops_and_is_visible_and_the_others_are_made(fleet, offline_endpoint):
    study = make_study(["How should I spend the day?", "This is poison.", "How should I spend the night?"])
    fleet.add_beat()
    fleet.add_worker("poisoned", FAULT_POISON="poison")
    enqueue_pending(study=study)
    open_sets = CandidateSet.objects.filter(state__in=[STATE.PENDING, STATE.GENERATING])
    assert watch(fleet, lambda: not open_sets.exists(), 240)
    poison = CandidateSet.objects.get(state=STATE.FAILED)
    assert (poison.error_code, poison.failures) == ("worker_lost", MAX_FAILURES)
    assert poison.attempts.count() == MAX_FAILURES
    assert CandidateSet.objects.filter(state=STATE.READY).count() == 2
    assert GenerationPolicy.objects.get().committed == recount_study(study)
    assert timezone.now() > poison.created_at
