import uuid

import pytest
from django.utils import timezone

from apps.annotators.errors import ConsentMissing, LinkClosed, SubmissionConflict, UnknownLocale
from apps.annotators.models import Annotator, Consent
from apps.annotators.selectors import annotator_by_resume_token, resume_token
from apps.annotators.services import join_study
from apps.studies.models import Study
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory, StudyFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def link():
    return RecruitmentLinkFactory()


def join(link, **changes):
    locale = changes.pop("study_locale", None) or link.study.locales.get(language="fr")
    arguments = {"agreed": True, "submission_id": uuid.uuid4(), "device_class": "phone", "now": timezone.now()} | changes
    return join_study(link=link, study_locale=locale, **arguments)


def test_joining_stores_the_person_and_the_text_they_agreed_to(link):
    annotator = join(link)
    consent = annotator.consents.get()
    assert consent.granted
    assert consent.text_hash == consent.consent_form.hash_as_shown()
    assert (consent.language, annotator.study_locale.tag) == ("fr", "fr-FR")


def test_two_presses_are_one_person(link):
    key = uuid.uuid4()
    assert join(link, submission_id=key) == join(link, submission_id=key)
    assert Annotator.objects.count() == 1


def test_the_id_of_another_link_is_refused(link):
    key = join(link).submission_id
    with pytest.raises(SubmissionConflict):
        join(RecruitmentLinkFactory(study=link.study), submission_id=key)


def test_without_the_tick_nothing_is_stored(link):
    with pytest.raises(ConsentMissing):
        join(link, agreed=False)
    assert not Annotator.objects.exists()
    assert not Consent.objects.exists()


def test_a_closed_link_takes_nobody(link):
    link.is_open = False
    with pytest.raises(LinkClosed):
        join(link)


@pytest.mark.parametrize("state", [Study.State.DRAFT, Study.State.PAUSED, Study.State.CLOSED])
def test_a_study_that_is_not_open_takes_nobody(link, state):
    link.study.state = state
    with pytest.raises(LinkClosed):
        join(link)


def test_a_locale_of_another_study_is_refused(link):
    with pytest.raises(UnknownLocale):
        join(link, study_locale=StudyFactory().locales.first())


def test_the_personal_link_finds_its_person_and_a_forged_one_nobody():
    annotator = AnnotatorFactory()
    token = resume_token(annotator)
    assert annotator_by_resume_token(token) == annotator
    for forged in (str(annotator.public_id), token[:-1] + ("a" if token[-1] != "a" else "b"), "x"):
        with pytest.raises(Annotator.DoesNotExist):
            annotator_by_resume_token(forged)
