"""What writing the rules down, and fifty people at once, have found: each in a few lines of its own."""

from datetime import timedelta

import pytest

from apps.annotation.models import Slot
from apps.annotation.selectors import current_work
from apps.annotation.services import change_overlap, give_up_turn, submit_message
from apps.annotation.services.admission import AdmissionRefused, admit_annotator
from apps.annotation.services.participation import finish_without_work
from apps.annotators.models import Annotator
from apps.generation.models import CandidateSet
from apps.studies.models import Study
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study
from tests.factories import AnnotatorFactory

pytestmark = pytest.mark.django_db


def english_study(**fields) -> Study:
    study = seated_study(**fields)
    study.locales.get(language="fr").slots.all().delete()
    return study


def is_admitted(study: Study, now=NOW) -> bool:
    try:
        admit_annotator(annotator=AnnotatorFactory(study=study, active_at=now), now=now)
    except AdmissionRefused:
        return False
    return True


def test_a_seat_in_excess_that_nobody_may_claim_is_no_work_for_newcomers():
    study = english_study(prompts=1, overlap=2, conversations_per_annotator=1)
    for _ in range(2):
        claim(admitted_annotator(study, admitted_at=NOW, active_at=NOW))
    change_overlap(study=study, overlap=1)
    late = NOW + timedelta(minutes=study.lease_minutes + 1)
    assert [is_admitted(study, late) for _ in range(2)] == [True, False]


def test_a_conversation_that_we_broke_off_is_not_kept_free_for_the_person_again():
    study = english_study(prompts=2, overlap=1, conversations_per_annotator=2)
    annotator = admitted_annotator(study, admitted_at=NOW, active_at=NOW)
    claim(annotator)
    judge(annotator)
    key = AnnotatorFactory(study=study, admitted_at=None).public_id
    submit_message(annotator=annotator, turn_number=2, message="And in winter?", submission_id=key, now=NOW)
    CandidateSet.objects.filter(is_live=True).update(state="FAILED", error_code="endpoint_timeout")
    give_up_turn(annotator=annotator, now=NOW)
    assert Slot.objects.filter(state="OPEN").count() == 2  # one of them for the person's second conversation
    assert [is_admitted(study) for _ in range(2)] == [True, False]


def test_nobody_is_done_while_a_task_of_theirs_runs():
    """One window is told that no work is left, another has just claimed the seat that came free."""
    study = english_study(prompts=2, overlap=1, conversations_per_annotator=5)
    study.locales.get(language="en").questionnaires.filter(stage="AFTER").delete()
    study.task_design.min_turns = study.task_design.max_turns = 1
    study.task_design.save()
    annotator = admitted_annotator(study)
    claim(annotator)
    judge(annotator)
    claim(annotator)
    finish_without_work(annotator=annotator, now=NOW)
    assert Annotator.objects.get(pk=annotator.pk).state == Annotator.State.ACTIVE
    assert current_work(annotator) is not None
