import uuid

import pytest
from django.utils import timezone

from apps.annotators import services
from apps.annotators.errors import ConsentMissing, IdentityMissing, LinkClosed, SubmissionConflict, UnknownLocale
from apps.annotators.identities import OutsideIdentity, decrypt
from apps.annotators.models import Annotator, Consent, PanelIdentity
from apps.annotators.selectors import annotator_by_resume_token, resume_token, took_part_earlier
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


PANEL = "PROLIFIC"


@pytest.fixture
def panel():
    return RecruitmentLinkFactory(kind=PANEL)


def someone(participant="5f3c1e8b", **fields) -> OutsideIdentity:
    return OutsideIdentity(kind=PANEL, participant=participant, **fields)


def test_the_panels_identity_is_stored_encrypted_beside_its_keyed_hash(panel):
    annotator = join(panel, identity=someone(panel_study="study-1", panel_session="session-1"))
    stored = PanelIdentity.objects.get()
    assert (decrypt(stored.participant), decrypt(stored.panel_session)) == ("5f3c1e8b", "session-1")
    assert stored.panel_study == "study-1"
    for text in (stored.participant, stored.panel_session, annotator.external_id_hash):
        assert "5f3c1e8b" not in text
        assert "session-1" not in text


def test_somebody_who_opens_the_link_once_more_is_the_same_person(panel):
    first = join(panel, identity=someone())
    assert join(panel, identity=someone(panel_session="another")) == first
    other_link = RecruitmentLinkFactory(study=panel.study, kind=PANEL)
    assert join(other_link, identity=someone(), study_locale=panel.study.locales.get(language="en")) == first
    assert Annotator.objects.count() == Consent.objects.count() == PanelIdentity.objects.count() == 1


def test_two_presses_with_one_identity_are_one_person(panel):
    key = uuid.uuid4()
    assert join(panel, submission_id=key, identity=someone()) == join(panel, submission_id=key, identity=someone())
    assert Annotator.objects.count() == 1


def test_s12_sabotage_without_the_hash_the_same_identity_forks(panel, monkeypatch):
    monkeypatch.setattr(services, "_hash_of", lambda link, identity: None)
    assert join(panel, identity=someone()) != join(panel, identity=someone())


def test_s12_a_form_that_was_sent_cannot_be_sent_again_under_another_identity(panel):
    key = join(panel, identity=someone()).submission_id
    with pytest.raises(SubmissionConflict):
        join(panel, submission_id=key, identity=someone("another"))
    assert Annotator.objects.count() == 1


def test_p4_one_person_in_two_studies_has_two_hashes(panel):
    first, second = join(panel, identity=someone()), join(RecruitmentLinkFactory(kind=PANEL), identity=someone())
    assert first.study != second.study
    assert first.external_id_hash != second.external_id_hash


def test_a_panel_link_wants_an_identity_and_a_direct_one_none(panel, link):
    with pytest.raises(IdentityMissing):
        join(panel)
    with pytest.raises(IdentityMissing):
        join(link, identity=someone())
    assert not Annotator.objects.exists()


@pytest.mark.parametrize(
    ("told", "stored"), [("Asia/Kolkata", "Asia/Kolkata"), ("Mars/Olympus", ""), ("../../etc/passwd", ""), ("", ""), ("America", "")]
)
def test_the_browsers_time_zone_is_kept_if_there_is_such_a_one(link, told, stored):
    assert join(link, time_zone=told).time_zone == stored


@pytest.fixture
def earlier(panel):
    """A study that the panel's study excludes, with somebody in it."""
    earlier_link = RecruitmentLinkFactory(kind=PANEL)
    panel.study.excluded_studies.add(earlier_link.study)
    return join(earlier_link, identity=someone())


def test_who_was_admitted_to_an_excluded_study_is_turned_away_before_any_question(panel, earlier):
    Annotator.objects.filter(pk=earlier.pk).update(admitted_at=timezone.now())
    again = join(panel, identity=someone())
    assert (again.state, again.end_reason) == (Annotator.State.SCREENED_OUT, Annotator.EndReason.EARLIER_STUDY)
    assert PanelIdentity.objects.filter(annotator=again).exists(), "they are turned away on the panel under this identity"
    assert join(panel, identity=someone("new")).state == Annotator.State.ACTIVE


def test_who_completed_an_excluded_study_took_part_and_who_only_looked_in_did_not(panel, earlier):
    assert join(panel, identity=someone()).state == Annotator.State.ACTIVE
    now = Annotator.objects.get(study=panel.study)
    assert not took_part_earlier(now)
    Annotator.objects.filter(pk=earlier.pk).update(state=Annotator.State.COMPLETED, ended_at=timezone.now())
    assert took_part_earlier(now)


def test_a_preview_of_an_excluded_study_does_not_count(panel, earlier):
    Annotator.objects.filter(pk=earlier.pk).update(admitted_at=timezone.now())
    earlier.recruitment_link.purpose = "PREVIEW"
    earlier.recruitment_link.save()
    assert join(panel, identity=someone()).state == Annotator.State.ACTIVE


def test_nothing_is_known_about_somebody_without_an_identity(panel, earlier):
    assert not took_part_earlier(AnnotatorFactory(study=panel.study, recruitment_link=RecruitmentLinkFactory(study=panel.study)))


def test_the_personal_link_finds_its_person_and_a_forged_one_nobody():
    annotator = AnnotatorFactory()
    token = resume_token(annotator)
    assert annotator_by_resume_token(token) == annotator
    for forged in (str(annotator.public_id), token[:-1] + ("a" if token[-1] != "a" else "b"), "x"):
        with pytest.raises(Annotator.DoesNotExist):
            annotator_by_resume_token(forged)
