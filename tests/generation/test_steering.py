"""Pause, resume, cancel and the dry run of a pre-generation."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec
from apps.generation.selectors import NEVER, generation_progress
from apps.generation.services import (
    Outcome,
    cancel_generation,
    enqueue_pending,
    estimate_generation,
    generate_set,
    pause_generation,
    request_candidate_set,
    request_live_set,
    request_sets_for_study,
    requesting,
    resume_generation,
    retry_failed_sets,
    sweep,
    sweeping,
)
from tests.factories import PromptFactory

STATE = CandidateSet.State


@pytest.fixture
def enqueued(monkeypatch) -> list[int]:
    sent: list[int] = []
    for module in (requesting, sweeping):
        monkeypatch.setattr(module, "enqueue_on_commit", lambda name, pk, queue: sent.append(pk))
    monkeypatch.setattr(requesting, "enqueue_many", lambda name, pks, queue: sent.extend(pks))
    return sent


@pytest.fixture
def sets(study, prompt) -> list[CandidateSet]:
    request_sets_for_study(study=study)
    return list(CandidateSet.objects.order_by("pk"))


def run(candidate_set, later: float = 0) -> Outcome:
    return generate_set(candidate_set_id=candidate_set.pk, now=timezone.now() + timedelta(seconds=later))


def test_a_paused_study_begins_nothing_but_live_turns(offline_endpoint, study, recipe, sets, enqueued):
    pause_generation(study=study)
    assert run(sets[0]) == Outcome.NOT_CLAIMED
    assert enqueue_pending(study=study) == 0
    assert sweep(now=timezone.now() + timedelta(minutes=5)) == 0
    live = request_live_set(recipe=recipe, language="en", messages=[{"role": "user", "content": "How should I spend my free day?"}])
    assert run(live) in (Outcome.READY, Outcome.RETRY)
    enqueued.clear()
    assert resume_generation(study=study) == 2
    assert enqueued == [row.pk for row in sets]
    assert run(sets[0]) == Outcome.READY


def test_cancelled_sets_come_back_with_what_was_paid_for(offline_endpoint, study, recipe, sets, enqueued):
    recipe.parts.get(order=1).template.__class__.objects.filter(key="default").update(text_en=None)
    assert run(sets[0]) == Outcome.FAILED
    assert offline_endpoint.calls == 1
    assert retry_failed_sets(candidate_set_ids=[sets[0].pk]) == 1
    assert cancel_generation(study=study) == 2
    assert set(CandidateSet.objects.values_list("state", "error_code")) == {(STATE.FAILED, "cancelled")}
    assert run(sets[0], later=100) == Outcome.NOT_CLAIMED
    recipe.parts.get(order=1).template.__class__.objects.filter(key="default").update(text_en="Answer in English.")
    assert retry_failed_sets(study=study) == 2
    assert run(sets[0]) == Outcome.READY
    assert offline_endpoint.calls == 2, "the part that was answered is not asked for again"


def test_a_retry_is_enqueued_once_and_not_by_every_sweep(offline_endpoint, study, recipe, sets, enqueued):
    now = timezone.now()
    CandidateSet.objects.filter(pk=sets[0].pk).update(failures=1, retry_at=now)
    GenerationAttempt.objects.create(
        candidate_set=sets[1], recipe_part=recipe.parts.first(), number=1, template_hash="x", parameters={}, started_at=now
    )
    assert sweep(now=now + timedelta(seconds=1)) == 1
    assert sweep(now=now + timedelta(seconds=11)) == 0
    assert sweep(now=now + timedelta(seconds=21)) == 2, "once the work rests, its messages are taken for lost"


def test_the_command_pauses_resumes_and_cancels(study, prompt, enqueued, capsys):
    call_command("pregenerate", study.slug, "--pause")
    assert GenerationPolicy.objects.get().is_paused
    with pytest.raises(CommandError, match="--resume"):
        call_command("pregenerate", study.slug)
    call_command("pregenerate", study.slug, "--resume", "--no-wait")
    assert not GenerationPolicy.objects.get().is_paused
    assert "2 of 2" in capsys.readouterr().out
    call_command("pregenerate", study.slug, "--cancel")
    assert "2 candidate sets cancelled" in capsys.readouterr().out


def test_sets_that_wait_for_money_end_the_command_with_the_reason(offline_endpoint, study, sets, enqueued):
    GenerationPolicy.objects.create(study=study, budget=Decimal("0.000001"))
    for row in sets:
        assert run(row) == Outcome.WAITING
    with pytest.raises(CommandError, match=r"2 candidate sets without budget.*Raise the budget") as error:
        call_command("pregenerate", study.slug)
    assert "failed" not in str(error.value)


def test_sets_that_wait_for_money_are_not_done_in_the_progress(offline_endpoint, study, sets, enqueued, capsys):
    assert run(sets[0]) == Outcome.READY
    GenerationPolicy.objects.update(budget=Decimal("0.000001"))
    assert run(sets[1]) == Outcome.WAITING
    with pytest.raises(CommandError, match="1 candidate set without budget"):
        call_command("pregenerate", study.slug)
    said = capsys.readouterr()
    assert re.findall(r"(\d)/2 ", said.err)[-1] == "1"
    assert "1 without" in said.err  # the line ends where the terminal does
    assert "1 of 2 candidate sets ready" in said.out
    progress = generation_progress(study)
    assert (progress.ready, progress.pending, progress.without_budget, progress.total) == (1, 0, 1, 2)
    assert not progress.is_finished


def test_failed_held_and_unpaid_sets_are_told_apart(study, sets, enqueued):
    PromptFactory(study=study)
    request_sets_for_study(study=study)
    ids = list(CandidateSet.objects.order_by("pk").values_list("pk", flat=True))
    states = [("FAILED", "endpoint_timeout"), ("HELD", "diversity"), ("PENDING", "budget_exhausted"), ("READY", "")]
    for pk, (state, code) in zip(ids, states, strict=True):
        CandidateSet.objects.filter(pk=pk).update(state=state, error_code=code, ready_at=timezone.now(), retry_at=NEVER)
    with pytest.raises(CommandError) as error:
        call_command("pregenerate", study.slug)
    unpaid, held, failed = str(error.value).split("\n")
    assert unpaid.startswith("1 candidate set without budget")
    assert held.startswith("1 candidate set held below the diversity floor. Accept")
    assert failed.startswith("1 candidate set failed: 1 × endpoint_timeout.")


def test_a_dry_run_makes_nothing_and_names_its_rule(offline_endpoint, study, prompt, capsys):
    GenerationPolicy.objects.create(study=study, budget=Decimal("0.001"))
    call_command("pregenerate", study.slug, "--dry-run")
    said = capsys.readouterr().out
    assert "2 candidate sets to make with 4 calls." in said
    assert re.search(r"cost 0\.0\d{3,} \(at most 0\.0\d{3,}\)", said)
    assert "Budget of the study: 0.0010 of 0.0010 left" in said
    assert "is NOT enough" in said
    assert "Rule:" in said
    assert (CandidateSet.objects.count(), offline_endpoint.calls) == (0, 0)


def test_a_dry_run_tells_of_a_pause(study, prompt, capsys):
    pause_generation(study=study)
    call_command("pregenerate", study.slug, "--dry-run")
    said = capsys.readouterr().out
    assert f"{study.slug} is paused: nothing is begun before `pregenerate {study.slug} --resume`." in said
    assert "2 candidate sets to make" in said


def test_a_dry_run_with_nothing_left_says_so_instead_of_an_empty_list(study, sets, capsys):
    CandidateSet.objects.update(state=STATE.READY, ready_at=timezone.now())
    call_command("pregenerate", study.slug, "--dry-run")
    said = capsys.readouterr().out
    assert said == "No candidate set is left to make: 2 ready, 0 held below the diversity floor, 0 failed.\n"
    CandidateSet.objects.filter(pk=sets[0].pk).update(state=STATE.FAILED)
    call_command("pregenerate", study.slug, "--dry-run")
    assert "`pregenerate" in capsys.readouterr().out


def test_a_dry_run_of_one_set_has_no_plural(study, recipe, prompt, capsys):
    study.locales.filter(language="fr").delete()
    recipe.parts.filter(method="negatively_correlated").delete()
    call_command("pregenerate", study.slug, "--dry-run")
    assert "1 candidate set to make with 1 call.\n" in capsys.readouterr().out


def test_an_estimate_learns_from_the_calls_so_far(offline_endpoint, study, recipe, sets):
    before = estimate_generation(study=study)
    assert (before.sets, before.calls, before.measured) == (2, 4, False)
    # Two calls of each part: half of max_tokens each; half the time of one call for each place but the one for live turns.
    assert before.endpoints[study.model_specs.get().pk].output_tokens == 4 * 600
    assert before.seconds == pytest.approx(4 * 10 / 7)
    assert run(sets[0]) == Outcome.READY
    attempts = list(sets[0].attempts.all())
    after = estimate_generation(study=study)
    assert (after.sets, after.calls, after.measured) == (1, 2, True)
    row = after.endpoints[study.model_specs.get().pk]
    assert row.output_tokens == sum(attempt.output_tokens for attempt in attempts)
    assert after.cost < after.highest_cost
    ModelSpec.objects.update(requests_per_minute=1)
    assert estimate_generation(study=study).seconds == pytest.approx(120)


def test_an_estimate_counts_what_is_left_of_a_set(offline_endpoint, study, recipe, sets):
    template = recipe.parts.get(order=1).template
    template.__class__.objects.filter(pk=template.pk).update(text_en=None)
    run(sets[0])
    template.__class__.objects.filter(pk=template.pk).update(text_en="Answer in English.")
    retry_failed_sets(candidate_set_ids=[sets[0].pk])
    assert estimate_generation(study=study).calls == 3


def test_an_estimate_of_a_large_study_takes_few_queries(study, recipe, django_assert_max_num_queries):
    for number in range(30):
        PromptFactory(study=study, key=f"p{number}", text_en=f"Question {number}?", text_fr=f"Question numéro {number} ?")
    with django_assert_max_num_queries(30):
        assert estimate_generation(study=study).calls == 120


def test_one_set_is_asked_for_once(study, recipe):
    assert request_candidate_set(recipe=recipe, language="en", text="hello") == request_candidate_set(
        recipe=recipe, language="en", text="hello"
    )
