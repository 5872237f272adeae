"""One process, one kill (SIGKILL), one guard: what brings the set back, and the proof that the check sees its absence.

The killed process is real; the time until the set is free again is skipped by telling the sweep and the next worker a later `now`.
"""

import uuid
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from apps.generation import tasks
from apps.generation.models import CandidateSet, GenerationPolicy, ModelSpec
from apps.generation.models.candidates import CandidateSetQuerySet
from apps.generation.services import Outcome, claiming, generate_set, making, recount_endpoint, recount_study, sweep
from tests.faults.test_killed_workers import CALLS_PER_SET, FOUND_WITHIN, make_study

pytestmark = [pytest.mark.postgresql, pytest.mark.redis, pytest.mark.django_db(transaction=True)]

SWEEP_PERIOD = timedelta(seconds=settings.CELERY_BEAT_SCHEDULE["sweep-generation"]["schedule"])
# The call of the killed process counts at the endpoint where it was sent before the kill.
CALLS_SENT = {"before_call": 0, "during_call": 1, "after_call": 1}


def only_set() -> CandidateSet:
    make_study(["How should I spend the day?"], budget=None)
    return CandidateSet.objects.get()


def check_found_and_made_once(candidate_set: CandidateSet, *, point: str, killed_at: datetime, broker, endpoint) -> None:
    """The set of a process killed at `point` is enqueued in time by the sweep, made once, and its lost call is seen and paid for."""
    found_at = killed_at + claiming.LEASE + SWEEP_PERIOD
    assert found_at - killed_at <= FOUND_WITHIN
    sweep(now=found_at)
    assert broker.llen("bulk") == 1, "the sweep found the set"
    assert generate_set(candidate_set_id=candidate_set.pk, now=found_at) == Outcome.READY
    assert candidate_set.candidates.count() == 4
    lost = candidate_set.attempts.exclude(state="SUCCEEDED")
    assert [(attempt.error_code, attempt.cost) for attempt in lost] == [("worker_lost", attempt.reserved) for attempt in lost]
    assert len(lost) == 1, "the killed call was seen"
    assert lost[0].reserved > 0
    assert endpoint.calls == CALLS_PER_SET + CALLS_SENT[point]
    study, spec = candidate_set.recipe.study, ModelSpec.objects.get()
    assert GenerationPolicy.objects.get().committed == recount_study(study)
    assert spec.committed == recount_endpoint(spec)


@pytest.mark.parametrize("point", CALLS_SENT)
def test_r10_a_set_whose_process_was_killed_is_found_in_time_and_made_once(fleet, broker, offline_endpoint, point):
    candidate_set = only_set()
    offline_endpoint.set(delay_seconds=0.6)
    killed_at = fleet.crash_once(point, "set", str(candidate_set.pk))
    check_found_and_made_once(candidate_set, point=point, killed_at=killed_at, broker=broker, endpoint=offline_endpoint)


def test_r10_sabotage_before_the_call_a_sweep_blind_to_dead_claims(fleet, broker, offline_endpoint, monkeypatch):
    """The control: only PENDING sets count as due."""
    due = CandidateSetQuerySet.due
    monkeypatch.setattr(CandidateSetQuerySet, "due", lambda self, now: due(self, now).exclude(state=CandidateSet.State.GENERATING))
    candidate_set = only_set()
    killed_at = fleet.crash_once("before_call", "set", str(candidate_set.pk))
    with pytest.raises(AssertionError, match="the sweep found the set"):
        check_found_and_made_once(candidate_set, point="before_call", killed_at=killed_at, broker=broker, endpoint=offline_endpoint)


def test_r10_sabotage_during_the_call_a_lease_of_ten_minutes(fleet, broker, offline_endpoint):
    """The control: the claim of the killed process is not renewed each few seconds but long from the start."""
    candidate_set = only_set()
    offline_endpoint.set(delay_seconds=0.6)
    killed_at = fleet.crash_once("during_call", "set", str(candidate_set.pk), FAULT_LEASE="600")
    with pytest.raises(AssertionError, match="the sweep found the set"):
        check_found_and_made_once(candidate_set, point="during_call", killed_at=killed_at, broker=broker, endpoint=offline_endpoint)


def test_r10_sabotage_after_the_call_an_attempt_that_is_not_stored_before_it(fleet, broker, offline_endpoint):
    """The control: reserving, calling and storing are one transaction, so that the killed call leaves no trace and no charge."""
    candidate_set = only_set()
    killed_at = fleet.crash_once("after_call", "set", str(candidate_set.pk), FAULT_SABOTAGE="call_inside_transaction")
    assert offline_endpoint.calls == 1
    assert GenerationPolicy.objects.get().committed == 0, "nobody knows of the call that was served"
    with pytest.raises(AssertionError, match="the killed call was seen"):
        check_found_and_made_once(candidate_set, point="after_call", killed_at=killed_at, broker=broker, endpoint=offline_endpoint)


def check_one_suspect_is_handed_out(study) -> None:
    """Messages of sets whose workers died again and again, one short of the last try, come together after they waited."""
    now = timezone.now()
    sets = CandidateSet.objects.filter(recipe__study=study).order_by("pk")
    dead = {"state": "GENERATING", "claim_token": uuid.uuid4(), "claimed_until": now - timedelta(seconds=1)}
    sets.update(**dead, failures=claiming.MAX_FAILURES - 2)
    claims = [claiming.claim_set(candidate_set.pk, uuid.uuid4(), now) for candidate_set in sets]
    assert [claim is not None for claim in claims] == [True, False, False]


