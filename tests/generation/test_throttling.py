"""Places, rates and pauses of an endpoint hold over all workers, and waiting for them is no failure."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from apps.generation.client import EndpointError
from apps.generation.models import CandidateSet, GenerationAttempt, ModelSpec
from apps.generation.services import Outcome, generate_set, making, request_candidate_set, request_live_set, retry_failed_sets, throttling
from apps.generation.services.throttling import EndpointPaused, MustWait, check_place, note_outcome
from tests.factories import ModelSpecFactory
from tests.generation.conftest import PHONES_EN

STATE = CandidateSet.State


@pytest.fixture
def spec(study) -> ModelSpec:
    return study.model_specs.get()


@pytest.fixture
def candidate_set(recipe) -> CandidateSet:
    return request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(making, "PATIENCE_SECONDS", 0)


def attempt(candidate_set: CandidateSet, spec: ModelSpec, number: int, *, ago: float = 0, state: str = "CALLING", **fields):
    return GenerationAttempt.objects.create(
        candidate_set=candidate_set, recipe_part=candidate_set.recipe.parts.first(), model_spec=spec, number=number, state=state,
        template_hash="x", parameters={"most_tokens": 500}, started_at=timezone.now() - timedelta(seconds=ago), **fields,
    )  # fmt: skip


def passes(spec: ModelSpec, *, is_live: bool = False, tokens: int = 100) -> bool:
    try:
        check_place(spec, is_live=is_live, tokens=tokens, now=timezone.now())
    except MustWait:
        return False
    return True


def run(candidate_set: CandidateSet, later: float = 0) -> Outcome:
    outcome = generate_set(candidate_set_id=candidate_set.pk, now=timezone.now() + timedelta(seconds=later))
    candidate_set.refresh_from_db()
    return outcome


def test_bulk_leaves_one_place_to_live_turns(spec, candidate_set):
    spec.concurrency = 2
    assert passes(spec)
    attempt(candidate_set, spec, 90)
    assert (passes(spec), passes(spec, is_live=True)) == (False, True)
    attempt(candidate_set, spec, 91)
    assert not passes(spec, is_live=True)
    spec.concurrency = 1
    GenerationAttempt.objects.all().delete()
    assert passes(spec), "a single place is everybody's"


def test_requests_of_the_last_minute_are_counted(spec, candidate_set):
    spec.requests_per_minute = 3
    attempt(candidate_set, spec, 90, ago=61, state="SUCCEEDED")
    attempt(candidate_set, spec, 91, ago=50, state="FAILED")
    assert passes(spec)
    attempt(candidate_set, spec, 92, ago=20, state="SUCCEEDED")
    assert (passes(spec), passes(spec, is_live=True)) == (False, True)
    with pytest.raises(MustWait) as wait:
        check_place(spec, is_live=False, tokens=1, now=timezone.now())
    assert 8 < (wait.value.until - timezone.now()).total_seconds() < 11, "when the one of 50 s ago falls out of the minute"


def test_tokens_of_the_last_minute_are_counted(spec, candidate_set):
    spec.tokens_per_minute = 1000
    assert passes(spec, tokens=5000), "a call above the limit passes alone"
    attempt(candidate_set, spec, 90, ago=30, state="SUCCEEDED", input_tokens=100, output_tokens=300)
    assert passes(spec, tokens=600)
    assert not passes(spec, tokens=601)
    attempt(candidate_set, spec, 91, ago=10)
    assert passes(spec, tokens=100)
    assert not passes(spec, tokens=101), "a call in flight counts with what it may use"


def test_a_set_without_a_place_goes_back_and_nothing_is_counted_against_it(impatient, offline_endpoint, spec, candidate_set):
    ModelSpec.objects.update(concurrency=1)
    other = request_candidate_set(recipe=candidate_set.recipe, language="fr", text="Comment passer mon jour libre ?")
    attempt(other, spec, 90)
    assert run(candidate_set) == Outcome.WAITING
    assert (candidate_set.state, candidate_set.failures, candidate_set.error_code) == (STATE.PENDING, 0, "waiting_for_endpoint")
    assert candidate_set.retry_at < timezone.now() + timedelta(seconds=6)
    GenerationAttempt.objects.all().delete()
    assert run(candidate_set, later=10) == Outcome.READY


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_rests_the_whole_endpoint(impatient, offline_endpoint, spec, candidate_set, status):
    offline_endpoint.set(status=status, retry_after=40)
    run(candidate_set)
    spec.refresh_from_db()
    assert 30 < (spec.paused_until - timezone.now()).total_seconds() <= 40
    other = request_candidate_set(recipe=candidate_set.recipe, language="fr", text="Comment passer mon jour libre ?")
    assert run(other) == Outcome.WAITING
    assert (other.error_code, other.failures) == ("endpoint_paused", 0)
    assert other.retry_at >= spec.paused_until
    assert offline_endpoint.calls == 1


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("locked", [True, False])
def test_r10_no_more_calls_at_once_than_places_over_all_workers(offline_endpoint, study, spec, recipe, monkeypatch, locked):
    """Sixteen workers, four places: three for bulk. Without the row lock (the sabotage twin) more get through."""
    if not locked:
        from apps.generation.models import GenerationPolicy
        from apps.generation.services import spending

        def unlocked(study_id, model_spec_id):
            return GenerationPolicy.objects.get(study_id=study_id), ModelSpec.objects.get(pk=model_spec_id)

        GenerationPolicy.objects.create(study=study)
        monkeypatch.setattr(spending, "lock_purses", unlocked)
    # A call that timed out on a loaded machine would free its place while the server is still at it.
    ModelSpec.objects.update(concurrency=4, timeout_seconds=60)
    offline_endpoint.set(delay_seconds=0.3)
    sets = [request_candidate_set(recipe=recipe, language="en", text=f"Question number {number}?") for number in range(16)]
    barrier = threading.Barrier(len(sets))

    def work(candidate_set):
        barrier.wait(30)
        try:
            return generate_set(candidate_set_id=candidate_set.pk, now=timezone.now())
        finally:
            connection.close()

    with ThreadPoolExecutor(len(sets)) as pool:
        list(pool.map(work, sets))
    most = offline_endpoint.server.most_in_flight
    assert most == 3 if locked else most > 3


# --- Circuit breaker --------------------------------------------------------------------------------------------------

DOWN = EndpointError("endpoint_unreachable", "down")


def fail(spec: ModelSpec, times: int, now) -> None:
    for _ in range(times):
        note_outcome(spec, DOWN, now=now)


def test_five_failures_in_a_row_open_the_breaker_and_the_pause_doubles(spec):
    now = timezone.now()
    fail(spec, 4, now)
    assert spec.paused_until is None
    fail(spec, 1, now)
    assert spec.paused_until == now + timedelta(seconds=30)
    fail(spec, 20, now)
    assert spec.paused_until == now + timedelta(seconds=30), "calls that were under way change nothing"
    pauses = []
    for _ in range(7):
        now = spec.paused_until
        fail(spec, 1, now)
        pauses.append((spec.paused_until - now).total_seconds())
    assert pauses == [60, 120, 240, 480, 600, 600, 600]


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (EndpointError("endpoint_timeout", "x"), 3),
        (EndpointError("endpoint_error_500", "x"), 3),
        (EndpointError("endpoint_error_401", "x"), 0),
        (EndpointError("malformed_response", "x"), 0),
        (EndpointError("api_key_missing", "x"), 2),
        (None, 0),
    ],
)
def test_only_the_endpoints_own_failures_count(spec, error, counts):
    spec.failures_in_row = 2
    note_outcome(spec, error, now=timezone.now())
    assert spec.failures_in_row == counts


def test_a_half_open_breaker_lets_one_call_through(spec, candidate_set):
    now = timezone.now()
    fail(spec, 5, now - timedelta(seconds=31))
    assert passes(spec)
    probe = attempt(candidate_set, spec, 90)
    assert not passes(spec, is_live=True)
    probe.delete()
    note_outcome(spec, None, now=now)
    attempt(candidate_set, spec, 91)
    assert passes(spec)


def test_an_open_breaker_rests_the_sets_and_shows(impatient, offline_endpoint, study, spec, candidate_set, prompt, monkeypatch, capsys):
    fail(spec, 5, timezone.now())
    with pytest.raises(EndpointPaused):
        check_place(spec, is_live=True, tokens=1, now=timezone.now())
    assert run(candidate_set) == Outcome.WAITING
    assert offline_endpoint.calls == 0
    from apps.generation.management.commands import pregenerate

    monkeypatch.setattr(pregenerate, "enqueue_pending", lambda study: 0)
    monkeypatch.setattr(pregenerate.Command, "_wait", lambda *arguments: None)
    with pytest.raises(CommandError, match="1 × endpoint_paused"):
        call_command("pregenerate", study.slug)
    assert "offline rests until" in capsys.readouterr().out


def test_whoever_retries_failed_sets_closes_the_pause(offline_endpoint, spec, candidate_set, monkeypatch):
    fail(spec, 5, timezone.now())
    CandidateSet.objects.update(state=STATE.FAILED)
    assert retry_failed_sets(study=spec.study) == 1
    spec.refresh_from_db()
    assert (spec.paused_until, spec.failures_in_row) == (None, 5)
    assert run(candidate_set) == Outcome.READY


# --- Live turns -------------------------------------------------------------------------------------------------------


@pytest.fixture
def live(recipe) -> CandidateSet:
    return request_live_set(recipe=recipe, language="en", messages=[{"role": "user", "content": PHONES_EN}])


def test_a_replacement_is_asked_after_the_second_failure_of_a_live_turn(offline_endpoint, study, spec, live):
    replacement = ModelSpecFactory(study=study, key="replacement", base_url=offline_endpoint.url)
    ModelSpec.objects.filter(pk=spec.pk).update(base_url="http://127.0.0.1:9/v1", replacement=replacement)
    assert [run(live, later=10 * turn) for turn in range(3)] == [Outcome.RETRY, Outcome.RETRY, Outcome.READY]
    assert {candidate.model_spec for candidate in live.candidates.all()} == {replacement}
    asked = list(live.attempts.order_by("pk").values_list("model_spec__key", flat=True))
    assert asked == ["offline", "offline", "replacement", "replacement"]


def test_a_replacement_is_asked_at_once_where_the_endpoint_rests(offline_endpoint, study, spec, live):
    replacement = ModelSpecFactory(study=study, key="replacement", base_url=offline_endpoint.url)
    ModelSpec.objects.filter(pk=spec.pk).update(paused_until=timezone.now() + timedelta(minutes=5), replacement=replacement)
    assert run(live) == Outcome.READY


def test_a_live_turn_does_not_wait_for_the_breaker(impatient, offline_endpoint, spec, live):
    ModelSpec.objects.filter(pk=spec.pk).update(paused_until=timezone.now() + timedelta(minutes=5))
    assert [run(live, later=10 * turn) for turn in range(4)] == [Outcome.RETRY] * 3 + [Outcome.FAILED]
    assert live.error_code == "endpoint_paused"
    assert offline_endpoint.calls == 0


def test_pre_generation_never_asks_the_replacement(offline_endpoint, study, spec, candidate_set):
    replacement = ModelSpecFactory(study=study, key="replacement", base_url=offline_endpoint.url)
    ModelSpec.objects.filter(pk=spec.pk).update(base_url="http://127.0.0.1:9/v1", replacement=replacement)
    assert [run(candidate_set, later=100 * turn) for turn in range(4)][-1] == Outcome.FAILED
    assert throttling.BREAKER_FAILURES == 5
