import uuid
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from apps.annotators.errors import ConsentMissing, InvalidAnswers, NotEligible, SubmissionConflict, Underage
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.annotators.selectors import pending_questionnaire, strata_of
from apps.annotators.services import answer_questionnaire, decide_consent
from tests.factories import AnnotatorFactory

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def annotator():
    return AnnotatorFactory()


def answer(annotator, stage, now=NOW, key=None, **answers):
    questionnaire = annotator.study_locale.questionnaires.get(stage=stage)
    given = {code: value if isinstance(value, list) else [value] for code, value in answers.items()}
    return answer_questionnaire(annotator=annotator, questionnaire=questionnaire, answers=given, submission_id=key or uuid.uuid4(), now=now)


def problems_of(annotator, stage, **answers):
    with pytest.raises(InvalidAnswers) as caught:
        answer(annotator, stage, **answers)
    assert not DemographicAnswer.objects.exists()
    return caught.value.extra["problems"]


@pytest.mark.parametrize(
    ("year", "band", "group"),
    [
        ("2008", "18_34", "15-19"),
        ("1992", "18_34", "30-34"),
        ("1991", "35_45", "35-39"),
        ("1971", "55_plus", "55-59"),
        ("१९८०", "46_54", "45-49"),
    ],
)
def test_a_year_of_birth_is_kept_as_band_and_five_year_group_only(annotator, year, band, group):
    answer(annotator, "BEFORE", birth_year=year)
    stored = DemographicAnswer.objects.get()
    assert (stored.option.code, stored.age_group) == (band, group)


@pytest.mark.parametrize("year", ["85", "19855", "abcd", "1850", "2025", "3000", "-199"])
def test_a_year_that_cannot_be_is_an_error_not_a_refusal(annotator, year):
    assert problems_of(annotator, "BEFORE", birth_year=year) == {"birth_year": "invalid_year"}


def test_somebody_under_18_by_year_is_not_eligible_and_nothing_is_stored(annotator):
    with pytest.raises(Underage):
        answer(annotator, "BEFORE", birth_year="2010", gender="woman")
    assert not QuestionnaireResponse.objects.exists()


def test_somebody_under_18_by_their_word_is_not_eligible(annotator):
    with pytest.raises(NotEligible):
        answer(annotator, "ELIGIBILITY", adult="no")


def test_the_eligibility_question_cannot_be_skipped(annotator):
    assert problems_of(annotator, "ELIGIBILITY") == {"adult": "required"}


def test_skipping_is_not_the_same_as_preferring_not_to_say(annotator):
    answer(annotator, "BEFORE", birth_year="prefer_not_to_say")
    assert DemographicAnswer.objects.get().question.code == "birth_year"
    assert strata_of(annotator) == {"birth_year": {"prefer_not_to_say"}}


def test_every_problem_is_told_at_once(annotator):
    assert problems_of(annotator, "BEFORE", birth_year="12", gender="duck") == {"birth_year": "invalid_year", "gender": "unknown_option"}


def test_one_answer_means_one(annotator):
    assert problems_of(annotator, "BEFORE", gender=["woman", "man"]) == {"gender": "one_only"}


def test_an_exclusive_option_stands_alone(annotator):
    decide_consent(annotator=annotator, purpose="SENSITIVE", granted=True, now=NOW)
    assert problems_of(annotator, "AFTER", race_ethnicity=["white", "prefer_not_to_say"]) == {"race_ethnicity": "exclusive_option"}


def test_p1_no_sensitive_value_before_its_consent(annotator):
    with pytest.raises(ConsentMissing):
        answer(annotator, "AFTER", politics="left")
    decide_consent(annotator=annotator, purpose="SENSITIVE", granted=False, now=NOW)
    with pytest.raises(ConsentMissing):
        answer(annotator, "AFTER", politics="left")
    assert not DemographicAnswer.objects.exists()


def test_p1_sabotage_without_a_consent_row_the_database_refuses_the_value(annotator):
    """The control behind the service: even code that forgets the check cannot store an answer without a consent."""
    answer(annotator, "BEFORE", gender="woman")
    stored = DemographicAnswer.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        DemographicAnswer.objects.filter(pk=stored.pk).update(consent=None)


def test_a_replay_is_one_response_and_another_body_a_conflict(annotator):
    key = uuid.uuid4()
    answer(annotator, "BEFORE", key=key, gender="woman")
    answer(annotator, "BEFORE", key=key, gender="woman")
    with pytest.raises(SubmissionConflict):
        answer(annotator, "BEFORE", key=key, gender="man")
    assert DemographicAnswer.objects.get().option.code == "woman"


def test_refused_questions_are_not_asked(annotator):
    assert pending_questionnaire(annotator, ["AFTER"]).stage == "AFTER"
    decide_consent(annotator=annotator, purpose="SENSITIVE", granted=False, now=NOW)
    assert pending_questionnaire(annotator, ["AFTER"]) is None