def test_r10_messages_that_waited_hand_out_one_suspect_at_a_time():
    check_one_suspect_is_handed_out(make_study(["Yesterday?", "Today?", "Tomorrow?"]))


def test_r10_a_suspect_of_a_paused_study_holds_up_no_other():
    paused = make_study(["Last year?"])
    CandidateSet.objects.update(
        state="GENERATING", claim_token=uuid.uuid4(), claimed_until=timezone.now() - timedelta(hours=1), failures=claiming.MAX_FAILURES - 2
    )
    GenerationPolicy.objects.filter(study=paused).update(is_paused=True)
    check_one_suspect_is_handed_out(make_study(["Yesterday?", "Today?", "Tomorrow?"]))


def test_r10_sabotage_messages_that_waited_where_the_sweep_alone_keeps_suspects_apart(monkeypatch):
    monkeypatch.setattr(claiming, "suspects_that_wait", lambda now: [])
    with pytest.raises(AssertionError, match="True, True"):
        check_one_suspect_is_handed_out(make_study(["Yesterday?", "Today?", "Tomorrow?"]))


def check_delivered_again_changes_nothing(candidate_set: CandidateSet, endpoint) -> None:
    """The message of a set that was made comes again, since its worker died before it acknowledged it."""
    before = CandidateSet.objects.values().get()
    assert (before["state"], endpoint.calls) == (CandidateSet.State.READY, CALLS_PER_SET)
    with suppress(Exception):  # Celery logs it and goes on; the rows tell
        tasks.generate_set(candidate_set.pk)
    assert sweep(now=timezone.now()) == 0
    assert CandidateSet.objects.values().get() == before, "the set is as it was"
    assert endpoint.calls == CALLS_PER_SET
    assert candidate_set.candidates.count() == 4


def test_r10_a_message_that_comes_again_after_the_commit_changes_nothing(fleet, offline_endpoint):
    candidate_set = only_set()
    fleet.crash_once("after_commit", "set", str(candidate_set.pk))
    check_delivered_again_changes_nothing(candidate_set, offline_endpoint)


def test_r10_sabotage_after_the_commit_a_claim_without_its_condition(fleet, offline_endpoint, monkeypatch):
    """The control: whoever gets the message takes the set, whatever its state."""

    def claim_without_condition(pk, token, now):
        CandidateSet.objects.filter(pk=pk).update(state="GENERATING", claim_token=token, claimed_until=now + claiming.LEASE)
        return claiming.Claim(CandidateSet.objects.select_related("recipe__study").get(pk=pk), token, now)

    candidate_set = only_set()
    fleet.crash_once("after_commit", "set", str(candidate_set.pk))
    monkeypatch.setattr(making, "claim_set", claim_without_condition)
    with pytest.raises(AssertionError, match="the set is as it was"):
        check_delivered_again_changes_nothing(candidate_set, offline_endpoint)


# --- Between commit and enqueue ---------------------------------------------------------------------------------------

WISHES = {"live": "interactive", "bulk": "bulk"}


def die_before_enqueueing(fleet, kind: str) -> CandidateSet:
    """A set wished for by a process that was killed after its commit and before it told the broker."""
    study = make_study([] if kind == "live" else ["How should I spend the day?"])
    fleet.crash_once("before_enqueue", kind, str(study.recipes.get().pk if kind == "live" else study.pk))
    return CandidateSet.objects.get()


def check_carried_out_once(candidate_set: CandidateSet, *, queue: str, broker, endpoint) -> None:
    """The wish stands in the rows alone; the sweep hands it out, and once it is carried out nothing more comes of it."""
    assert [broker.llen(name) for name in WISHES.values()] == [0, 0]
    now = timezone.now()
    sweep(now=now)
    assert broker.llen(queue) == 1, "the sweep found the wish"
    sweep(now=now)
    assert broker.llen(queue) == 2, "a message too many does no harm"
    outcomes = [generate_set(candidate_set_id=candidate_set.pk, now=timezone.now()) for _ in range(2)]
    assert outcomes == [Outcome.READY, Outcome.NOT_CLAIMED]
    assert (endpoint.calls, candidate_set.candidates.count()) == (CALLS_PER_SET, 4)
    assert sweep(now=timezone.now()) == 0


@pytest.mark.parametrize("kind", WISHES)
def test_r13_a_committed_wish_whose_message_was_never_sent_is_carried_out_once(fleet, broker, offline_endpoint, kind):
    candidate_set = die_before_enqueueing(fleet, kind)
    check_carried_out_once(candidate_set, queue=WISHES[kind], broker=broker, endpoint=offline_endpoint)


@pytest.mark.parametrize("kind", WISHES)
def test_r13_sabotage_a_sweep_blind_to_untried_sets(fleet, broker, offline_endpoint, monkeypatch, kind):
    """The control: only retries and dead claims count as due."""
    due = CandidateSetQuerySet.due
    untried = Q(state=CandidateSet.State.PENDING, retry_at__isnull=True)
    candidate_set = die_before_enqueueing(fleet, kind)
    monkeypatch.setattr(CandidateSetQuerySet, "due", lambda self, now: due(self, now).exclude(untried))
    with pytest.raises(AssertionError, match="the sweep found the wish"):
        check_carried_out_once(candidate_set, queue=WISHES[kind], broker=broker, endpoint=offline_endpoint)
    candidate_set.refresh_from_db()
    assert candidate_set.state == CandidateSet.State.PENDING
