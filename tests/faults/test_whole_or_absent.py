"""Each step happens whole or not at all: the process fails at the k-th statement, for every k, and the person tries again.

`failing_at(k)` raises in the place of the k-th statement on the connection, so that the transaction is rolled back as after a crash.
"""

import hashlib
import uuid
from collections.abc import Callable
from contextlib import contextmanager, nullcontext

import pytest
from django.apps import apps
from django.db import connection, transaction

from apps.annotation.models import Assignment, Comparison
from apps.annotation.selectors import current_work
from apps.annotation.services import claim_next_assignment, return_assignment, show_turn, submit_comparison, submit_message, withdraw
from apps.annotation.services.participation import hand_in_questionnaire
from apps.annotators.models import Annotator
from apps.quotas.models import Placement, Quota, QuotaCell, TargetChange
from apps.quotas.services import set_target
from apps.studies.models import Questionnaire, Study
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, seated_study
from tests.factories import AnnotatorFactory

pytestmark = pytest.mark.django_db(transaction=True)

Step = Callable[[], object]


class Exit(Exception):
    """The process is gone."""


@contextmanager
def failing_at(k: int):
    """Raise instead of the k-th statement; yields the statements that were begun."""
    begun: list[str] = []

    def count(execute, sql, params, many, context):
        begun.append(sql)
        if len(begun) == k:
            raise Exit(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        yield begun


def state() -> str:
    """Every row of every table, less the columns that tell when or in which transaction a row came to be."""
    digest = hashlib.sha256()
    for model in apps.get_models(include_auto_created=True):
        columns = [field.attname for field in model._meta.concrete_fields if field.name not in ("transaction_id", "created_at")]
        digest.update(repr((model._meta.label, sorted(model._base_manager.values_list(*columns), key=repr))).encode())
    return digest.hexdigest()


def check_every_exit(step: Step, is_done: Callable[[], bool]) -> int:
    """Fail `step` at each of its statements; afterwards nothing has changed. Then it completes. Returns how many exits there were."""
    before = state()
    for k in range(1, 500):
        with failing_at(k) as begun:
            try:
                step()
            except Exit:
                assert state() == before, f"half-written after exit {k}: {begun[-1][:100]}"
                continue
        assert is_done()
        after = state()
        assert after != before
        return k - 1
    raise AssertionError("the step never completes")


def worker_at_a_shown_turn(**fields) -> Annotator:
    study = seated_study(prompts=2, **fields)
    annotator = admitted_annotator(study)
    claim(annotator)
    show_turn(turn=current_work(annotator).turn, device_class="desktop", now=NOW)
    return annotator


def place(study: Study, target: int = 5) -> QuotaCell:
    quota = Quota.objects.create(study=study, key="all", kind=Quota.Kind.HARD)
    quota.locales.set(study.locales.all())
    return QuotaCell.objects.create(quota=quota, key="all", target=target)


def submission(annotator: Annotator) -> Step:
    key = uuid.uuid4()
    return lambda: submit_comparison(
        annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="", submission_id=key, now=NOW
    )


def test_r6_a_comparison_is_stored_whole_or_not_at_all():
    exits = check_every_exit(submission(worker_at_a_shown_turn()), Comparison.objects.exists)
    assert exits >= 5


def test_r6_the_last_comparison_ends_the_conversation_and_the_participation_or_nothing():
    annotator = worker_at_a_shown_turn(conversations_per_annotator=1)
    place(annotator.study)
    annotator.study.task_design.min_turns = annotator.study.task_design.max_turns = 1
    annotator.study.task_design.save()
    Questionnaire.objects.filter(stage=Questionnaire.Stage.AFTER).delete()
    exits = check_every_exit(submission(annotator), Annotator.objects.filter(state=Annotator.State.COMPLETED).exists)
    assert exits >= 12


def test_r6_a_message_and_its_wish_for_candidates_are_one():
    annotator = worker_at_a_shown_turn()
    judge(annotator)
    key = uuid.uuid4()

    def step():
        submit_message(annotator=annotator, turn_number=2, message="And on a rainy day?", submission_id=key, now=NOW)

    check_every_exit(step, lambda: current_work(annotator).turn.number == 2)


def test_r6_a_claim_takes_a_slot_and_begins_a_conversation_or_neither():
    study = seated_study(prompts=2)
    annotator, key = admitted_annotator(study), uuid.uuid4()
    check_every_exit(
        lambda: claim_next_assignment(annotator=annotator, submission_id=key, now=NOW), lambda: current_work(annotator) is not None
    )


@pytest.mark.parametrize("how", [Assignment.State.SKIPPED, Assignment.State.RETURNED])
def test_r6_work_is_given_back_whole_or_kept(how):
    annotator = worker_at_a_shown_turn()

    def step():
        return_assignment(annotator=annotator, state=how, reason="too hard", now=NOW)

    check_every_exit(step, Assignment.objects.filter(state=how).exists)


def test_r6_leaving_takes_everything_along_or_nothing():
    annotator = worker_at_a_shown_turn()
    judge(annotator)
    quota = place(annotator.study).quota
    Placement.objects.create(annotator=annotator, quota=quota, cell=quota.cells.get(), reserved_at=NOW)
    exits = check_every_exit(lambda: withdraw(annotator=annotator, now=NOW), Placement.objects.filter(state="RELEASED").exists)
    assert exits >= 15
    withdraw(annotator=annotator, now=NOW)


def test_r6_admission_takes_all_places_or_none():
    study = seated_study(prompts=4)
    Questionnaire.objects.filter(stage=Questionnaire.Stage.ELIGIBILITY).delete()
    place(study)
    soft = Quota.objects.create(study=study, key="soft", kind=Quota.Kind.SOFT)
    soft.locales.set(study.locales.all())
    QuotaCell.objects.create(quota=soft, key="women", strata={"gender": ["female"]}, target=5)
    annotator, key = AnnotatorFactory(study=study, joined_at=NOW, active_at=NOW), uuid.uuid4()
    questionnaire = Questionnaire.objects.get(study_locale=annotator.study_locale, stage=Questionnaire.Stage.BEFORE)
    answers = {"birth_year": ["1985"], "gender": ["woman"]}

    def step():
        hand_in_questionnaire(annotator=annotator, questionnaire=questionnaire, answers=answers, submission_id=key, now=NOW)

    check_every_exit(step, lambda: Placement.objects.filter(state="RESERVED").count() == 2)


def test_r6_a_target_changes_with_its_line_in_the_log():
    cell = place(seated_study(prompts=1))
    check_every_exit(lambda: set_target(cell=cell, target=9, version=1, user=None, now=NOW), TargetChange.objects.exists)


def test_r6_sabotage_without_the_transaction(monkeypatch):
    """The control: each statement commits by itself."""
    step = submission(worker_at_a_shown_turn())
    monkeypatch.setattr(transaction, "atomic", lambda *arguments, **options: nullcontext())
    monkeypatch.setattr("django.db.models.query.QuerySet.select_for_update", lambda self, *arguments, **options: self)
    monkeypatch.setattr("django.db.models.query.transaction", transaction)
    with pytest.raises(AssertionError, match="half-written"):
        check_every_exit(step, Comparison.objects.exists)
