"""What is due to whom."""

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest

from apps.annotation.models import Assignment
from apps.annotation.services import withdraw
from apps.annotation.services.panel import apply_panel_status
from apps.annotators.models import Annotator, PanelEvent
from apps.annotators.services import settle_payments
from apps.desk.payments import decisions
from apps.desk.payments.decisions import Decision, payments_of, sums_of
from apps.quotas.models import Placement
from apps.quotas.services import place_annotator
from apps.studies.models import PayRule, Study, TaskDesign
from tests.annotation.fieldwork import NOW, claim, judge
from tests.desk.paid import converse, paid_link, person
from tests.quotas.sampling import quota

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=5)


def only(link, now=LATER):
    (payment,) = payments_of(link, now)
    return payment


def test_who_completed_is_approved_in_full_within_72_hours():
    link = paid_link()
    someone = person(link, "p1")
    converse(someone, 3)
    payment = only(link)
    assert (payment.decision, payment.amount, payment.currency) == (Decision.APPROVE, Decimal("6.00"), "EUR")
    assert (payment.code, payment.reason, payment.conversations, payment.minutes) == (someone.completion_code, "Completed", 3, 60)
    assert payment.due_at == NOW + timedelta(hours=72)


def test_who_completed_over_the_quota_is_approved_too():
    link = paid_link()
    cells = quota(link.study, everybody=(5, {}))
    someone = person(link, "p1")
    place_annotator(annotator=someone, now=NOW)
    converse(someone, 3)
    Placement.objects.filter(quota=cells).update(is_over=True)
    payment = only(link)
    assert (payment.decision, payment.amount, payment.reason) == (Decision.APPROVE, Decimal(6), "Completed, over the quota")


def test_late_work_that_counts_for_nobody_is_paid_like_other_work():
    link = paid_link()
    someone = person(link, "p1")
    converse(someone)
    Assignment.objects.update(state=Assignment.State.SURPLUS)
    withdraw(annotator=someone, now=LATER)
    assert (only(link).decision, only(link).amount) == (Decision.PAY_PART, Decimal("2.50"))


@pytest.mark.parametrize(("times", "amount"), [(1, "2.50"), (2, "5.00")])
def test_who_withdraws_is_paid_for_what_they_finished(times, amount):
    link = paid_link()
    someone = person(link, "p1")
    converse(someone, times)
    withdraw(annotator=someone, now=LATER)
    payment = only(link)
    assert (payment.decision, payment.amount, payment.conversations) == (Decision.PAY_PART, Decimal(amount), times)
    assert payment.reason == "Withdrawn"


def test_a_part_never_exceeds_the_whole():
    link = paid_link()
    PayRule.objects.update(per_conversation=Decimal(4))
    someone = person(link, "p1")
    converse(someone, 2)
    withdraw(annotator=someone, now=LATER)
    assert only(link).amount == Decimal(6)


def test_who_withdraws_after_completion_is_paid_in_full():
    link = paid_link()
    someone = person(link, "p1")
    converse(someone, 3)
    withdraw(annotator=someone, now=LATER)
    payment = only(link)
    assert (payment.decision, payment.amount, payment.reason) == (Decision.APPROVE, Decimal(6), "Completed, withdrew afterwards")
    assert payment.return_code == someone.completion_code


def test_a_conversation_broken_off_before_it_could_be_ended_is_not_paid():
    link = paid_link()
    TaskDesign.objects.update(min_turns=2)
    someone = person(link, "p1")
    claim(someone)
    judge(someone)
    withdraw(annotator=someone, now=LATER)
    assert (only(link).decision, only(link).amount, only(link).conversations) == (Decision.RETURN, Decimal(0), 0)


@pytest.mark.parametrize("status", PanelEvent.Status)
def test_who_ended_on_the_panel_is_paid_for_what_they_finished(status):
    link = paid_link()
    someone = person(link, "p1")
    converse(someone)
    apply_panel_status(link=link, event_id="e1", participant="p1", status=status, now=LATER)
    payment = only(link)
    assert (payment.decision, payment.amount) == (Decision.PAY_PART, Decimal("2.50"))
    assert payment.reason == f"{PanelEvent.Status(status).label} on the panel"


