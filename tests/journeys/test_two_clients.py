"""One person on two clients, answers that come late, panels that say things twice, and clocks that are wrong."""

import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.annotation.models import Assignment, Comparison, Slot, Turn
from apps.annotation.services import withdraw
from apps.annotation.services.panel import apply_panel_status
from apps.annotators.identities import OutsideIdentity, outside_hash, sign_message
from apps.annotators.models import Annotator, PanelEvent
from apps.annotators.selectors import resume_token
from apps.quotas.models import Placement
from apps.quotas.services import place_annotator
from apps.studies.models import Study, TaskDesign
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, make_ready, seated_study
from tests.factories import RecruitmentLinkFactory
from tests.quotas.sampling import quota

pytestmark = pytest.mark.django_db
FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
PHONE = "Mozilla/5.0 (Linux; Android 14; Mobile)"


@pytest.fixture
def study() -> Study:
    return seated_study(prompts=3, overlap=2)


@pytest.fixture
def annotator(study) -> Annotator:
    return admitted_annotator(study, active_at=timezone.now())


def client_of(annotator: Annotator, **headers) -> Client:
    """A further client of the person, entered by their own link."""
    client = Client(**headers)
    client.post(reverse("annotation:resume", args=[resume_token(annotator)]))
    assert client.session[SESSION_ANNOTATOR] == annotator.pk
    return client


def two_clients(annotator: Annotator) -> tuple[Client, Client]:
    return client_of(annotator), client_of(annotator, HTTP_USER_AGENT=PHONE)


def form_on(client: Client, step: str) -> dict[str, str]:
    page = client.get(reverse(f"annotation:{step}"))
    assert page.status_code == 200, page.status_code
    return dict(FIELD.findall(page.text.split("<main")[1]))


def send(client: Client, step: str, form: dict[str, str], **fields) -> int:
    return client.post(reverse(f"annotation:{step}"), form | fields).status_code


def step_of(client: Client) -> str:
    return client.get(reverse("annotation:current"), follow=True).redirect_chain[-1][0].split("/")[2]


# --- Two clients of one person ---


def test_two_clients_that_press_start_get_one_task_and_the_same_page(annotator):
    desk, phone = two_clients(annotator)
    forms = form_on(desk, "start"), form_on(phone, "start")
    assert forms[0]["submission_id"] != forms[1]["submission_id"]
    assert [send(client, "start", form) for client, form in zip((desk, phone), forms, strict=True)] == [303, 303]
    assert Assignment.objects.count() == 1
    pages = [client.get(reverse("annotation:compare")) for client in (desk, phone)]
    assert [page.context["comparison"].cards for page in pages] == [pages[0].context["comparison"].cards] * 2
    assert Turn.objects.get().shown_candidates.count() == 4


def test_the_answer_of_the_second_client_is_refused_kindly_and_its_text_handed_back(annotator):
    claim(annotator, timezone.now())
    desk, phone = two_clients(annotator)
    forms = form_on(desk, "compare"), form_on(phone, "compare")
    assert send(desk, "compare", forms[0], choice="0", explanation=REASON) == 303
    late = phone.post(reverse("annotation:compare"), forms[1] | {"choice": "1", "explanation": "What I typed on my phone."})
    assert late.status_code == 409
    assert "What I typed on my phone." in late.text
    assert Comparison.objects.get().explanation == REASON
    assert step_of(phone) == step_of(desk) == "message"


def test_one_form_sent_by_both_clients_is_one_answer(annotator):
    claim(annotator, timezone.now())
    desk, phone = two_clients(annotator)
    form = form_on(desk, "compare")
    answer = {"choice": "0", "explanation": REASON}
    assert [send(client, "compare", form, **answer) for client in (desk, phone, desk)] == [303, 303, 303]
    assert send(phone, "compare", form, choice="1", explanation=REASON) == 409
    assert Comparison.objects.count() == 1


def test_each_client_is_led_to_where_the_other_has_gone_on(annotator):
    desk, phone = two_clients(annotator)
    send(desk, "start", form_on(desk, "start"))
    assert step_of(phone) == "compare"
    send(phone, "compare", form_on(phone, "compare"), choice="2", explanation=REASON)
    assert step_of(desk) == "message"
    send(desk, "message", form_on(desk, "message"), message="And in winter?", action="send")
    assert step_of(phone) == "wait"
    make_ready(Turn.objects.get(number=2).candidate_set)
    assert [step_of(client) for client in (desk, phone)] == ["compare", "compare"]


