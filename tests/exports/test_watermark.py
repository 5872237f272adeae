"""A release and the API never show what is not final. Only PostgreSQL can have a late commit below a visible one."""

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import connection, connections, transaction

from apps.exports import selectors
from apps.exports.selectors import START, Watermark, current_watermark, feed, released_comparisons, released_conversations, snapshot
from tests.exports.build import judge, make_conversation
from tests.factories import AnnotatorFactory, PromptFactory, StudyFactory


@contextmanager
def open_transaction(work):
    """Another connection runs `work()` and keeps its transaction open until the block ends, then commits."""
    started, finish, errors = threading.Event(), threading.Event(), []

    def run() -> None:
        try:
            with transaction.atomic():
                work()
                started.set()
                finish.wait(20)
        except Exception as error:
            errors.append(error)
        finally:
            started.set()
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(20)
    try:
        yield
    finally:
        finish.set()
        thread.join()
    assert errors == []


def settle() -> None:
    """Wait until everything committed so far lies below the watermark.

    The watermark is one for the whole server: a transaction in any other database holds it back until it ends.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        [mine] = cursor.fetchone()
    deadline = time.monotonic() + 20
    while current_watermark().transaction_id <= mine:
        assert time.monotonic() < deadline, "another transaction on this server stays open"
        time.sleep(0.02)


def late_commit_is_found(study, earlier, later) -> bool:
    """A reader of the feed reads while a lower transaction is open, keeps its cursor, and reads on after the commit.

    1. A transaction judges `earlier` and stays open. 2. `later` is judged and committed. 3. The reader reads. 4. The
    first commits. 5. The reader goes on from its cursor. Returns whether it has seen both.
    """
    with open_transaction(lambda: judge(earlier, 0, transaction_id=None)):
        with transaction.atomic():
            judge(later, 0, transaction_id=None)
        seen = feed(study, START, selectors.current_watermark(), 100)
    settle()
    after = seen[-1].position if seen else START
    seen += feed(study, after, selectors.current_watermark(), 100)
    turns = {entry.comparison.turn_number for entry in seen if entry.comparison}
    return turns == {2, 3}


@pytest.fixture
def race(transactional_db):
    """A study with a finished conversation of one turn, and two further turns that wait for their judgement."""
    study = StudyFactory()
    annotator = AnnotatorFactory(study=study)
    conversation = make_conversation(annotator, prompt=PromptFactory(study=study), choices=(0, 1, 2), transaction_id=0)
    turns = list(conversation.turns.all()[1:])
    for turn in turns:
        comparison = turn.comparisons.get()
        comparison.changes.all().delete()
        comparison.items.all().delete()
        comparison.delete()
    conversation.turns.first().comparisons.get().changes.all().delete()
    return study, turns[0], turns[1]


@pytest.mark.postgresql
def test_a_late_commit_is_never_skipped(race):
    assert late_commit_is_found(*race)


@pytest.mark.postgresql
def test_sabotage_without_the_watermark_a_late_commit_is_skipped(race, monkeypatch):
    monkeypatch.setattr(selectors, "current_watermark", lambda: Watermark(2**62, 2**62))
    assert not late_commit_is_found(*race)


@pytest.mark.postgresql
def test_a_conversation_above_the_watermark_waits_as_a_whole(transactional_db):
    study = StudyFactory()
    prompt = PromptFactory(study=study)
    first, second = AnnotatorFactory(study=study), AnnotatorFactory(study=study)
    with open_transaction(lambda: connection.cursor().execute("SELECT pg_current_xact_id()")):
        make_conversation(first, prompt=prompt, choices=(0, 1), transaction_id=None)
        assert not released_conversations(study, current_watermark()).exists()
    settle()
    assert released_conversations(study, current_watermark()).count() == 1
    below = current_watermark()
    make_conversation(second, prompt=prompt, transaction_id=None)
    assert released_conversations(study, below).count() == 1


@pytest.mark.postgresql
def test_the_snapshot_is_one_view_and_cannot_write(transactional_db):
    study = StudyFactory()
    with snapshot():
        assert study.annotators.count() == 0
        with open_transaction(lambda: AnnotatorFactory(study=study)):
            pass
        assert study.annotators.count() == 0
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            assert cursor.fetchone() == ("on",)
    assert study.annotators.count() == 1


@pytest.mark.django_db
def test_a_revision_above_the_watermark_leaves_the_older_one(monkeypatch):
    conversation = make_conversation(AnnotatorFactory(), choices=(0,))
    watermark = current_watermark()
    turn = conversation.turns.get()
    judge(turn, 2, revision=2)
    [comparison] = released_comparisons([conversation.pk], watermark)
    assert comparison.revision == 1
    [comparison] = released_comparisons([conversation.pk], current_watermark())
    assert comparison.revision == 2


@pytest.mark.django_db
def test_an_erased_comparison_leaves_no_older_revision():
    conversation = make_conversation(AnnotatorFactory(), choices=(0, 1))
    newest = judge(conversation.turns.last(), 2, revision=2)
    newest.changes.create(kind="ERASED", transaction_id=0)
    assert [found.turn.number for found in released_comparisons([conversation.pk], current_watermark())] == [1]