def test_who_is_turned_away_after_questions_gets_the_screen_out_amount():
    link = paid_link(screen_out_code="S1", quota_full_code="Q1")
    person(link, "p1", state="SCREENED_OUT", end_reason="NOT_ELIGIBLE")
    person(link, "p2", state="QUOTA_FULL", end_reason="CELL_FULL")
    payments = payments_of(link, LATER)
    assert {(each.decision, each.amount, each.return_code) for each in payments} == {
        (Decision.SCREENED_OUT, Decimal("0.50"), "S1"),
        (Decision.SCREENED_OUT, Decimal("0.50"), "Q1"),
    }


def test_who_is_turned_away_at_the_door_returns():
    link = paid_link()
    person(link, "p1", state="SCREENED_OUT", end_reason="EARLIER_STUDY", joined_at=NOW, ended_at=NOW)
    assert (only(link).decision, only(link).amount) == (Decision.RETURN, Decimal(0))
    assert only(link).reason == "Took part in an excluded study"


def test_who_takes_part_is_open_until_their_place_is_given_up_and_then_paid_in_part():
    link = paid_link()
    someone = person(link, "p1")
    converse(someone)
    until = someone.active_at + timedelta(hours=24)
    payment = only(link, now=until - timedelta(seconds=1))
    assert (payment.decision, payment.amount, payment.due_at, payment.payable_at) == (Decision.OPEN, None, until, None)
    payment = only(link, now=until)
    assert (payment.decision, payment.amount, payment.reason) == (Decision.PAY_PART, Decimal("2.50"), "Left in silence; may come back")


def test_nobody_takes_part_in_a_closed_study():
    link = paid_link()
    person(link, "p1")
    Study.objects.update(state="CLOSED")
    link.refresh_from_db()
    assert only(link).decision == Decision.RETURN


def test_a_locale_without_a_pay_rule_has_decisions_without_amounts():
    link = paid_link()
    PayRule.objects.all().delete()
    converse(person(link, "p1"), 3)
    assert (only(link).decision, only(link).amount, only(link).currency) == (Decision.APPROVE, None, "")


def test_previews_are_not_paid_and_pilots_are():
    preview = paid_link(purpose="PREVIEW")
    pilot = paid_link(study=preview.study, purpose="PILOT")
    for link in (preview, pilot):
        converse(person(link), 3)
    assert payments_of(preview, LATER) == []
    assert only(pilot).decision == Decision.APPROVE


def test_only_people_of_the_link_are_listed():
    link = paid_link()
    converse(person(paid_link(study=link.study), "p1"), 3)
    assert payments_of(link, LATER) == []


def test_what_was_due_when_the_payments_were_settled_is_settled():
    link = paid_link()
    converse(person(link, "p1"), 3)
    settle_payments(link=link, until=NOW + timedelta(seconds=1))
    person(link, "p2", state="WITHDRAWN", ended_at=LATER)
    link.refresh_from_db()
    assert {(each.decision, each.is_settled) for each in payments_of(link, LATER)} == {(Decision.APPROVE, True), (Decision.RETURN, False)}


def test_the_sums_are_per_decision_and_currency():
    link = paid_link()
    english, french = link.study.locales.all()
    PayRule.objects.filter(study_locale=english).update(currency="USD")
    for locale in (english, french, french):
        person(link, uuid.uuid4().hex, state="COMPLETED", study_locale=locale)
    person(link, state="SCREENED_OUT", end_reason="UNDERAGE", study_locale=french)
    assert [(each.decision, each.people, each.amount, each.currency) for each in sums_of(payments_of(link, LATER))] == [
        (Decision.APPROVE, 2, Decimal(12), "EUR"),
        (Decision.APPROVE, 1, Decimal(6), "USD"),
        (Decision.SCREENED_OUT, 1, Decimal("0.50"), "EUR"),
    ]


def test_a_long_list_asks_as_many_queries_as_a_short_one(django_assert_num_queries):
    link = paid_link()
    for number in range(5):
        person(link, f"p{number}", state="SCREENED_OUT", end_reason="UNDERAGE")
    with django_assert_num_queries(6):
        assert len(payments_of(link, LATER)) == 5


def test_sabotage_without_the_moment_of_withdrawal_a_completion_is_forgotten(monkeypatch):
    monkeypatch.setattr(decisions, "_completed_before_leaving", lambda link: set())
    link = paid_link()
    someone = person(link, "p1")
    converse(someone, 3)
    withdraw(annotator=someone, now=LATER)
    assert Annotator.objects.get().state == "WITHDRAWN"
    assert only(link).decision == Decision.PAY_PART