def test_whoever_leaves_on_one_client_has_left_on_the_other(annotator):
    claim(annotator, timezone.now())
    desk, phone = two_clients(annotator)
    form = form_on(desk, "compare")
    withdraw(annotator=annotator, now=timezone.now())
    assert send(desk, "compare", form, choice="0", explanation=REASON) == 303
    assert [step_of(client) for client in (desk, phone)] == ["ended", "ended"]
    assert not Comparison.objects.exists()


def test_the_clients_of_two_people_never_meet(annotator, study):
    other = admitted_annotator(study, active_at=timezone.now())
    for person in (annotator, other):
        claim(person, timezone.now())
    one, two = client_of(annotator), client_of(other)
    form = form_on(one, "compare")
    form_on(two, "compare")
    assert send(one, "compare", form, choice="0", explanation=REASON) == 303
    assert send(two, "compare", form, choice="0", explanation=REASON) == 409
    assert Comparison.objects.get().turn.conversation.annotator == annotator


# --- Late answers (R9) ---


def one_turn(study: Study) -> Study:
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=1)
    return Study.objects.get(pk=study.pk)


@pytest.mark.parametrize(("successor", "first", "slot"), [(False, "COMPLETED", "FILLED"), (True, "SURPLUS", "FILLED")])
def test_r9_a_late_answer_counts_unless_a_successor_has_the_seat(successor, first, slot):
    study = one_turn(seated_study(prompts=1, overlap=1))
    study.locales.get(language="fr").slots.all().delete()
    late = NOW + timedelta(minutes=study.lease_minutes, seconds=1)
    slow, fast = admitted_annotator(study), admitted_annotator(study)
    work = claim(slow)
    if successor:
        assert claim(fast, late).slot_id == work.slot_id
        judge(fast, now=late)
    comparison = judge(slow, now=late)
    work.refresh_from_db()
    assert (work.state, Slot.objects.get().state) == (first, slot)
    assert comparison.explanation == REASON
    assert Assignment.objects.counted().count() == 1


def test_r9_a_seat_is_free_right_after_its_lease_and_not_before():
    study = one_turn(seated_study(prompts=1, overlap=1))
    study.locales.get(language="fr").slots.all().delete()
    claim(admitted_annotator(study))
    ends = NOW + timedelta(minutes=study.lease_minutes)
    assert [slot.pk for slot in Slot.objects.abandoned(ends)] == []
    assert claim(admitted_annotator(study), ends + timedelta(seconds=1)).slot.fencing_token == 2


def test_r9_sabotage_without_the_fencing_token_a_late_answer_counts_twice(monkeypatch):
    """The control: work that took no notice of its successor would fill the successor's seat a second time."""
    study = one_turn(seated_study(prompts=1, overlap=1))
    study.locales.get(language="fr").slots.all().delete()
    late = NOW + timedelta(minutes=study.lease_minutes, seconds=1)
    slow, fast = admitted_annotator(study), admitted_annotator(study)
    work = claim(slow)
    claim(fast, late)
    monkeypatch.setattr(Assignment, "holds_slot", lambda self, slot: slot.state == Slot.State.CLAIMED)
    judge(slow, now=late)
    work.refresh_from_db()
    assert (work.state, Slot.objects.get().state) != ("SURPLUS", "CLAIMED")


# --- A panel that says things twice ---


