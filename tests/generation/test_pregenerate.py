"""`manage.py pregenerate` asks for every set once, shows how far the workers are, and says what failed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import close_old_connections, connection
from django.utils import timezone

from apps.generation import services
from apps.generation.management.commands import pregenerate
from apps.generation.models import CandidateSet
from apps.generation.selectors import generation_progress
from apps.generation.services import requesting, sweeping
from tests.factories import PromptFactory, RecipeFactory

STATE = CandidateSet.State


@pytest.fixture
def enqueued(monkeypatch) -> list[tuple[int, str]]:
    sent: list[tuple[int, str]] = []
    for module in (requesting, sweeping):
        monkeypatch.setattr(module, "enqueue_on_commit", lambda name, pk, queue: sent.append((pk, queue)))
    monkeypatch.setattr(requesting, "enqueue_many", lambda name, pks, queue: sent.extend((pk, queue) for pk in pks))
    return sent


@pytest.fixture
def small_study(transactional_db, study, prompt):
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        pytest.skip("a worker beside the command needs a database in a file or on PostgreSQL")
    PromptFactory(study=study, text_en="What should I cook tonight?", text_fr="Que cuisiner ce soir ?")
    return study


@contextmanager
def worker(enqueued: list[tuple[int, str]], now=timezone.now) -> Iterator[None]:
    """Play the worker: make what is enqueued, again and again, until the block ends."""
    ended = threading.Event()

    def work():
        try:
            while not ended.wait(0.02):
                for pk, _ in list(enqueued):
                    services.generate_set(candidate_set_id=pk, now=now())
        finally:
            close_old_connections()
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


def test_every_prompt_language_and_recipe_gets_its_set_through_a_worker(offline_endpoint, small_study, enqueued, capsys):
    with worker(enqueued):
        call_command("pregenerate", small_study.slug)
    assert CandidateSet.objects.filter(state=STATE.READY).count() == 4
    assert {queue for _, queue in enqueued} == {"bulk"}
    said = capsys.readouterr()
    assert "4 of 4 candidate sets ready" in said.out
    assert "Candidates of" in said.err
    calls = offline_endpoint.calls
    call_command("pregenerate", small_study.slug)
    assert offline_endpoint.calls == calls, "a second run asks for nothing again"
    progress = generation_progress(small_study)
    assert (progress.total, progress.ready, progress.calls, progress.is_finished) == (4, 4, 8, True)
    assert progress.cost > 0


def test_sets_that_fail_end_the_command_with_reasons_and_a_way_on(offline_endpoint, small_study, enqueued):
    offline_endpoint.set(status=503)
    start = timezone.now()
    hours = iter(range(1, 10_000))
    with (
        worker(enqueued, now=lambda: start + timedelta(hours=next(hours))),
        pytest.raises(CommandError, match="4 candidate sets failed: 4 × endpoint_error_503") as error,
    ):
        call_command("pregenerate", small_study.slug)
    assert error.value.returncode == 1
    assert "--retry-failed" in str(error.value)
    offline_endpoint.set()
    with worker(enqueued):
        call_command("pregenerate", small_study.slug, "--retry-failed")
    assert CandidateSet.objects.filter(state=STATE.READY).count() == 4


def test_without_a_worker_the_command_says_so_and_can_be_stopped(small_study, enqueued, monkeypatch, capsys):
    monkeypatch.setattr(pregenerate, "NO_WORKER_SECONDS", 0.2)
    naps = iter(range(100))

    def nap(seconds):
        if next(naps) > 30:
            raise KeyboardInterrupt
        threading.Event().wait(0.02)

    monkeypatch.setattr(pregenerate.time, "sleep", nap)
    with pytest.raises(CommandError, match="the workers go on") as error:
        call_command("pregenerate", small_study.slug)
    assert error.value.returncode == 130
    assert capsys.readouterr().err.count("no worker seems to be running") == 1
    assert CandidateSet.objects.filter(state=STATE.PENDING).count() == 4


def test_no_wait_only_enqueues(study, prompt, enqueued, capsys):
    call_command("pregenerate", study.slug, "--no-wait")
    assert len(enqueued) == 2
    assert "2 of 2 candidate sets enqueued" in capsys.readouterr().out


def test_a_missing_text_is_named_and_the_others_are_made(study, prompt, enqueued, capsys):
    PromptFactory(study=study, key="half", text_en="Only in English?", text_fr=None)
    call_command("pregenerate", study.slug, "--no-wait")
    assert "prompt half, fr" in capsys.readouterr().err
    assert CandidateSet.objects.count() == 3


def test_old_versions_of_prompts_and_recipes_get_nothing(study, prompt, recipe, enqueued):
    PromptFactory(study=study, key="old", is_current=False)
    RecipeFactory(study=study, version=2, is_current=False)
    assert len(services.request_sets_for_study(study=study).ids) == 2


def test_an_unknown_study_and_an_empty_one_are_told_apart(study):
    with pytest.raises(CommandError, match=study.slug):
        call_command("pregenerate", "nothing-here")
    with pytest.raises(CommandError, match="a prompt with a text"):
        call_command("pregenerate", study.slug)


@pytest.mark.django_db
def test_asking_for_many_sets_takes_few_queries(study, recipe, django_assert_max_num_queries):
    for number in range(40):
        PromptFactory(study=study, key=f"p{number}", text_en=f"Question {number}?", text_fr=f"Question numéro {number} ?")
    with django_assert_max_num_queries(16):
        assert len(services.request_sets_for_study(study=study).ids) == 80
