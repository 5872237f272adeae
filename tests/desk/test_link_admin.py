"""What researchers see and do about links of panels; no page shows who anybody is outside."""

import html
import re
import shlex
from urllib.parse import urlsplit

import pytest
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.test import Client
from django.urls import reverse

from apps.annotators.identities import encrypt, outside_hash, signing_secret
from apps.annotators.models import IdentityReading, PanelEvent, PanelIdentity, RecruitmentLink
from apps.studies.models import StudyMembership
from tests.annotation.fieldwork import NOW
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory, StudyFactory, UserFactory

pytestmark = pytest.mark.django_db
Role = StudyMembership.Role
LIST = "admin:annotators_recruitmentlink_changelist"


def member(study, role: Role = Role.OWNER) -> Client:
    user = UserFactory(is_staff=True)
    StudyMembership.objects.create(study=study, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def page_of(client: Client, link: RecruitmentLink):
    return client.get(reverse("admin:annotators_recruitmentlink_change", args=[link.pk]))


def copied(page, start: str) -> str:
    """The text to copy that begins with `start`."""
    texts = [html.unescape(text) for text in re.findall(r'<code class="copy">(.*?)</code>', page.text)]
    return next(text for text in texts if text.startswith(start))


def known(link, state="ACTIVE", participant="canary-4711"):
    ended = {} if state == "ACTIVE" else {"ended_at": NOW}
    known_as = outside_hash(study_pk=link.study_id, kind=link.kind, participant=participant) if state == "ACTIVE" else None
    annotator = AnnotatorFactory(study=link.study, recruitment_link=link, state=state, external_id_hash=known_as, **ended)
    PanelIdentity.objects.create(annotator=annotator, participant=encrypt(participant), received_at=NOW)
    return annotator


def test_a_panel_link_shows_its_secret_to_those_who_may_change_it_only():
    link = RecruitmentLinkFactory(kind="PANEL")
    secret = signing_secret(link)
    for role in (Role.OWNER, Role.RESEARCHER):
        assert secret in page_of(member(link.study, role), link).text
    for role in (Role.TRANSLATOR, Role.REVIEWER, Role.VIEWER):
        page = page_of(member(link.study, role), link)
        assert page.status_code == 200
        assert secret not in page.text
        assert "sig=" not in page.text
    assert page_of(member(StudyFactory()), link).status_code == 302


def test_a_direct_link_has_no_secret():
    link = RecruitmentLinkFactory()
    assert signing_secret(link) not in page_of(member(link.study), link).text


def test_the_examples_on_the_page_work_as_they_are():
    link = RecruitmentLinkFactory(kind="PANEL")
    page = page_of(member(link.study), link)
    address = urlsplit(copied(page, "http://testserver/join/" + link.token + "/?"))
    assert Client().get(f"{address.path}?{address.query}").status_code == 200
    _, url, _, content_type, _, signature, _, body = shlex.split(copied(page, "curl "))
    headers = dict(header.split(": ", 1) for header in (content_type, signature))
    answer = Client().post(urlsplit(url).path, body.encode(), content_type=headers.pop("Content-Type"), headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"event_id": "event-1", "had_effect": False})


def test_prolifics_address_names_the_places_that_it_fills_in():
    link = RecruitmentLinkFactory(kind="PROLIFIC", participant_parameter="pid")
    address = copied(page_of(member(link.study), link), "http://testserver/join/")
    assert address.endswith("/?pid={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}")


def fields_of(page) -> set[str]:
    return {field for field in flatten_fieldsets(page.context["adminform"].fieldsets) if isinstance(field, str)}


def test_a_link_shows_what_its_kind_needs_and_keeps_its_kind_once_people_came():
    direct, panel = RecruitmentLinkFactory(), RecruitmentLinkFactory(kind="PANEL")
    assert "participant_parameter" not in fields_of(page_of(member(direct.study), direct))
    page = page_of(member(panel.study), panel)
    assert {"participant_parameter", "secret"} <= fields_of(page)
    assert "kind" in page.context["adminform"].form.fields
    known(panel)
    assert "kind" not in page_of(member(panel.study), panel).context["adminform"].form.fields


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"screen_out_url": "https://panel.example/?cc={code}"}, "Expected the panel&#x27;s code"),
        ({"participant_parameter": "sig"}, "none of locale, session"),
        ({"participant_parameter": "a b"}, "Expected letters"),
        ({"completion_url": "http://panel.example/"}, "Enter a valid URL"),
    ],
)
def test_a_link_that_could_not_work_is_refused(spoilt, said):
    study = StudyFactory()
    data = {"study": study.pk, "name": "panel", "kind": "PANEL", "purpose": "LIVE", "locales": [study.locales.first().pk]}
    owner, url = member(study), reverse("admin:annotators_recruitmentlink_add")
    assert said in owner.post(url, data | spoilt).text
    assert not RecruitmentLink.objects.exists()
    assert owner.post(url, data).status_code == 302


def test_no_page_of_the_desk_shows_an_identity_or_its_hash():
    link = RecruitmentLinkFactory(kind="PANEL")
    annotator = known(link)
    event = PanelEvent.objects.create(
        link=link, event_id="e1", body_hash="b" * 64, status="RETURNED", annotator=annotator, had_effect=False, received_at=NOW
    )
    owner = member(link.study)
    urls = [
        reverse("admin:annotators_annotator_changelist"),
        reverse("admin:annotators_annotator_change", args=[annotator.pk]),
        reverse("admin:annotators_panelevent_changelist"),
        reverse("admin:annotators_panelevent_change", args=[event.pk]),
    ]
    for url in urls:
        page = owner.get(url)
        assert page.status_code == 200
        for hidden in ("canary-4711", annotator.external_id_hash, annotator.panel_identity.participant, event.body_hash):
            assert hidden not in page.text
    assert PanelIdentity not in admin.site._registry
    assert IdentityReading not in admin.site._registry


def test_events_are_read_not_edited():
    link = RecruitmentLinkFactory(kind="PANEL")
    event = PanelEvent.objects.create(link=link, event_id="e1", body_hash="b" * 64, status="RETURNED", had_effect=False, received_at=NOW)
    owner = member(link.study)
    assert owner.post(reverse("admin:annotators_panelevent_change", args=[event.pk]), {"event_id": "e2"}).status_code == 403
    assert owner.get(reverse("admin:annotators_panelevent_add")).status_code == 403
