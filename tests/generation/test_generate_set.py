"""A set becomes READY whole or not at all, whatever the endpoint, the worker or a second worker does."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.core.text import fingerprint, text_hash
from apps.generation import services
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, InstructionTemplate, ModelSpec
from apps.generation.services import (
    Outcome,
    generate_set,
    making,
    request_candidate_set,
    request_live_set,
    requesting,
    retry_failed_sets,
    sweep,
    sweeping,
)
from tests.endpoints import wait_until
from tests.generation.conftest import PHONES_EN

STATE = CandidateSet.State
ATTEMPT = GenerationAttempt.State


@pytest.fixture
def candidate_set(recipe) -> CandidateSet:
    return request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)


@pytest.fixture
def enqueued(monkeypatch) -> list[tuple[str, int, str]]:
    """What was handed to the broker: (task, id, queue)."""
    sent: list[tuple[str, int, str]] = []
    for module in (requesting, sweeping):
        monkeypatch.setattr(module, "enqueue_on_commit", lambda name, pk, queue: sent.append((name, pk, queue)))
    return sent


@pytest.fixture
def threads(transactional_db) -> None:
    """For tests whose threads write at once. SQLite in memory shares one cache and answers "table is locked" where a file waits."""
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        pytest.skip("threads that write need a database in a file or on PostgreSQL")


def run(candidate_set: CandidateSet, later: float = 0) -> Outcome:
    """Play the worker, `later` seconds from now."""
    outcome = generate_set(candidate_set_id=candidate_set.pk, now=timezone.now() + timedelta(seconds=later))
    candidate_set.refresh_from_db()
    return outcome


def attempts(candidate_set: CandidateSet) -> list[tuple[str, int, str, str]]:
    rows = candidate_set.attempts.order_by("recipe_part__order", "number")
    return [(row.recipe_part.method, row.number, row.state, row.error_code) for row in rows]


def test_a_set_is_made_of_its_parts_in_order(offline_endpoint, candidate_set):
    assert run(candidate_set) == Outcome.READY
    candidates = list(candidate_set.candidates.all())
    assert [candidate.slot for candidate in candidates] == [0, 1, 2, 3]
    assert [candidate.source for candidate in candidates] == ["negatively_correlated"] * 3 + ["default"]
    assert all(candidate.text_fingerprint == fingerprint(candidate.text) for candidate in candidates)
    assert (candidate_set.state, candidate_set.claim_token, candidate_set.error_code) == (STATE.READY, None, "")
    assert attempts(candidate_set) == [("negatively_correlated", 1, ATTEMPT.SUCCEEDED, ""), ("default", 1, ATTEMPT.SUCCEEDED, "")]
    attempt = candidates[0].attempt
    assert attempt.parameters["max_tokens"] == 1200
    assert attempt.template_hash == attempt.recipe_part.template.hash_in("en")
    assert attempt.cost == round((attempt.input_tokens * 2 + attempt.output_tokens * 10) / 1_000_000, 6) or attempt.cost > 0
    assert attempt.finished_at >= attempt.started_at
    assert offline_endpoint.calls == 2


@pytest.mark.parametrize(
    ("switches", "code"),
    [
        ({"status": 500}, "endpoint_error_500"),
        ({"status": 401}, "endpoint_error_401"),
        ({"mode": "html"}, "malformed_response"),
        ({"mode": "malformed"}, "malformed_response"),
        ({"mode": "truncated"}, "truncated"),
        ({"mode": "empty"}, "wrong_count"),
        ({"mode": "duplicate"}, "duplicate_answers"),
        ({"mode": "collision"}, "duplicate_answers"),
        ({"mode": "wrong_count"}, "wrong_count"),
        ({"mode": "huge"}, "too_large"),
        ({"hang": True}, "endpoint_timeout"),
    ],
)
def test_a_bad_answer_leaves_an_attempt_row_and_no_candidate_and_the_next_try_mends_it(offline_endpoint, candidate_set, switches, code):
    offline_endpoint.set(**switches)
    if "hang" in switches:
        ModelSpec.objects.update(timeout_seconds=1)
    assert run(candidate_set) == Outcome.RETRY
    assert (candidate_set.state, candidate_set.error_code, candidate_set.failures) == (STATE.PENDING, code, 1)
    assert candidate_set.candidates.count() == 0
    failed = candidate_set.attempts.get(state=ATTEMPT.FAILED)
    assert failed.error_code == code
    assert failed.error_detail
    offline_endpoint.set()
    assert run(candidate_set) == Outcome.NOT_CLAIMED, "a retry waits for its time"
    assert run(candidate_set, later=10) == Outcome.READY
    assert candidate_set.candidates.count() == 4


def test_after_four_failures_the_set_is_failed_and_a_retry_starts_afresh(offline_endpoint, candidate_set, enqueued):
    offline_endpoint.set(status=500)
    outcomes = [run(candidate_set, later=100 * turn) for turn in range(5)]
    assert outcomes == [Outcome.RETRY, Outcome.RETRY, Outcome.RETRY, Outcome.FAILED, Outcome.NOT_CLAIMED]
    assert (candidate_set.state, candidate_set.failures, candidate_set.error_code) == (STATE.FAILED, 4, "endpoint_error_500")
    assert offline_endpoint.calls == 4
    assert retry_failed_sets(candidate_set_ids=[candidate_set.pk]) == 1
    assert enqueued == [("generation.generate_set", candidate_set.pk, "bulk")]
    offline_endpoint.set()
    assert run(candidate_set) == Outcome.READY
    assert retry_failed_sets(study=candidate_set.recipe.study) == 0


def test_waits_grow_and_respect_what_the_endpoint_asks(offline_endpoint, candidate_set):
    offline_endpoint.set(status=500)
    waits = []
    for turn in range(3):
        now = timezone.now() + timedelta(seconds=100 * turn)
        generate_set(candidate_set_id=candidate_set.pk, now=now)
        candidate_set.refresh_from_db()
        waits.append((candidate_set.retry_at - now).total_seconds())
    assert all(low <= wait <= high + 1 for wait, low, high in zip(waits, [2.5, 5, 10], [7.5, 15, 30], strict=True))
    retry_failed_sets(study=candidate_set.recipe.study)
    CandidateSet.objects.update(state=STATE.PENDING, failures=0, retry_at=None)
    offline_endpoint.set(status=429, retry_after=120)
    run(candidate_set)
    assert candidate_set.retry_at > timezone.now() + timedelta(seconds=110)


def test_a_part_that_was_fine_is_not_asked_for_again(offline_endpoint, candidate_set, monkeypatch):
    InstructionTemplate.objects.filter(key="default").update(text_en=None)
    assert run(candidate_set) == Outcome.FAILED
    assert candidate_set.error_code == "instruction_missing"
    assert offline_endpoint.calls == 1
    InstructionTemplate.objects.filter(key="default").update(text_en="Answer in English.")
    retry_failed_sets(candidate_set_ids=[candidate_set.pk])
    assert run(candidate_set, later=10) == Outcome.READY
    assert offline_endpoint.calls == 2
    assert attempts(candidate_set) == [("negatively_correlated", 1, ATTEMPT.SUCCEEDED, ""), ("default", 1, ATTEMPT.SUCCEEDED, "")]


def test_when_two_parts_give_the_same_text_only_the_later_is_asked_again(offline_endpoint, candidate_set):
    offline_endpoint.set(mode="collision")
    assert run(candidate_set) == Outcome.RETRY
    offline_endpoint.set()
    assert run(candidate_set, later=10) == Outcome.READY
    assert offline_endpoint.calls == 3
    assert attempts(candidate_set) == [
        ("negatively_correlated", 1, ATTEMPT.SUCCEEDED, ""),
        ("default", 1, ATTEMPT.FAILED, "duplicate_answers"),
        ("default", 2, ATTEMPT.SUCCEEDED, ""),
    ]


def test_independent_answers_of_one_part_are_one_call_each(offline_endpoint, recipe, candidate_set):
    recipe.parts.filter(method="default").update(count=2)
    CandidateSet.objects.update(messages=[{"role": "user", "content": "Something that no bank knows"}], k=5)
    for turn in range(4):
        if run(candidate_set, later=100 * turn) == Outcome.READY:
            break
    assert candidate_set.state == STATE.READY, attempts(candidate_set)
    assert [candidate.slot for candidate in candidate_set.candidates.all()] == [0, 1, 2, 3, 4]
    numbers = [row.number for row in candidate_set.attempts.filter(recipe_part__method="default").order_by("number")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_set_that_its_recipe_no_longer_fits_is_not_ready(offline_endpoint, recipe, candidate_set):
    recipe.parts.filter(method="default").delete()
    assert run(candidate_set) == Outcome.RETRY
    assert candidate_set.error_code == "recipe_changed"
    assert not Candidate.objects.exists()


def test_a_ready_set_is_frozen(offline_endpoint, candidate_set):
    run(candidate_set)
    before = list(candidate_set.candidates.values_list("pk", "text"))
    assert run(candidate_set, later=10_000) == Outcome.NOT_CLAIMED
    assert list(candidate_set.candidates.values_list("pk", "text")) == before
    assert offline_endpoint.calls == 2


def test_a_dead_workers_claim_runs_out_and_its_call_is_closed(offline_endpoint, recipe, candidate_set):
    now = timezone.now()
    CandidateSet.objects.update(state=STATE.GENERATING, claim_token=uuid.uuid4(), claimed_until=now + timedelta(seconds=30))
    GenerationAttempt.objects.create(
        candidate_set=candidate_set, recipe_part=recipe.parts.first(), number=1, template_hash="x", parameters={}, started_at=now
    )
    assert run(candidate_set) == Outcome.NOT_CLAIMED
    assert run(candidate_set, later=31) == Outcome.READY
    assert candidate_set.failures == 1
    assert attempts(candidate_set)[0] == ("negatively_correlated", 1, ATTEMPT.FAILED, "worker_lost")


def test_a_set_that_kills_its_workers_stops(offline_endpoint, candidate_set):
    past = timezone.now() - timedelta(seconds=1)
    CandidateSet.objects.update(state=STATE.GENERATING, claim_token=uuid.uuid4(), claimed_until=past, failures=3)
    assert run(candidate_set) == Outcome.NOT_CLAIMED
    assert (candidate_set.state, candidate_set.error_code) == (STATE.FAILED, "worker_lost")
    assert offline_endpoint.calls == 0


def test_an_unforeseen_error_counts_as_a_failure_and_reaches_celery(offline_endpoint, candidate_set, monkeypatch, caplog):
    from apps.generation import tasks

    monkeypatch.setattr(making, "complete", lambda **arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tasks.generate_set(candidate_set.pk)
    candidate_set.refresh_from_db()
    assert (candidate_set.state, candidate_set.failures, candidate_set.error_code) == (STATE.PENDING, 1, "unexpected_error")
    assert attempts(candidate_set) == [("negatively_correlated", 1, ATTEMPT.FAILED, "unexpected_error")]
    assert "broke its worker" in caplog.text


def test_no_call_is_made_inside_a_transaction(offline_endpoint, candidate_set, monkeypatch):
    depths = []
    real = making.complete

    def watched(**arguments):
        depths.append(len(connection.savepoint_ids))
        return real(**arguments)

    monkeypatch.setattr(making, "complete", watched)
    outside = len(connection.savepoint_ids)
    assert run(candidate_set) == Outcome.READY
    assert depths == [outside, outside]


def test_a_live_set_answers_the_last_message_in_its_language(offline_endpoint, recipe, enqueued):
    messages = [
        {"role": "user", "content": PHONES_EN},
        {"role": "assistant", "content": "Oui."},
        {"role": "user", "content": "Et si\x00 personne n'accepte ?"},
    ]
    live = request_live_set(recipe=recipe, language="fr", messages=messages)
    assert enqueued == [("generation.generate_set", live.pk, "interactive")]
    assert live.messages[-1]["content"] == "Et si personne n'accepte ?"
    assert live.text_hash == text_hash("Et si personne n'accepte ?")
    for turn in range(3):
        if run(live, later=10 * turn) == Outcome.READY:
            break
    assert live.candidates.count() == 4, [(row.error_code, row.error_detail) for row in live.attempts.all()]
    assert all(candidate.text.startswith("Réponse") for candidate in live.candidates.all())


def test_a_set_is_keyed_by_text_language_and_recipe(recipe, candidate_set):
    assert request_candidate_set(recipe=recipe, language="en", text=f" {PHONES_EN}\r\n") == candidate_set
    french = request_candidate_set(recipe=recipe, language="fr", text=PHONES_EN)
    assert french != candidate_set
    assert french.seed != candidate_set.seed
    candidate_set.state = STATE.REJECTED
    candidate_set.save(update_fields=["state"])
    again = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    assert (again != candidate_set, again.state, again.seed) == (True, STATE.PENDING, candidate_set.seed)


def test_a_sweep_brings_back_what_got_lost_and_does_not_flood(recipe, candidate_set, enqueued):
    now = timezone.now()
    live = request_live_set(recipe=recipe, language="en", messages=[{"role": "user", "content": "hello"}])
    dead = request_candidate_set(recipe=recipe, language="en", text="dead")
    waiting = request_candidate_set(recipe=recipe, language="en", text="waiting")
    CandidateSet.objects.filter(pk=dead.pk).update(
        state=STATE.GENERATING, claim_token=uuid.uuid4(), claimed_until=now - timedelta(seconds=1)
    )
    CandidateSet.objects.filter(pk=waiting.pk).update(retry_at=now + timedelta(seconds=50), failures=1)
    attempt = GenerationAttempt.objects.create(
        candidate_set=dead, recipe_part=recipe.parts.first(), number=1, template_hash="x", parameters={}, started_at=now
    )
    enqueued.clear()
    assert sweep(now=now) == 2
    assert sorted((pk, queue) for _, pk, queue in enqueued) == sorted([(live.pk, "interactive"), (dead.pk, "bulk")])
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code) == (ATTEMPT.FAILED, "worker_lost")
    enqueued.clear()
    sweep(now=now + timedelta(seconds=60))
    assert {pk for _, pk, _ in enqueued} == {live.pk, dead.pk, waiting.pk, candidate_set.pk}


def test_a_message_delivered_twice_makes_one_call_for_each_part(threads, offline_endpoint, candidate_set):
    offline_endpoint.set(delay_seconds=0.3)
    outcomes = in_threads(4, lambda: generate_set(candidate_set_id=candidate_set.pk, now=timezone.now()))
    assert sorted(outcomes) == [Outcome.NOT_CLAIMED] * 3 + [Outcome.READY]
    assert offline_endpoint.calls == 2
    assert candidate_set.candidates.count() == 4


def test_a_worker_that_comes_back_late_changes_nothing(threads, offline_endpoint, candidate_set):
    offline_endpoint.set(delay_seconds=0.8, times=1)
    outcomes = []

    def late_worker():
        try:
            outcomes.append(generate_set(candidate_set_id=candidate_set.pk, now=timezone.now()))
        finally:
            connection.close()

    thread = threading.Thread(target=late_worker)
    thread.start()
    wait_until(lambda: offline_endpoint.in_flight == 1)
    CandidateSet.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    assert run(candidate_set) == Outcome.READY
    made = list(candidate_set.candidates.values_list("pk", "text"))
    thread.join(5)
    assert outcomes == [Outcome.NOT_CLAIMED]
    assert list(candidate_set.candidates.values_list("pk", "text")) == made
    late = candidate_set.attempts.get(error_code="worker_lost")
    assert late.output_tokens > 0, "the call was paid for, so what it used is kept"
    assert late.state == ATTEMPT.FAILED


def test_a_set_erased_while_its_call_runs_keeps_no_word(offline_endpoint, recipe, monkeypatch):
    live = request_live_set(recipe=recipe, language="en", messages=[{"role": "user", "content": "my own words"}])
    real = making.complete

    def erased_meanwhile(**arguments):
        completion = real(**arguments)
        services.erase_live_sets(candidate_set_ids=[live.pk])
        return completion

    monkeypatch.setattr(making, "complete", erased_meanwhile)
    assert run(live) == Outcome.NOT_CLAIMED
    assert (live.state, live.messages) == (STATE.REJECTED, [])
    attempt = live.attempts.get()
    assert (attempt.raw_output, attempt.state) == ("", ATTEMPT.FAILED)
    assert attempt.output_tokens > 0


def test_two_that_ask_at_once_for_a_set_get_the_same(threads, recipe):
    barrier = threading.Barrier(4)

    def ask() -> int:
        barrier.wait(5)
        return request_candidate_set(recipe=recipe, language="en", text="the same text").pk

    assert len(set(in_threads(4, ask))) == 1
    assert CandidateSet.objects.count() == 1


def in_threads(count: int, work) -> list:
    results, errors = [], []

    def body():
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not errors
    return results


def test_a_missing_key_fails_at_once_and_names_the_variable(candidate_set, monkeypatch):
    """No call can mend it, so four tries would only make the researcher wait."""
    monkeypatch.delenv("VENDOR_KEY", raising=False)
    ModelSpec.objects.update(api_key_variable="VENDOR_KEY")
    assert generate_set(candidate_set_id=candidate_set.pk, now=timezone.now()) == Outcome.FAILED
    candidate_set.refresh_from_db()
    assert (candidate_set.failures, candidate_set.error_code) == (1, "api_key_missing")
    assert "VENDOR_KEY" in candidate_set.attempts.get().error_detail
