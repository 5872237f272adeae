"""Reading on in another locale of the link, before the first task."""

import uuid

import pytest

from apps.annotation.errors import StaleForm
from apps.annotation.services.admission import AdmissionRefused
from apps.annotation.services.participation import hand_in_questionnaire, switch_locale
from apps.annotators.errors import AnswersDiffer, UnknownLocale
from apps.annotators.models import Annotator
from apps.annotators.models.demographics import DemographicAnswer
from apps.annotators.selectors import pending_questionnaire, strata_of
from apps.quotas.errors import QuotaCellFull
from apps.quotas.models import Placement, Quota, QuotaCell
from tests.annotation.fieldwork import NOW, claim, seated_study
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory, add_question

pytestmark = pytest.mark.django_db
STAGES = ["ELIGIBILITY", "BEFORE"]


@pytest.fixture
def study():
    return seated_study()


@pytest.fixture
def french(study):
    return study.locales.get(language="fr")


def answer(annotator, stage, **answers) -> None:
    questionnaire = annotator.study_locale.questionnaires.get(stage=stage)
    given = {code: [value] for code, value in answers.items()}
    hand_in_questionnaire(annotator=annotator, questionnaire=questionnaire, answers=given, submission_id=uuid.uuid4(), now=NOW)


def admitted(study) -> Annotator:
    """Somebody in English who has answered the questions and was admitted."""
    annotator = AnnotatorFactory(study=study, active_at=NOW)
    answer(annotator, "ELIGIBILITY", adult="yes")
    answer(annotator, "BEFORE", birth_year="1990", gender="woman")
    annotator.refresh_from_db()
    assert annotator.admitted_at == NOW
    return annotator


def quota(study, key, locales, target=5) -> QuotaCell:
    row = Quota.objects.create(study=study, key=key)
    row.locales.set(locales)
    return QuotaCell.objects.create(quota=row, key="women", strata={"gender": ["female"]}, target=target)


def switch(annotator, locale) -> Annotator:
    switch_locale(annotator=annotator, study_locale=locale, now=NOW)
    return Annotator.objects.get(pk=annotator.pk)


def test_consent_answers_and_places_come_along(study, french):
    english, here = quota(study, "english", study.locales.filter(language="en")), quota(study, "french", [french])
    both = quota(study, "both", study.locales.all())
    annotator = admitted(study)
    Annotator.objects.filter(pk=annotator.pk).update(guideline_read_at=NOW, practice_tries=1, practice_passed_at=NOW)
    moved = switch(annotator, french)
    assert moved.study_locale == french
    assert [consent.language for consent in moved.consents.order_by("pk")] == ["en", "fr"]
    assert strata_of(moved)["gender"] == {"woman", "female"}
    assert set(DemographicAnswer.objects.values_list("question__questionnaire__study_locale", flat=True)) == {french.pk}
    assert pending_questionnaire(moved, STAGES) is None
    places = dict(moved.placements.exclude(state=Placement.State.RELEASED).values_list("cell", "state"))
    assert places == {here.pk: Placement.State.RESERVED, both.pk: Placement.State.RESERVED}
    assert moved.placements.get(cell=english).release_reason == Placement.ReleaseReason.LOCALE_SWITCH
    assert (moved.guideline_read_at, moved.practice_tries, moved.practice_passed_at) == (None, 0, None)


def test_a_full_cell_there_refuses_and_nothing_has_moved(study, french):
    quota(study, "french", [french], target=0)
    annotator = admitted(study)
    with pytest.raises(QuotaCellFull):
        switch(annotator, french)
    stayed = Annotator.objects.get(pk=annotator.pk)
    assert stayed.study_locale.language == "en"
    assert stayed.consents.count() == 1
    assert not stayed.placements.exists()
    assert set(DemographicAnswer.objects.values_list("question__questionnaire__study_locale__language", flat=True)) == {"en"}


def test_without_work_there_nothing_moves(study, french):
    annotator = admitted(study)
    french.slots.all().delete()
    with pytest.raises(AdmissionRefused):
        switch(annotator, french)
    assert Annotator.objects.get(pk=annotator.pk).study_locale.language == "en"


def test_questions_that_differ_are_asked_anew_before_admission(study, french):
    add_question(french.questionnaires.get(stage="ELIGIBILITY"), 2, "resident", "SINGLE", [{"code": "yes"}])
    annotator = AnnotatorFactory(study=study, active_at=NOW)
    answer(annotator, "ELIGIBILITY", adult="yes")
    moved = switch(annotator, french)
    assert pending_questionnaire(moved, STAGES).stage == "ELIGIBILITY"
    assert pending_questionnaire(moved, STAGES).study_locale == french
    assert not DemographicAnswer.objects.exists()
    answer(moved, "ELIGIBILITY", adult="yes", resident="yes")
    assert pending_questionnaire(moved, STAGES).stage == "BEFORE"


def test_questions_that_differ_keep_an_admitted_person_where_they_are(study, french):
    french.questionnaires.get(stage="BEFORE").questions.get(code="gender").options.get(code="woman").delete()
    annotator = admitted(study)
    with pytest.raises(AnswersDiffer):
        switch(annotator, french)
    assert Annotator.objects.get(pk=annotator.pk).study_locale.language == "en"
    assert DemographicAnswer.objects.count() == 3


def test_nobody_moves_after_their_first_task(study, french):
    annotator = admitted(study)
    Annotator.objects.filter(pk=annotator.pk).update(guideline_read_at=NOW, practice_passed_at=NOW)
    claim(annotator)
    with pytest.raises(StaleForm):
        switch(annotator, french)


def test_nobody_moves_after_the_end(study, french):
    annotator = AnnotatorFactory(study=study, state=Annotator.State.WITHDRAWN, ended_at=NOW)
    with pytest.raises(StaleForm):
        switch(annotator, french)


def test_a_locale_that_the_link_does_not_offer_is_refused(study, french):
    link = RecruitmentLinkFactory(study=study, locales=[study.locales.get(language="en")])
    with pytest.raises(UnknownLocale):
        switch(AnnotatorFactory(study=study, recruitment_link=link), french)
