"""Payment lists as files. Cells that a spreadsheet would run as a formula are made inert, as in releases."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from apps.annotators.models import RecruitmentLink
from apps.core.text import neutralise
from apps.desk.payments.decisions import Decision, Payment
from apps.desk.payments.identities import PanelPerson
from apps.exports.selectors import iso

People = Mapping[int, PanelPerson]

PEOPLE_COLUMNS = (
    *("study", "link", "purpose", "code", "locale", "decision", "conversations", "minutes"),
    *("amount", "currency", "due_at", "settled", "reason"),
)
PANEL_COLUMNS = ("participant", "session", "decision", "amount", "currency", "reason")


def due(payments: Iterable[Payment], until: datetime) -> list[Payment]:
    """What was due by `until` and not settled before: what a panel's file holds, so that nobody is paid twice."""
    return [each for each in payments if each.payable_at and each.payable_at <= until and not each.is_settled]


def write_people(file: TextIO, link: RecruitmentLink, payments: Iterable[Payment]) -> None:
    """One line per person under their completion code; holds no identity."""
    rows = (
        (
            *(link.study.slug, link.name, link.purpose, each.code, each.locale, each.decision.value),
            *(each.conversations, each.minutes, each.amount, each.currency, iso(each.due_at) if each.due_at else None),
            *("true" if each.is_settled else "false", each.reason),
        )
        for each in payments
    )
    _write(file, [PEOPLE_COLUMNS, *rows])


def write_panel(file: TextIO, payments: Iterable[Payment], people: People) -> None:
    """One line per person whom the panel knows."""
    rows = (
        (
            *(people[each.annotator_id].participant, people[each.annotator_id].session),
            *(each.decision.value, each.amount, each.currency, each.reason),
        )
        for each in payments
        if each.annotator_id in people
    )
    _write(file, [PANEL_COLUMNS, *rows])


def write_approvals(file: TextIO, payments: Iterable[Payment], people: People) -> None:
    """Prolific's bulk approval: the numbers of those who are approved, one a line, without a header."""
    approved = (each for each in payments if each.decision == Decision.APPROVE)
    _write(file, ((people[each.annotator_id].participant,) for each in approved if each.annotator_id in people))


def write_bonuses(file: TextIO, payments: Iterable[Payment], people: People, currency: str) -> None:
    """Prolific's bulk bonus: `number,amount` of those who are paid otherwise, in one currency, without a header."""
    paid = (each for each in payments if is_bonus(each) and each.currency == currency)
    _write(file, ((people[each.annotator_id].participant, each.amount) for each in paid if each.annotator_id in people))


def is_bonus(payment: Payment) -> bool:
    """Whether Prolific pays it beside the approvals."""
    return payment.decision in (Decision.PAY_PART, Decision.SCREENED_OUT) and bool(payment.amount)


def _write(file: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if value is None else neutralise(str(value)) for value in row])
