"""What a panel tells through the webhook: believed when signed, taken in once, and places and seats come back."""

import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.annotation.errors import EventConflict
from apps.annotation.models import Assignment, Slot
from apps.annotation.services.panel import apply_panel_status
from apps.annotation.views import panel as view
from apps.annotators.identities import outside_hash, sign_message
from apps.annotators.models import Annotator, PanelEvent
from apps.quotas.models import Placement, Quota, QuotaCell
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study
from tests.factories import RecruitmentLinkFactory

pytestmark = pytest.mark.django_db
RETURNED, TIMED_OUT, REJECTED = PanelEvent.Status.RETURNED, PanelEvent.Status.TIMED_OUT, PanelEvent.Status.REJECTED


@pytest.fixture
def link():
    return RecruitmentLinkFactory(study=seated_study(prompts=2), kind="PANEL")


def at_work(link, participant="p1", **fields) -> Annotator:
    """Somebody of the panel with a place in a quota and a running task."""
    known_as = outside_hash(study_pk=link.study_id, kind=link.kind, participant=participant)
    annotator = admitted_annotator(link.study, recruitment_link=link, external_id_hash=known_as, **fields)
    quota, _ = Quota.objects.get_or_create(study=link.study, key="all")
    cell, _ = QuotaCell.objects.get_or_create(quota=quota, key="all", target=9)
    Placement.objects.create(annotator=annotator, quota=quota, cell=cell, reserved_at=NOW)
    claim(annotator)
    return annotator


def tell(link, event_id="e1", participant="p1", status=RETURNED) -> PanelEvent:
    return apply_panel_status(link=link, event_id=event_id, participant=participant, status=status, now=NOW)


@pytest.mark.parametrize(
    ("status", "end_reason", "released"),
    [
        (RETURNED, "PANEL_RETURNED", "RETURN"),
        (TIMED_OUT, "PANEL_TIMED_OUT", "TIMEOUT"),
        (REJECTED, "PANEL_REJECTED", "RETURN"),
    ],
)
def test_somebody_at_work_ends_and_what_they_held_comes_back(link, status, end_reason, released):
    annotator = at_work(link)
    assert tell(link, status=status).had_effect
    annotator.refresh_from_db()
    assert (annotator.state, annotator.end_reason, annotator.ended_at) == (Annotator.State.RETURNED, end_reason, NOW)
    assert annotator.assignments.get().state == Assignment.State.RETURNED
    assert annotator.conversations.get().ended_at == NOW
    assert not Slot.objects.filter(state=Slot.State.CLAIMED).exists()
    placement = annotator.placements.get()
    assert (placement.state, placement.release_reason) == (Placement.State.RELEASED, released)


def test_what_they_had_finished_stays(link):
    link.study.task_design.min_turns = link.study.task_design.max_turns = 1
    link.study.task_design.save()
    annotator = at_work(link)
    judge(annotator)
    claim(annotator)
    tell(link)
    assert sorted(annotator.assignments.values_list("state", flat=True)) == [Assignment.State.COMPLETED, Assignment.State.RETURNED]
    assert Slot.objects.filter(state=Slot.State.FILLED).count() == 1


def test_a_message_that_comes_twice_is_one_event(link):
    annotator = at_work(link)
    first = tell(link)
    Annotator.objects.filter(pk=annotator.pk).update(state=Annotator.State.ACTIVE, ended_at=None)  # so that a second effect would show
    assert tell(link) == first
    assert tell(link).had_effect
    annotator.refresh_from_db()
    assert annotator.state == Annotator.State.ACTIVE


@pytest.mark.parametrize("other", [{"participant": "p2"}, {"status": REJECTED}])
def test_the_same_id_with_other_contents_is_refused(link, other):
    at_work(link)
    at_work(link, participant="p2")
    tell(link)
    with pytest.raises(EventConflict):
        tell(link, **other)
    assert Annotator.objects.filter(state=Annotator.State.ACTIVE).count() == 1


def test_nobody_known_by_the_identity_is_no_error(link):
    event = tell(link)
    assert not event.had_effect
    assert event.annotator is None


@pytest.mark.parametrize("state", ["COMPLETED", "SCREENED_OUT", "WITHDRAWN"])
def test_somebody_who_has_ended_is_left_as_they_are(link, state):
    annotator = at_work(link)
    Annotator.objects.filter(pk=annotator.pk).update(state=state, ended_at=NOW)
    assert not tell(link).had_effect
    annotator.refresh_from_db()
    assert (annotator.state, annotator.end_reason) == (state, "")
    assert annotator.placements.get().state == Placement.State.RESERVED


