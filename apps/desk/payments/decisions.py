"""What is due to each person of a recruitment link, by the pay rules of their locale."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Max, Q, TextChoices

from apps.annotation.models import Assignment, Conversation, Turn
from apps.annotators.models import Annotator, RecruitmentLink
from apps.annotators.selectors import return_of
from apps.quotas.models import Placement
from apps.studies.models import PayRule, Study, TaskDesign

# After this, completed work counts as approved.
APPROVAL_TIME = timedelta(hours=72)


class Decision(TextChoices):
    APPROVE = "APPROVE", "Approve"
    PAY_PART = "PAY_PART", "Pay in part"
    SCREENED_OUT = "SCREENED_OUT", "Turned away"
    RETURN = "RETURN", "Ask to return"
    OPEN = "OPEN", "Still takes part"


@dataclass(frozen=True)
class Payment:
    """What is due to one person, named by their completion code.

    `amount` is None while they take part, and where their locale has no pay rule. `due_at`: approval is due by then, or,
    of somebody who takes part, until then their place is held. `payable_at` is since when something is due to them, None while
    they take part; `is_settled`: that was before the link's payments were settled last. `return_code` is what they took back
    to the panel.
    """

    annotator_id: int
    code: str
    locale: str
    decision: Decision
    reason: str
    conversations: int
    minutes: int
    amount: Decimal | None
    currency: str
    due_at: datetime | None
    payable_at: datetime | None
    return_code: str
    is_settled: bool


@dataclass(frozen=True)
class Sum:
    """People with one decision, and what they get together in one currency."""

    decision: Decision
    people: int
    amount: Decimal
    currency: str


def payments_of(link: RecruitmentLink, now: datetime) -> list[Payment]:
    """Everybody of `link`, in the order of their codes. Previews are not paid."""
    if link.purpose == RecruitmentLink.Purpose.PREVIEW:
        return []
    people = Annotator.objects.filter(recruitment_link=link).select_related("study", "study_locale").order_by("completion_code", "pk")
    rules = {rule.study_locale_id: rule for rule in PayRule.objects.filter(study_locale__study=link.study_id)}
    done = _conversations_done(link)
    completed_before = _completed_before_leaving(link)
    over = set(Placement.objects.filter(annotator__recruitment_link=link, is_over=True).values_list("annotator_id", flat=True))
    payments = []
    for person in people:
        person.recruitment_link = link
        completed = person.state == Annotator.State.COMPLETED or person.pk in completed_before
        decision = _decide(person, completed=completed, done=done[person.pk], now=now)
        rule = rules.get(person.study_locale_id)
        payable_at = _payable_at(person, decision)
        payments.append(
            Payment(
                annotator_id=person.pk,
                code=person.completion_code,
                locale=person.study_locale.tag,
                decision=decision,
                reason=_reason(person, decision, completed=completed, is_over=person.pk in over),
                conversations=done[person.pk],
                minutes=round(((person.ended_at or person.active_at) - person.joined_at).total_seconds() / 60),
                amount=_amount(rule, decision, done[person.pk]),
                currency=rule.currency if rule else "",
                due_at=_due_at(person, decision),
                payable_at=payable_at,
                return_code=(link.completion_code or person.completion_code) if completed else return_of(person).code,
                is_settled=payable_at is not None and link.settled_at is not None and payable_at <= link.settled_at,
            )
        )
    return payments


def sums_of(payments: list[Payment]) -> list[Sum]:
    """One line per decision and currency, in the order of the decisions."""
    people: Counter[tuple[Decision, str]] = Counter()
    amounts: dict[tuple[Decision, str], Decimal] = {}
    for payment in payments:
        key = payment.decision, payment.currency
        people[key] += 1
        amounts[key] = amounts.get(key, Decimal(0)) + (payment.amount or 0)
    order = list(Decision)
    return [
        Sum(decision, people[decision, currency], amounts[decision, currency], currency)
        for decision, currency in sorted(people, key=lambda key: (order.index(key[0]), key[1]))
    ]


def _conversations_done(link: RecruitmentLink) -> Counter[int]:
    """Annotator id → conversations to be paid: those with the turns after which one may end, and those that we broke off.

    Told by the turns, since a withdrawal leaves no other trace of what was finished. A skipped one is made up for by another.
    """
    design = TaskDesign.objects.filter(study=link.study_id).first()
    one_turn = [Assignment.Purpose.REPEAT, Assignment.Purpose.GOLD]
    finished = [Assignment.State.COMPLETED, Assignment.State.SURPLUS]
    rows = (
        Conversation.objects.filter(annotator__recruitment_link=link)
        .exclude(assignment__state=Assignment.State.SKIPPED)
        .annotate(
            answered=Count("turns", filter=Q(turns__state=Turn.State.ANSWERED)),
            failed=Count("turns", filter=Q(turns__state=Turn.State.FAILED)),
        )
        .filter(
            Q(assignment__state__in=finished)
            | Q(assignment__purpose__in=one_turn, answered__gte=1)
            | Q(answered__gte=design.min_turns if design else 1)
            | Q(failed__gt=0)
        )
    )
    return Counter(rows.values_list("annotator_id", flat=True))


def _completed_before_leaving(link: RecruitmentLink) -> set[int]:
    """People who withdrew after they had completed: they ended, for no other reason, before their work was withdrawn."""
    withdrawn = Annotator.objects.filter(recruitment_link=link, state=Annotator.State.WITHDRAWN, end_reason="")
    last = withdrawn.annotate(withdrawn_at=Max("assignments__ended_at")).values_list("pk", "ended_at", "withdrawn_at")
    return {pk for pk, ended_at, withdrawn_at in last if ended_at and withdrawn_at and ended_at < withdrawn_at}


def _decide(person: Annotator, *, completed: bool, done: int, now: datetime) -> Decision:
    if completed:
        return Decision.APPROVE
    if person.state == Annotator.State.ACTIVE and person.study.state != Study.State.CLOSED and now < _held_until(person):
        return Decision.OPEN
    if person.state in (Annotator.State.SCREENED_OUT, Annotator.State.QUOTA_FULL):
        # Who is turned away at the door has answered nothing.
        return Decision.RETURN if person.ended_at == person.joined_at else Decision.SCREENED_OUT
    return Decision.PAY_PART if done else Decision.RETURN


def _amount(rule: PayRule | None, decision: Decision, done: int) -> Decimal | None:
    if rule is None or decision == Decision.OPEN:
        return None
    amounts = {
        Decision.APPROVE: rule.completed,
        Decision.PAY_PART: min(done * rule.per_conversation, rule.completed),
        Decision.SCREENED_OUT: rule.screened_out,
    }
    return amounts.get(decision, Decimal("0.00"))


def _reason(person: Annotator, decision: Decision, *, completed: bool, is_over: bool) -> str:
    if completed:
        if person.state == Annotator.State.WITHDRAWN:
            return "Completed, withdrew afterwards"
        return "Completed, over the quota" if is_over else "Completed"
    if person.state == Annotator.State.ACTIVE:
        return "Takes part" if decision == Decision.OPEN else "Left in silence; may come back"
    return person.get_end_reason_display() if person.end_reason else person.get_state_display()


def _held_until(person: Annotator) -> datetime:
    return person.active_at + timedelta(hours=person.study.place_hours)


def _payable_at(person: Annotator, decision: Decision) -> datetime | None:
    if decision == Decision.OPEN:
        return None
    return person.ended_at or _held_until(person)


def _due_at(person: Annotator, decision: Decision) -> datetime | None:
    if decision == Decision.APPROVE and person.ended_at:
        return person.ended_at + APPROVAL_TIME
    return _held_until(person) if decision == Decision.OPEN else None