def test_a_place_that_a_panel_gives_back_twice_comes_back_once(study):
    link = RecruitmentLinkFactory(study=study, kind="PANEL")
    cells = quota(study, all=(1, {}))
    known_as = outside_hash(study_pk=study.pk, kind=link.kind, participant="p1")
    gone = admitted_annotator(study, recruitment_link=link, external_id_hash=known_as)
    place_annotator(annotator=gone, now=NOW)
    claim(gone, timezone.now())
    body = json.dumps({"event_id": "e1", "participant": "p1", "status": "returned"}).encode()

    def deliver() -> dict:
        header = sign_message(link=link, body=body, stamp=int(timezone.now().timestamp()))
        url = reverse("annotation:panel_status", args=[link.token])
        response = Client().post(url, body, content_type="application/json", headers={"X-Polyphony-Signature": header})
        assert response.status_code == 200
        return response.json()

    first = deliver()
    successor = admitted_annotator(study)
    place_annotator(annotator=successor, now=NOW)  # the only place is theirs now
    task = claim(successor, timezone.now())
    assert deliver() == first == {"event_id": "e1", "had_effect": True}
    task.refresh_from_db()
    assert (task.state, task.slot.state) == ("ACTIVE", "CLAIMED")
    held = Placement.objects.exclude(state=Placement.State.RELEASED).get()
    assert (held.annotator, held.cell.quota) == (successor, cells)
    assert PanelEvent.objects.count() == 1


def test_somebody_whom_the_panel_gave_back_and_who_opens_the_link_again_stays_ended(study):
    link = RecruitmentLinkFactory(study=study, kind="PANEL")
    identity = OutsideIdentity(kind="PANEL", participant="p1")
    known_as = outside_hash(study_pk=study.pk, kind=link.kind, participant=identity.participant)
    gone = admitted_annotator(study, recruitment_link=link, external_id_hash=known_as)
    client = client_of(gone)
    apply_panel_status(link=link, event_id="e1", participant="p1", status=PanelEvent.Status.RETURNED, now=NOW)
    assert step_of(client) == "ended"
    assert Annotator.objects.filter(external_id_hash=known_as).count() == 1


# --- Clocks (R18) ---


def test_r18_what_the_clock_of_a_client_says_has_no_effect(annotator):
    claim(annotator, timezone.now())
    before = timezone.now()
    client = client_of(annotator, HTTP_DATE="Fri, 01 Jan 1971 00:00:00 GMT")
    form = form_on(client, "compare") | {"now": "1971-01-01T00:00:00Z", "created_at": "2099-01-01", "shown_at": "1971-01-01"}
    assert send(client, "compare", form, choice="0", explanation=REASON) == 303
    turn = Turn.objects.get()
    stored = [turn.shown_at, turn.answered_at, Comparison.objects.get().created_at]
    assert all(before <= moment <= timezone.now() for moment in stored)
    lease = Slot.objects.get(state="CLAIMED").lease_expires_at
    assert timedelta(minutes=59) < lease - before <= timedelta(minutes=61)


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 29, 0, 30, tzinfo=UTC),  # half an hour before the clocks of Paris go forward
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # … and back: 02:30 comes twice
        datetime(2028, 2, 28, 23, 45, tzinfo=UTC),
        datetime(2026, 12, 31, 23, 45, tzinfo=UTC),
    ],
)
def test_r18_a_lease_lasts_its_minutes_whatever_the_clocks_on_the_wall_do(zone, moment, settings):
    settings.TIME_ZONE = zone
    study = one_turn(seated_study(prompts=1, overlap=1))
    study.locales.update(time_zone=zone)
    study.locales.get(language="fr").slots.all().delete()
    work = claim(admitted_annotator(study, time_zone=zone, active_at=moment), moment)
    minutes = timedelta(minutes=study.lease_minutes)
    assert Slot.objects.get().lease_expires_at == work.lease_expires_at == moment + minutes
    assert not Slot.objects.abandoned(moment + minutes).exists()
    assert Slot.objects.abandoned(moment + minutes + timedelta(seconds=1)).exists()


def test_r18_sabotage_a_lease_in_wall_time_would_be_an_hour_off_when_the_clocks_change():
    """The control: the same sum on the clock on the wall ends an hour late in autumn, and the check above sees it."""
    moment, paris = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), ZoneInfo("Europe/Paris")
    on_the_wall = (moment.astimezone(paris) + timedelta(minutes=60)).astimezone(UTC)
    assert on_the_wall != moment + timedelta(minutes=60)


def test_r18_a_server_clock_that_is_set_back_a_little_never_shortens_a_lease(annotator):
    claim(annotator, NOW)
    lease = Slot.objects.get(state="CLAIMED").lease_expires_at
    judge(annotator, now=NOW - timedelta(seconds=30))
    assert Slot.objects.get(state="CLAIMED").lease_expires_at == lease
    assert Comparison.objects.get().explanation == REASON
