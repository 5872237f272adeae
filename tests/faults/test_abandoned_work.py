"""People who fall asleep over their work: it goes to others once, without a janitor, and what they typed is kept."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.annotation.errors import NoWorkAvailable
from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.annotation.models import Assignment, Comparison, Slot
from apps.annotation.models.work import SlotQuerySet
from apps.annotation.selectors import current_work
from apps.annotation.services import show_turn
from apps.annotators.models import Annotator
from apps.studies.models import Study
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, seated_study

pytestmark = pytest.mark.django_db(transaction=True)

STATE = Assignment.State


def one_seat(**fields) -> Study:
    """A study with a single seat in each locale and conversations of one turn."""
    study = seated_study(prompts=1, overlap=1, lease_minutes=30, **fields)
    study.task_design.min_turns = study.task_design.max_turns = 1
    study.task_design.save()
    return study


def asleep(study: Study) -> Annotator:
    """Somebody who reads their task at NOW, and then nothing more."""
    annotator = admitted_annotator(study)
    claim(annotator)
    show_turn(turn=current_work(annotator).turn, device_class="desktop", now=NOW)
    return annotator


def check_free_within_one_lease(study: Study) -> Assignment:
    asleep(study)
    other = admitted_annotator(study)
    with pytest.raises(NoWorkAvailable):
        claim(other, now=NOW + timedelta(minutes=29))
    try:
        taken = claim(other, now=NOW + timedelta(minutes=30, seconds=1))
    except NoWorkAvailable:
        pytest.fail("the seat of the sleeper is lost")
    slot = Slot.objects.get(pk=taken.slot_id)
    assert taken.fencing_token == slot.fencing_token == 2
    assert list(Assignment.objects.order_by("pk").values_list("state", flat=True)) == [STATE.EXPIRED, STATE.ACTIVE]
    return taken


def test_r9_a_seat_is_free_after_one_lease_without_a_janitor():
    check_free_within_one_lease(one_seat())


def test_r9_sabotage_a_claim_that_looks_at_open_seats_only(monkeypatch):
    """The control: nobody looks for abandoned seats."""
    monkeypatch.setattr(SlotQuerySet, "abandoned", lambda self, now: self.none())
    with pytest.raises(pytest.fail.Exception, match="the seat of the sleeper is lost"):
        check_free_within_one_lease(one_seat())


def test_r9_a_late_answer_without_a_successor_counts():
    study = one_seat()
    sleeper = asleep(study)
    judge(sleeper, now=NOW + timedelta(hours=5))
    assert Assignment.objects.get().state == STATE.COMPLETED
    assert Slot.objects.get(pk=Assignment.objects.get().slot_id).state == Slot.State.FILLED


@pytest.mark.parametrize("successor_first", [True, False])
def test_r9_a_late_answer_with_a_successor_is_kept_and_counts_once(successor_first):
    study = one_seat()
    sleeper = asleep(study)
    successor, later = admitted_annotator(study), NOW + timedelta(minutes=31)
    claim(successor, now=later)
    for person in [successor, sleeper] if successor_first else [sleeper, successor]:
        judge(person, now=later + timedelta(minutes=1), explanation=f"{REASON} Says number {person.pk}.")
    assert Assignment.objects.get(annotator=sleeper).state == STATE.SURPLUS
    assert Assignment.objects.get(annotator=successor).state == STATE.COMPLETED
    assert Assignment.objects.counted().count() == 1
    texts = set(Comparison.objects.values_list("explanation", flat=True))
    assert texts == {f"{REASON} Says number {person.pk}." for person in (sleeper, successor)}


def test_r9_sabotage_without_the_fencing_token_the_late_answer_takes_the_seat(monkeypatch):
    """The control: late work does not look whether somebody else has the seat."""
    monkeypatch.setattr(Assignment, "holds_slot", lambda self, slot: True)
    study = one_seat()
    sleeper, successor, later = asleep(study), admitted_annotator(study), NOW + timedelta(minutes=31)
    claim(successor, now=later)
    judge(sleeper, now=later)
    slot = Slot.objects.get(pk=Assignment.objects.get(annotator=successor).slot_id)
    holder = Assignment.objects.get(annotator=successor)
    assert holder.state == STATE.ACTIVE
    assert slot.state != Slot.State.CLAIMED, "the successor's seat was taken from under them"


def test_r9_the_form_of_a_sleeper_is_accepted_over_http_after_the_lease():
    """The page was opened before the lease ran out and another person holds the seat: the receipt comes all the same."""
    study = one_seat()
    sleeper, successor = admitted_annotator(study), admitted_annotator(study)
    browser = browser_of(sleeper)
    page = browser.post("/task/start/", form_of(browser.get("/task/start/")), follow=True)
    form = form_of(page) | {"choice": "1", "explanation": REASON}
    past = timezone.now() - timedelta(seconds=1)
    Slot.objects.filter(state=Slot.State.CLAIMED).update(lease_expires_at=past)
    Assignment.objects.update(lease_expires_at=past)
    other = browser_of(successor)
    assert other.post("/task/start/", form_of(other.get("/task/start/"))).status_code == 303
    receipt = browser.post("/task/compare/", form)
    assert receipt.status_code == 303
    assert Comparison.objects.get().explanation == REASON
    assert Assignment.objects.get(annotator=sleeper).state == STATE.SURPLUS
    assert Assignment.objects.get(annotator=successor).state == STATE.ACTIVE


def browser_of(annotator: Annotator) -> Client:
    browser = Client()
    session = browser.session
    session[SESSION_ANNOTATOR] = annotator.pk
    session.save()
    return browser


def form_of(response) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', response.content.decode()))
