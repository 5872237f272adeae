"""Admission: a place in every quota and guaranteed work, or a page that says so at once."""

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.annotation.models import Slot
from apps.annotation.services import admission, hand_in_questionnaire, read_guideline
from apps.annotation.services.admission import AdmissionRefused, admit_annotator
from apps.annotators.models import Annotator, RecruitmentLink
from apps.annotators.models.demographics import DemographicAnswer
from apps.generation.models import CandidateSet
from apps.quotas.models import Placement
from apps.studies.models import Questionnaire, Study
from tests.annotation.fieldwork import NOW, claim, seated_study
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory
from tests.quotas.sampling import WOMEN, quota

pytestmark = pytest.mark.django_db


def newcomer(study, **fields):
    return AnnotatorFactory(study=study, active_at=NOW, **fields)


def hand_in(annotator, stage="BEFORE", now=NOW, **answers):
    hand_in_questionnaire(
        annotator=annotator,
        questionnaire=annotator.study_locale.questionnaires.get(stage=stage),
        answers={code: [value] for code, value in answers.items()},
        submission_id=uuid.uuid4(),
        now=now,
    )
    annotator.refresh_from_db()


def refused(annotator) -> str | None:
    """Why `annotator` is not admitted; None when they are."""
    try:
        admit_annotator(annotator=annotator, now=NOW)
    except AdmissionRefused as error:
        return str(error.reason)
    return None


def test_who_is_admitted_is_noted_once_also_without_quotas():
    annotator = newcomer(seated_study())
    hand_in(annotator, "ELIGIBILITY", adult="yes")
    assert annotator.admitted_at is None
    hand_in(annotator)
    assert annotator.admitted_at == NOW
    admit_annotator(annotator=annotator, now=NOW + timedelta(hours=1))
    assert annotator.admitted_at == NOW


@pytest.mark.parametrize(
    ("options", "reason", "state"),
    [
        ({"all": (0, {})}, "CELL_FULL", "QUOTA_FULL"),
        ({"women": (5, WOMEN), "outside_share": 0}, "OUTSIDE_CELLS", "QUOTA_FULL"),
        ({"women": (5, WOMEN), "no_cell": "REFUSE"}, "NO_CELL", "QUOTA_FULL"),
    ],
)
def test_a_refusal_says_why_and_keeps_no_answers(options, reason, state):
    study = seated_study()
    quota(study, **options)
    annotator = newcomer(study)
    hand_in(annotator, "ELIGIBILITY", adult="yes")
    hand_in(annotator, birth_year="1990")
    assert (annotator.state, annotator.end_reason) == (state, reason)
    assert annotator.admitted_at is None
    assert not DemographicAnswer.objects.exists()
    assert not Placement.objects.exists()


def test_who_is_not_eligible_is_screened_out():
    annotator = newcomer(seated_study())
    hand_in(annotator, "ELIGIBILITY", adult="no")
    assert (annotator.state, annotator.end_reason) == ("SCREENED_OUT", "NOT_ELIGIBLE")


def test_an_excluded_study_is_asked_before_any_place_is_taken(monkeypatch):
    study = seated_study()
    quota(study, all=(5, {}))
    monkeypatch.setattr(admission, "took_part_earlier", lambda annotator: True)
    annotator = newcomer(study)
    hand_in(annotator, "ELIGIBILITY", adult="yes")
    hand_in(annotator)
    assert (annotator.state, annotator.end_reason) == ("SCREENED_OUT", "EARLIER_STUDY")
    assert not Placement.objects.exists()


# --- Guaranteed work ---


def test_nobody_is_admitted_without_a_minimum_session_of_open_seats():
    study = seated_study(prompts=2, overlap=1, min_conversations=2)
    quota(study, all=(9, {}))
    first = newcomer(study)
    assert refused(first) is None
    assert refused(newcomer(study)) == "NO_WORK"


def test_sabotage_without_the_count_two_are_promised_the_same_seats(monkeypatch):
    monkeypatch.setattr(admission, "_still_claimable", lambda annotator, now: 0)
    study = seated_study(prompts=2, overlap=1, min_conversations=2)
    assert [refused(newcomer(study)) for _ in range(2)] == [None, None]


def test_a_refusal_for_want_of_work_gives_the_places_back():
    study = seated_study(prompts=1, overlap=1, conversations_per_annotator=1)
    quota(study, all=(9, {}))
    for outcome in ("ACTIVE", "QUOTA_FULL"):
        annotator = newcomer(study)
        hand_in(annotator, "ELIGIBILITY", adult="yes")
        hand_in(annotator)
        assert annotator.state == outcome
    assert annotator.end_reason == "NO_WORK"
    assert Placement.objects.count() == 1


