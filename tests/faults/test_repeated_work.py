"""What a message too many and a worker that comes back late do to the rows: nothing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.generation.models import CandidateSet
from apps.generation.services import Outcome, claiming, generate_set, making
from tests.endpoints import wait_until
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
    assert call_longer_than_the_lease(offline_endpoint, monkeypatch) == [Outcome.READY, Outcome.NOT_CLAIMED]
    assert offline_endpoint.calls == 2


def test_r11_sabotage_without_the_heartbeat_the_call_is_made_twice(offline_endpoint, monkeypatch):
    monkeypatch.setattr(claiming, "LEASE", timedelta(seconds=1))
    monkeypatch.setattr(claiming.Heartbeat, "beat", lambda self: None)
    assert call_longer_than_the_lease(offline_endpoint, monkeypatch) == [Outcome.NOT_CLAIMED, Outcome.READY]
    assert offline_endpoint.calls > 2


def call_longer_than_the_lease(offline_endpoint, monkeypatch) -> list[Outcome]:
    """One worker calls; a second gets the message 1.5 s later, when an unrenewed lease of 1 s is over. The heartbeat is a new one:
    the process's own may still sleep for the seconds that it was told before.
    """
    monkeypatch.setattr(making, "heartbeat", claiming.Heartbeat())
    make_study(["How should I spend the day?"])
    pk = CandidateSet.objects.get().pk
    offline_endpoint.set(delay_seconds=2.2, times=1)
    outcomes: list[Outcome] = []

    def first():
        try:
            outcomes.append(generate_set(candidate_set_id=pk, now=timezone.now()))
        finally:
            connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    wait_until(lambda: offline_endpoint.in_flight == 1)
    time.sleep(1.5)
    second = generate_set(candidate_set_id=pk, now=timezone.now())
    thread.join(20)
    return [*outcomes, second]