def test_s9_another_links_people_are_out_of_reach(link):
    annotator = at_work(link)
    for other in (RecruitmentLinkFactory(study=link.study, kind="PANEL"), RecruitmentLinkFactory(kind="PANEL")):
        assert not tell(other).had_effect
    annotator.refresh_from_db()
    assert annotator.state == Annotator.State.ACTIVE


def test_what_is_stored_of_a_message_does_not_show_the_identity(link):
    at_work(link, participant="canary-4711")
    tell(link, participant="canary-4711")
    assert "canary-4711" not in repr(PanelEvent.objects.values_list().get())


# --- Over HTTP ---


def post(client, link, body=None, *, now=None, signature=None, signed_by=None, **fields):
    message = {"event_id": "e1", "participant": "p1", "status": "returned"} | fields
    data = json.dumps(message).encode() if body is None else body
    stamp = int((now or timezone.now()).timestamp())
    header = sign_message(link=signed_by or link, body=data, stamp=stamp) if signature is None else signature
    url = reverse("annotation:panel_status", args=[link.token])
    return client.post(url, data, content_type="application/json", headers={"X-Polyphony-Signature": header})


def code_of(response) -> tuple[int, str]:
    assert set(response.json()) == {"code", "message", "extra"}
    return response.status_code, response.json()["code"]


def test_a_signed_message_is_taken_in_and_its_repetition_answered_alike(client, link):
    annotator = at_work(link)
    first, second = post(client, link), post(client, link)
    assert (first.status_code, first.json()) == (200, {"event_id": "e1", "had_effect": True})
    assert (second.status_code, second.json()) == (200, first.json())
    annotator.refresh_from_db()
    assert annotator.end_reason == Annotator.EndReason.PANEL_RETURNED
    assert code_of(post(client, link, status="rejected")) == (409, "event_conflict")
    assert post(client, link, participant="nobody", event_id="e2").json() == {"event_id": "e2", "had_effect": False}


def test_a_message_without_the_right_signature_is_refused(client, link):
    annotator = at_work(link)
    other = RecruitmentLinkFactory(study=link.study, kind="PANEL")
    late, early = timezone.now() - timedelta(minutes=6), timezone.now() + timedelta(minutes=6)
    refused = [
        post(client, link, signature=""),
        post(client, link, signature="t=1,v1=" + "0" * 64),
        post(client, link, signature="t=1"),
        post(client, link, signed_by=other),
        post(client, link, now=late),
        post(client, link, now=early),
    ]
    assert [code_of(response) for response in refused] == [(403, "signature_refused")] * len(refused)
    annotator.refresh_from_db()
    assert annotator.state == Annotator.State.ACTIVE
    assert not PanelEvent.objects.exists()


def test_s9_sabotage_without_the_signature_anybody_ends_anybody(client, link, monkeypatch):
    monkeypatch.setattr(view, "check_message", lambda **fields: None)
    at_work(link)
    assert post(client, link, signature="").json()["had_effect"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 2000, b'{"event_id": "e1"}',
        b'{"event_id": "", "participant": "p1", "status": "returned"}',
        b'{"event_id": 1, "participant": "p1", "status": "returned"}',
        b'{"event_id": "e1", "participant": "p\\u0000", "status": "returned"}',
        b'{"event_id": "e1", "participant": "p1", "status": "RETURNED"}',
        b'{"event_id": "e1", "participant": "p1", "status": "paid"}',
        b'{"event_id": "e1", "participant": "p1", "status": "returned", "annotator": 1}',
    ],
)  # fmt: skip
def test_a_message_that_is_none_is_400(client, link, body):
    assert code_of(post(client, link, body)) == (400, "bad_request")
    assert not PanelEvent.objects.exists()


def test_a_message_that_is_too_large_is_413(client, link):
    assert code_of(post(client, link, b" " * 4097)) == (413, "too_large")


def test_an_unknown_link_and_a_direct_one_are_404(client, link):
    direct = RecruitmentLinkFactory(study=link.study)
    assert code_of(post(client, direct)) == (404, "not_found")
    direct.token = "no-such-token"
    assert code_of(post(client, direct)) == (404, "not_found")


def test_a_message_is_posted_only(client, link):
    assert client.get(reverse("annotation:panel_status", args=[link.token])).status_code == 405
