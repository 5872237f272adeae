"""Workers die at every point of a call (SIGKILL): each set is made exactly once, paid for at most once more, and found in time.

One round takes a worker for each crash point and one that lives, all at once on the same work. `make faults` runs twenty, or FAULT_ROUNDS.
One process and one kill at a time, in a few seconds: `test_guards.py`.
"""

import json
import os
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count
from django.utils import timezone

from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec
from apps.generation.selectors import generation_progress
from apps.generation.services import (
    MAX_FAILURES,
    enqueue_pending,
    recount_endpoint,
    recount_study,
    request_candidate_set,
    sweep,
    sweeping,
)
from tests.factories import BareStudyFactory, ModelSpecFactory, PromptFactory, RecipeFactory, StudyLocaleFactory
from tests.faults.conftest import Fleet, watch

pytestmark = [pytest.mark.postgresql, pytest.mark.redis, pytest.mark.django_db(transaction=True)]

POINTS = ("before_call", "during_call", "after_call", "after_commit")
SETS, CALLS_PER_SET = 8, 2
FOUND_WITHIN = timedelta(seconds=30)
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "20"))
STATE = CandidateSet.State


@dataclass
class Figures:
    """What the rounds so far came to."""

    rounds: int = 0
    kills: int = 0
    sets: int = 0
    calls: int = 0
    lost_calls: int = 0
    duplicates: int = 0
    found_after: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        found = self.found_after
        times = f"{min(found):.1f} s at least, {statistics.median(found):.1f} s at the median, {max(found):.1f} s at most"
        return (
            f"{self.rounds} rounds, {self.kills} kills, {self.sets} sets, {self.calls} calls seen by the endpoint, "
            f"{self.lost_calls} calls lost, {self.duplicates} slots or calls twice; found again ({len(found)} times) after {times}"
        )


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


def play_round(fleet: Fleet, endpoint, number: int, figures: Figures) -> None:
    assert watch(fleet, fleet.is_up, 120), "the workers started"
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
        killed = json.loads((fleet.folder / f"{point}.killed").read_text())
        killed_at = datetime.fromtimestamp(killed["at"], UTC)
        victim = next(row for row in sets if row.messages[-1]["content"] in killed["message"])
        orphan = lost.filter(candidate_set=victim, started_at__lte=killed_at).latest("started_at")
        again = attempts.get(candidate_set=victim, recipe_part=orphan.recipe_part, number=orphan.number + 1)
        assert again.started_at - killed_at <= FOUND_WITHIN, f"{point}: {again.started_at - killed_at}"
        figures.found_after.append((again.started_at - killed_at).total_seconds())
    # Paid for.
    policy, spec = GenerationPolicy.objects.get(study=study), ModelSpec.objects.get(study=study)
    assert all(attempt.cost == attempt.reserved for attempt in lost)
    assert policy.committed == recount_study(study)
    assert spec.committed == recount_endpoint(spec)
    assert policy.committed <= policy.budget

    figures.rounds += 1
    figures.kills += len(POINTS)
    figures.sets += SETS
    figures.calls += endpoint.calls
    figures.lost_calls += lost.count()
    figures.duplicates += Candidate.objects.filter(candidate_set__in=sets).count() - 4 * SETS
    figures.duplicates += attempts.filter(state="SUCCEEDED").count() - CALLS_PER_SET * SETS


def sweep_here() -> None:
    sweep(now=timezone.now())


@pytest.mark.nightly
def test_r10_many_rounds_of_killed_workers(fleet, offline_endpoint, capsys):
    """With default settings: a beat sweeps, and each killed worker's set is found within 30 s.

    One worker lives through: while none runs nothing can be found, and how soon the killed ones are back is the machine's doing.
    """
    fleet.add_beat()
    fleet.add_worker("lives")
    for point in POINTS:
        fleet.add_worker(point, FAULT_POINT=point)
    figures = Figures()
    for number in range(ROUNDS):
        play_round(fleet, offline_endpoint, number, figures)
        with capsys.disabled():
            print(f"\n{figures}", flush=True)
    assert figures.duplicates == 0


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


