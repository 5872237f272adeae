import uuid

import pytest

from apps.annotation.models import Change, Slot
from apps.annotation.selectors import Step, current_step
from apps.annotation.services import hand_in_questionnaire, read_guideline, submit_message, submit_practice, withdraw
from apps.annotation.services.participation import decide_sensitive_consent
from apps.annotators.models import Annotator
from apps.annotators.models.demographics import DemographicAnswer
from apps.generation.models import Candidate
from apps.quotas.models import Placement, Quota, QuotaCell
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, make_ready, seated_study
from tests.factories import AnnotatorFactory

pytestmark = pytest.mark.django_db


def quota(study, target):
    row = Quota.objects.create(study=study, key="all")
    row.locales.set(study.locales.all())
    return QuotaCell.objects.create(quota=row, key="all", target=target)


def hand_in(annotator, stage, **answers):
    hand_in_questionnaire(
        annotator=annotator,
        questionnaire=annotator.study_locale.questionnaires.get(stage=stage),
        answers={code: [value] for code, value in answers.items()},
        submission_id=uuid.uuid4(),
        now=NOW,
    )
    annotator.refresh_from_db()


def test_the_whole_way_in_stores_answers_and_reserves_a_place():
    study = seated_study()
    quota(study, 1)
    annotator = AnnotatorFactory(study=study)
    steps = [current_step(annotator).step]
    hand_in(annotator, "ELIGIBILITY", adult="yes")
    assert not Placement.objects.exists()
    hand_in(annotator, "BEFORE", birth_year="1990", gender="woman")
    assert Placement.objects.get().state == "RESERVED"
    steps.append(current_step(annotator).step)
    read_guideline(annotator=annotator, now=NOW)
    annotator.refresh_from_db()
    steps.append(current_step(annotator).step)
    submit_practice(annotator=annotator, chose_better=True, now=NOW)
    annotator.refresh_from_db()
    steps.append(current_step(annotator).step)
    assert steps == [Step.QUESTIONS, Step.GUIDELINE, Step.PRACTICE, Step.START]


def test_a_full_quota_ends_kindly_and_keeps_no_answers():
    study = seated_study()
    quota(study, 0)
    annotator = AnnotatorFactory(study=study)
    hand_in(annotator, "ELIGIBILITY", adult="yes")
    hand_in(annotator, "BEFORE", birth_year="1990")
    assert annotator.state == Annotator.State.QUOTA_FULL
    assert not DemographicAnswer.objects.filter(question__code="birth_year").exists()


def test_practice_gives_two_tries():
    annotator = AnnotatorFactory(study=seated_study(), guideline_read_at=NOW)
    assert submit_practice(annotator=annotator, chose_better=False, now=NOW) is False
    assert submit_practice(annotator=annotator, chose_better=False, now=NOW) is True


def test_the_last_conversation_and_the_last_answers_complete_the_participation():
    study = seated_study(conversations_per_annotator=1)
    study.task_design.__class__.objects.filter(study=study).update(min_turns=1, max_turns=1)
    cell = quota(study, 1)
    annotator = admitted_annotator(study)
    Placement.objects.create(annotator=annotator, quota=cell.quota, cell=cell, reserved_at=NOW)
    claim(annotator)
    judge(annotator)
    annotator.refresh_from_db()
    assert annotator.state == Annotator.State.ACTIVE
    decide_sensitive_consent(annotator=annotator, purpose="SENSITIVE", granted=True, now=NOW)
    hand_in(annotator, "AFTER", politics="left")
    assert annotator.state == Annotator.State.COMPLETED
    assert Placement.objects.get().state == "COMPLETED"


def test_refusing_the_sensitive_questions_completes_as_well():
    study = seated_study(conversations_per_annotator=1)
    study.task_design.__class__.objects.filter(study=study).update(min_turns=1, max_turns=1)
    annotator = admitted_annotator(study)
    claim(annotator)
    judge(annotator)
    decide_sensitive_consent(annotator=annotator, purpose="SENSITIVE", granted=False, now=NOW)
    annotator.refresh_from_db()
    assert annotator.state == Annotator.State.COMPLETED


SECRET = "My canary sings of zanzibar lilies"


def test_p2_p3_leaving_empties_the_persons_words_everywhere_and_reopens_the_slot():
    study = seated_study()
    cell = quota(study, 5)
    annotator = AnnotatorFactory(study=study)
    hand_in(annotator, "ELIGIBILITY", adult="yes")
    hand_in(annotator, "BEFORE", gender="woman")
    Annotator.objects.filter(pk=annotator.pk).update(guideline_read_at=NOW, practice_passed_at=NOW)
    annotator.refresh_from_db()
    slot = claim(annotator).slot
    judge(annotator, explanation=f"{REASON} {SECRET}")
    turn = submit_message(annotator=annotator, turn_number=2, message=SECRET, submission_id=uuid.uuid4(), now=NOW)
    make_ready(turn.candidate_set)
    Candidate.objects.filter(candidate_set=turn.candidate_set, slot=0).update(text=f"You said: {SECRET}")
    judge(annotator, explanation=SECRET)
    withdraw(annotator=annotator, now=NOW)
    slot.refresh_from_db()
    assert slot.state == Slot.State.OPEN
    assert cell.placements.get().state == "RELEASED"
    assert Change.objects.filter(kind="ERASED").count() == 2
    assert rows_that_hold(SECRET) == []
    assert not DemographicAnswer.objects.filter(annotator=annotator).exists()


def test_p3_sabotage_the_search_finds_words_that_were_not_erased():
    """The control: the search that proves erasure sees the canary before the person leaves."""
    annotator = admitted_annotator(seated_study())
    claim(annotator)
    judge(annotator, explanation=SECRET)
    assert rows_that_hold(SECRET) != []


def rows_that_hold(text):
    """Every model that has the text in any column of any row."""
    from django.apps import apps

    return [
        model.__name__
        for model in apps.get_models()
        if model._meta.managed and not model._meta.proxy and any(text in str(row) for row in model._base_manager.values())
    ]


def test_leaving_twice_changes_nothing():
    annotator = admitted_annotator(seated_study())
    claim(annotator)
    judge(annotator)
    withdraw(annotator=annotator, now=NOW)
    withdraw(annotator=annotator, now=NOW)
    assert Change.objects.filter(kind="ERASED").count() == 1
