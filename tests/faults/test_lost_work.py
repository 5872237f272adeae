"""What a lost message, a message too many and a worker that comes back late do to the rows: nothing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.generation.models import CandidateSet, GenerationAttempt
from apps.generation.services import Outcome, claiming, generate_set, making, request_live_set, requesting, sweep
from tests.endpoints import wait_until
from tests.faults.conftest import QUEUES
from tests.faults.test_killed_workers import make_study

pytestmark = [pytest.mark.postgresql, pytest.mark.redis, pytest.mark.django_db(transaction=True)]


def deliver_many_times(candidate_set: CandidateSet, times: int = 6) -> list[Outcome | Exception]:
    barrier = threading.Barrier(times)

    def deliver(_):
        barrier.wait(20)
        try:
            return generate_set(candidate_set_id=candidate_set.pk, now=timezone.now())
        except Exception as error:  # the test looks at it
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(deliver, range(times)))


def test_r11_a_message_delivered_many_times_makes_its_calls_once(offline_endpoint):
    make_study(["How should I spend the day?"])
    offline_endpoint.set(delay_seconds=0.3)
    outcomes = deliver_many_times(CandidateSet.objects.get())
    assert sorted(outcomes) == [Outcome.NOT_CLAIMED] * 5 + [Outcome.READY]
    assert offline_endpoint.calls == 2


def test_r11_sabotage_without_the_claim_each_delivery_calls(offline_endpoint, monkeypatch):
    """The control: a claim that looks first and writes afterwards."""

    def claim_without_condition(pk, token, now):
        candidate_set = CandidateSet.objects.select_related("recipe__study").get(pk=pk)
        time.sleep(0.2)
        CandidateSet.objects.filter(pk=pk).update(state="GENERATING", claim_token=token, claimed_until=now + claiming.LEASE)
        candidate_set.refresh_from_db()
        return claiming.Claim(candidate_set, token, now)

    monkeypatch.setattr(making, "claim_set", claim_without_condition)
    monkeypatch.setattr(claiming.Claim, "holds", lambda self, row: True)
    make_study(["How should I spend the day?"])
    offline_endpoint.set(delay_seconds=0.3)
    deliver_many_times(CandidateSet.objects.get())
    assert offline_endpoint.calls > 2


def test_r11_a_heartbeat_keeps_a_call_longer_than_the_lease(offline_endpoint, monkeypatch):
    monkeypatch.setattr(claiming, "LEASE", timedelta(seconds=1))
    monkeypatch.setattr(claiming, "BEAT_SECONDS", 0.3)
    assert call_for_three_seconds(offline_endpoint) == [Outcome.READY, Outcome.NOT_CLAIMED]
    assert offline_endpoint.calls == 2


def test_r11_sabotage_without_the_heartbeat_the_call_is_made_twice(offline_endpoint, monkeypatch):
    monkeypatch.setattr(claiming, "LEASE", timedelta(seconds=1))
    monkeypatch.setattr(claiming.Heartbeat, "beat", lambda self: None)
    assert call_for_three_seconds(offline_endpoint) == [Outcome.NOT_CLAIMED, Outcome.READY]
    assert offline_endpoint.calls > 2


def call_for_three_seconds(offline_endpoint) -> list[Outcome]:
    """One worker calls; a second gets the message 2 s later, when an unrenewed lease of 1 s is over."""
    make_study(["How should I spend the day?"])
    pk = CandidateSet.objects.get().pk
    offline_endpoint.set(delay_seconds=3, times=1)
    outcomes: list[Outcome] = []

    def first():
        try:
            outcomes.append(generate_set(candidate_set_id=pk, now=timezone.now()))
        finally:
            connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    wait_until(lambda: offline_endpoint.in_flight == 1)
    time.sleep(2)
    second = generate_set(candidate_set_id=pk, now=timezone.now())
    thread.join(20)
    return [*outcomes, second]


def lose_the_message(monkeypatch) -> CandidateSet:
    """A live set committed by a process that ended before it told the broker."""
    study = make_study([])
    monkeypatch.setattr(requesting, "enqueue_on_commit", lambda *arguments, **options: None)
    return request_live_set(recipe=study.recipes.get(), language="en", messages=[{"role": "user", "content": "How do I begin?"}])


def test_r13_a_committed_wish_whose_message_was_lost_is_carried_out_once(broker, offline_endpoint, monkeypatch):
    live = lose_the_message(monkeypatch)
    assert broker.llen("interactive") == 0
    assert sweep(now=timezone.now()) == 1
    assert broker.llen("interactive") == 1
    sweep(now=timezone.now())
    assert broker.llen("interactive") == 2, "a message too many does no harm"
    assert [generate_set(candidate_set_id=live.pk, now=timezone.now()) for _ in range(2)] == [Outcome.READY, Outcome.NOT_CLAIMED]
    assert GenerationAttempt.objects.filter(candidate_set=live).count() == 2


def test_r13_sabotage_without_the_sweep_nobody_knows(broker, offline_endpoint, monkeypatch):
    live = lose_the_message(monkeypatch)
    time.sleep(1)
    assert [broker.llen(queue) for queue in QUEUES] == [0, 0, 0]
    live.refresh_from_db()
    assert live.state == CandidateSet.State.PENDING