def play_poison(fleet: Fleet, *, seconds: float, hands_out=lambda: None) -> None:
    """One set kills each worker that calls for it; `hands_out()` enqueues what was lost, time and again."""
    study = make_study(["How should I spend the day?", "This is poison.", "How should I spend the night?"])
    enqueue_pending(study=study)

    def is_over() -> bool:
        hands_out()
        return generation_progress(study).is_finished

    assert watch(fleet, is_over, seconds), generation_progress(study)
    assert fleet.restarts == MAX_FAILURES, "one worker for each try, and none after the last"
    poison = CandidateSet.objects.get(state=STATE.FAILED)
    assert "poison" in poison.messages[0]["content"]
    assert (poison.error_code, poison.failures) == ("worker_lost", MAX_FAILURES)
    assert list(poison.attempts.values_list("state", "error_code")) == [("FAILED", "worker_lost")] * MAX_FAILURES
    assert not poison.candidates.exists()
    # The others are made, and whoever asks sees what is wrong.
    progress = generation_progress(study)
    assert (progress.ready, progress.failed) == (2, 1)
    assert sorted(CandidateSet.objects.annotate(count=Count("candidates")).values_list("count", flat=True)) == [0, 4, 4]
    for row in CandidateSet.objects.all():
        PromptFactory(study=study, text_en=row.messages[0]["content"])
    with pytest.raises(CommandError, match="1 candidate set failed: 1 × worker_lost"):
        call_command("pregenerate", study.slug, stdout=StringIO())
    assert GenerationPolicy.objects.get().committed == recount_study(study)


def test_r10_a_poison_set_stops_and_is_visible_and_the_others_are_made(fleet, offline_endpoint):
    """The short form: a lease of two seconds, and this process sweeps."""
    fleet.add_worker("poisoned", FAULT_POISON="poison", FAULT_LEASE="2")
    play_poison(fleet, seconds=120, hands_out=sweep_here)


def play_poison_beside_neighbours(fleet: Fleet, endpoint, **environment: str) -> None:
    """Three sets in one worker of four threads die together; in the end only the poison may have failed."""
    endpoint.set(delay_seconds=1)
    fleet.add_worker("poisoned", concurrency=4, FAULT_POISON="poison", FAULT_LEASE="2", **environment)
    study = make_study(["How should I spend the day?", "This is poison.", "How should I spend the night?"])
    enqueue_pending(study=study)

    def is_over() -> bool:
        sweep_here()
        return generation_progress(study).is_finished

    assert watch(fleet, is_over, 180), generation_progress(study)
    states = {row.messages[0]["content"]: (row.state, row.error_code) for row in CandidateSet.objects.all()}
    assert states.pop("This is poison.") == (STATE.FAILED, "worker_lost")
    assert set(states.values()) == {(STATE.READY, "")}, "the neighbours are made"


def test_r10_a_poison_set_takes_no_neighbour_of_its_worker_with_it(fleet, offline_endpoint):
    """The suspects are handed out one at a time."""
    play_poison_beside_neighbours(fleet, offline_endpoint)


def test_r10_sabotage_with_all_suspects_at_once_the_poison_takes_a_neighbour_with_it(fleet, offline_endpoint, monkeypatch):
    """The control: no suspect waits for another."""
    monkeypatch.setattr(sweeping, "suspects_that_wait", lambda now: [])
    with pytest.raises(AssertionError, match="the neighbours are made"):
        play_poison_beside_neighbours(fleet, offline_endpoint, FAULT_SABOTAGE="suspects_at_once")


@pytest.mark.nightly
def test_r10_a_poison_set_stops_and_is_visible_with_default_settings(fleet, offline_endpoint):
    fleet.add_beat()
    fleet.add_worker("poisoned", FAULT_POISON="poison")
    play_poison(fleet, seconds=240)
