"""Panels deliver a message more than once, and people press more than once, at the same moment."""

import uuid

import pytest
from django.utils import timezone

from apps.annotation.services import panel as panel_services
from apps.annotation.services.panel import apply_panel_status
from apps.annotators import services
from apps.annotators.identities import OutsideIdentity, outside_hash
from apps.annotators.models import Annotator, Consent, PanelEvent, PanelIdentity
from apps.annotators.services import join_study
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, seated_study
from tests.factories import RecruitmentLinkFactory

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
AT_ONCE = 12


@pytest.fixture
def link():
    return RecruitmentLinkFactory(study=seated_study(), kind="PANEL")


def deliver(at_once, link) -> list:
    def tell():
        return apply_panel_status(link=link, event_id="e1", participant="p1", status=PanelEvent.Status.RETURNED, now=NOW)

    return at_once([tell] * AT_ONCE)


def endings(at_once, link, monkeypatch) -> int:
    """How often a message that arrives twelve times at once ends the person."""
    known_as = outside_hash(study_pk=link.study_id, kind=link.kind, participant="p1")
    claim(admitted_annotator(link.study, recruitment_link=link, external_id_hash=known_as))
    ended = []
    give_up = panel_services._give_up

    def counted(**arguments):
        ended.append(arguments)
        give_up(**arguments)

    monkeypatch.setattr(panel_services, "_give_up", counted)
    results = deliver(at_once, link)
    assert {(event.pk, event.had_effect) for event in results} == {(PanelEvent.objects.get().pk, True)}
    return len(ended)


def test_a_message_delivered_many_times_at_once_has_one_effect(at_once, link, monkeypatch):
    assert endings(at_once, link, monkeypatch) == 1
    assert Annotator.objects.get().state == Annotator.State.RETURNED


def test_sabotage_without_the_stored_event_each_delivery_has_its_effect(at_once, link, monkeypatch):
    """The control: were each delivery taken for the first, the person would be ended by every one of them."""
    stored = PanelEvent.objects.get_or_create
    monkeypatch.setattr(PanelEvent.objects, "get_or_create", lambda **fields: (stored(**fields)[0], True))
    assert endings(at_once, link, monkeypatch) == AT_ONCE


def test_a_message_about_nobody_is_stored_once(at_once, link):
    results = deliver(at_once, link)
    assert {event.pk for event in results} == {PanelEvent.objects.get().pk}


def join_at_once(at_once, link) -> list:
    """One person of a panel presses in twelve windows, each with a form of its own."""
    identity = OutsideIdentity(kind=link.kind, participant="p1")
    locale = link.study.locales.get(language="en")

    def join():
        return join_study(
            link=link, study_locale=locale, agreed=True, submission_id=uuid.uuid4(), device_class="", now=timezone.now(), identity=identity
        )

    return at_once([join] * AT_ONCE)


def test_one_person_of_a_panel_joins_once_however_many_windows_they_press_in(at_once, link):
    results = join_at_once(at_once, link)
    assert {annotator.pk for annotator in results} == {Annotator.objects.get().pk}
    assert Consent.objects.count() == PanelIdentity.objects.count() == 1


def test_s12_sabotage_without_the_constraint_one_person_becomes_many(at_once, link, monkeypatch):
    monkeypatch.setattr(services, "_hash_of", lambda link, identity: None)
    assert len({annotator.pk for annotator in join_at_once(at_once, link)}) == AT_ONCE
