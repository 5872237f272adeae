"""Money: held before a call, settled after it, never above the ceiling, and always equal to a recount."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils import timezone

from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec
from apps.generation.selectors import NEVER
from apps.generation.services import (
    Outcome,
    generate_set,
    recount_endpoint,
    recount_study,
    request_candidate_set,
    request_live_set,
    spending,
    sweep,
    sweeping,
)
from tests.generation.conftest import PHONES_EN

STATE = CandidateSet.State
MICRO = Decimal("0.000001")


def run(candidate_set: CandidateSet, later: float = 0) -> Outcome:
    outcome = generate_set(candidate_set_id=candidate_set.pk, now=timezone.now() + timedelta(seconds=later))
    candidate_set.refresh_from_db()
    return outcome


@pytest.fixture
def policy(study) -> GenerationPolicy:
    return GenerationPolicy.objects.create(study=study)


@pytest.fixture
def spec(study) -> ModelSpec:
    return study.model_specs.get()


@pytest.fixture
def candidate_set(policy, recipe) -> CandidateSet:
    return request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)


def committed(study) -> tuple[Decimal, Decimal]:
    """Of the study and of its endpoint; both have to equal the recount."""
    policy, spec = GenerationPolicy.objects.get(study=study), study.model_specs.get()
    assert policy.committed == recount_study(study)
    assert spec.committed == recount_endpoint(spec)
    return policy.committed, spec.committed


def test_a_call_is_settled_to_what_it_cost(offline_endpoint, study, candidate_set):
    assert run(candidate_set) == Outcome.READY
    attempts = list(candidate_set.attempts.all())
    spent = sum(attempt.cost for attempt in attempts)
    assert committed(study) == (spent, spent)
    for attempt in attempts:
        assert 0 < attempt.cost < attempt.reserved
        # 2 and 10 a million tokens.
        assert attempt.cost == Decimal(attempt.input_tokens * 2 + attempt.output_tokens * 10) / 1_000_000
        assert attempt.latency_ms is not None


@pytest.mark.parametrize(
    ("switches", "is_charged"),
    [({"status": 500}, False), ({"status": 429}, False), ({"status": 502}, True), ({"mode": "malformed"}, True), ({"mode": "huge"}, True)],
)
def test_a_call_without_usage_costs_its_maximum_where_the_endpoint_may_have_worked(
    offline_endpoint, study, candidate_set, switches, is_charged
):
    offline_endpoint.set(**switches)
    run(candidate_set)
    attempt = candidate_set.attempts.get()
    assert attempt.cost == (attempt.reserved if is_charged else 0)
    assert committed(study)[0] == attempt.cost


def test_the_reservation_bounds_what_the_prompt_can_cost(spec):
    messages = [{"role": "user", "content": "नमस्ते " * 10}]
    size = len(messages[0]["content"].encode())
    assert spending.most_input_tokens(messages) > size
    assert spending.highest_price(spec, messages) >= Decimal(size * 2 + spec.max_tokens * 10) / 1_000_000


def test_a_set_without_money_waits_visibly_and_goes_on_once_there_is_some(offline_endpoint, study, policy, candidate_set, monkeypatch):
    sent = []
    monkeypatch.setattr(sweeping, "enqueue_on_commit", lambda name, pk, queue: sent.append(pk))
    other = request_candidate_set(recipe=candidate_set.recipe, language="fr", text="Comment passer mon jour libre ?")
    GenerationPolicy.objects.update(budget=MICRO)
    assert [run(candidate_set), run(other)] == [Outcome.WAITING] * 2
    assert (candidate_set.state, candidate_set.error_code, candidate_set.failures) == (STATE.PENDING, "budget_exhausted", 0)
    assert candidate_set.retry_at == NEVER
    assert offline_endpoint.calls == 0
    assert committed(study) == (0, 0)
    sweep(now=timezone.now())
    sweep(now=timezone.now())
    assert set(sent) == {candidate_set.pk}, "one is tried, not all of them"
    assert run(candidate_set) == Outcome.WAITING
    GenerationPolicy.objects.update(budget=10)
    later = timezone.now() + timedelta(seconds=5)
    assert sweep(now=later) == 1
    assert generate_set(candidate_set_id=sent[-1], now=later) == Outcome.READY
    assert sweep(now=later + timedelta(seconds=1)) == 1, "the others follow"
    assert run(other, later=10) == Outcome.READY
    committed(study)


def test_the_endpoint_has_a_ceiling_of_its_own(offline_endpoint, study, spec, candidate_set):
    ModelSpec.objects.update(budget=MICRO)
    assert run(candidate_set) == Outcome.WAITING
    assert candidate_set.error_code == "budget_exhausted"


def test_a_person_does_not_wait_for_a_budget(offline_endpoint, policy, recipe):
    GenerationPolicy.objects.update(budget=MICRO)
    live = request_live_set(recipe=recipe, language="en", messages=[{"role": "user", "content": "hello"}])
    assert run(live) == Outcome.FAILED
    assert live.error_code == "budget_exhausted"


def test_what_other_calls_hold_is_waited_for(offline_endpoint, study, policy, spec, recipe, candidate_set, monkeypatch):
    from apps.generation.services import making

    monkeypatch.setattr(making, "PATIENCE_SECONDS", 0)
    GenerationAttempt.objects.create(
        candidate_set=candidate_set, recipe_part=recipe.parts.last(), model_spec=spec, number=9, template_hash="x",
        parameters={}, started_at=timezone.now(), reserved=1,
    )  # fmt: skip
    GenerationPolicy.objects.update(budget=1, committed=1)
    assert run(candidate_set) == Outcome.WAITING
    assert candidate_set.error_code == "waiting_for_endpoint"
    assert candidate_set.retry_at < timezone.now() + timedelta(seconds=10)


def test_a_dead_workers_call_stays_charged_at_its_maximum(offline_endpoint, study, candidate_set, monkeypatch):
    from apps.generation.services import making

    def dies(**arguments):
        raise SystemExit

    monkeypatch.setattr(making, "complete", dies)
    with pytest.raises(SystemExit):
        run(candidate_set)
    attempt = candidate_set.attempts.get()
    assert (attempt.state, attempt.cost) == ("CALLING", 0)
    assert committed(study) == (attempt.reserved, attempt.reserved)
    CandidateSet.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    sweep(now=timezone.now())
    attempt.refresh_from_db()
    assert (attempt.error_code, attempt.cost) == ("worker_lost", attempt.reserved)
    assert committed(study)[0] == attempt.reserved


def test_a_form_saved_late_carries_no_old_figure_back(study, policy, spec):
    GenerationPolicy.objects.update(committed=7)
    ModelSpec.objects.update(committed=7, failures_in_row=3)
    policy.budget = 20
    policy.save()
    spec.concurrency = 5
    spec.save()
    policy.refresh_from_db()
    spec.refresh_from_db()
    assert (policy.budget, policy.committed) == (20, 7)
    assert (spec.concurrency, spec.committed, spec.failures_in_row) == (5, 7, 3)


CALLS = 32


def race(study, monkeypatch) -> Decimal:
    """32 workers at once, money for about a third of them; the most that was ever committed. Answers cost as much as they may."""
    from apps.generation.services import making

    recipe = study.recipes.get()
    recipe.parts.filter(method="default").delete()
    recipe.parts.update(count=4)
    monkeypatch.setattr(making, "PATIENCE_SECONDS", 0)
    sets = [request_candidate_set(recipe=recipe, language="en", text=f"Question number {number}?") for number in range(10, 10 + CALLS)]
    ModelSpec.objects.update(concurrency=100, max_tokens=1000)
    instruction = recipe.parts.get().template.text_en.replace("{count}", "4")
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": "Question number 10?"}]
    highest = spending.highest_price(study.model_specs.get(), messages)
    budget = highest * 10 + highest / 2
    GenerationPolicy.objects.update(budget=budget)
    peak, lock, barrier = Decimal(0), threading.Lock(), threading.Barrier(CALLS)

    def costs_all_it_may(**arguments):
        nonlocal peak
        with lock:
            peak = max(peak, recount_study(study))
        raise making.EndpointError("malformed_response", "The answer is no completion.")

    monkeypatch.setattr(making, "complete", costs_all_it_may)

    def work(candidate_set):
        barrier.wait(30)
        try:
            return generate_set(candidate_set_id=candidate_set.pk, now=timezone.now(), claim_token=uuid.uuid4())
        finally:
            connection.close()

    with ThreadPoolExecutor(CALLS) as pool:
        outcomes = list(pool.map(work, sets))
    assert outcomes.count(Outcome.RETRY) == GenerationAttempt.objects.count()
    return max(peak, recount_study(study)) / budget


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_s14_the_budget_is_never_exceeded_by_calls_in_parallel(study, policy, monkeypatch):
    assert race(study, monkeypatch) <= 1
    assert GenerationAttempt.objects.count() == 10
    committed(study)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_s14_sabotage_without_the_locks_the_budget_is_exceeded(study, policy, monkeypatch):
    """The control: the same check on rows that nobody locked lets calls through that there is no money for."""

    def unlocked(study_id, model_spec_id):
        rows = GenerationPolicy.objects.get(study_id=study_id), ModelSpec.objects.get(pk=model_spec_id)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.2)")
        return rows

    monkeypatch.setattr(spending, "lock_purses", unlocked)
    assert race(study, monkeypatch) > 1