def test_work_begun_is_not_counted_twice():
    study = seated_study(prompts=3, overlap=1, conversations_per_annotator=2)
    first = newcomer(study, guideline_read_at=NOW, practice_passed_at=NOW)
    assert refused(first) is None
    claim(first)  # two seats are open, one of them may still be the first person's
    assert refused(newcomer(study)) is None
    assert refused(newcomer(study)) == "NO_WORK"


def test_a_minimum_session_needs_different_prompts():
    study = seated_study(prompts=1, overlap=3, min_conversations=2)
    assert refused(newcomer(study)) == "NO_WORK"


def test_seats_without_candidates_are_no_work():
    study = seated_study(prompts=1, overlap=1)
    CandidateSet.objects.filter(recipe__study=study).update(state=CandidateSet.State.PENDING)
    assert refused(newcomer(study)) == "NO_WORK"


def test_a_seat_whose_lease_ran_out_is_work():
    study = seated_study(prompts=1, overlap=1, conversations_per_annotator=1)
    Slot.objects.update(state=Slot.State.CLAIMED, lease_expires_at=NOW - timedelta(minutes=1))
    assert refused(newcomer(study)) is None


def test_the_idle_do_not_keep_work_from_others():
    study = seated_study(prompts=1, overlap=1, conversations_per_annotator=1)
    idle = newcomer(study)
    assert refused(idle) is None
    assert refused(newcomer(study)) == "NO_WORK"
    Annotator.objects.filter(pk=idle.pk).update(active_at=NOW - timedelta(hours=study.place_hours + 1))
    assert refused(newcomer(study)) is None


@pytest.mark.parametrize("purpose", [RecruitmentLink.Purpose.PILOT, RecruitmentLink.Purpose.PREVIEW])
def test_pilots_are_admitted_without_place_and_without_seat(purpose):
    study = seated_study(prompts=1, overlap=1, conversations_per_annotator=1)
    quota(study, all=(0, {}))
    link = RecruitmentLinkFactory(study=study, purpose=purpose)
    assert [refused(newcomer(study, recruitment_link=link)) for _ in range(3)] == [None] * 3
    assert not Placement.objects.exists()


def test_own_messages_alone_need_no_seats():
    assert refused(newcomer(seated_study(prompts=0, own_prompt_share=1))) is None


def test_a_study_that_asks_nothing_before_the_tasks_admits_at_the_guideline():
    study = seated_study()
    Questionnaire.objects.filter(study_locale__study=study, stage__in=["ELIGIBILITY", "BEFORE"]).delete()
    quota(study, all=(1, {}))
    people = [newcomer(study) for _ in range(2)]
    for annotator in people:
        read_guideline(annotator=annotator, now=NOW)
        annotator.refresh_from_db()
    assert [(annotator.state, annotator.end_reason) for annotator in people] == [("ACTIVE", ""), ("QUOTA_FULL", "CELL_FULL")]
    assert people[0].admitted_at == people[0].guideline_read_at == NOW


# --- Asked once more ---


def post_answers(client, page, **answers):
    values = {"questionnaire": page.context["questionnaire"].pk, "submission_id": str(uuid.uuid4())}
    if page.context.get("is_asked_again"):
        values["asked_again"] = "yes"
    return client.post(reverse("annotation:questions"), values | {f"q_{code}": value for code, value in answers.items()})


def test_a_question_that_decides_is_asked_again_once_and_nothing_is_kept_meanwhile():
    study = seated_study()
    Study.objects.filter(pk=study.pk).update(state=Study.State.OPEN)
    quota(study, no_cell="ASK", outside_share=1, women=(5, WOMEN))
    annotator = newcomer(study)
    hand_in(annotator, "ELIGIBILITY", adult="yes")
    stored = DemographicAnswer.objects.count()
    client = Client()
    session = client.session
    session[SESSION_ANNOTATOR] = annotator.pk
    session.save()
    page = client.get(reverse("annotation:questions"))
    again = post_answers(client, page, birth_year="1990")
    assert again.status_code == 422
    assert "whether there is a place for you depends on it" in again.text
    assert 'value="1990"' in again.text
    assert DemographicAnswer.objects.count() == stored
    assert not Placement.objects.exists()
    assert post_answers(client, again, birth_year="1990").status_code == 303
    assert Placement.objects.get().cell is None
