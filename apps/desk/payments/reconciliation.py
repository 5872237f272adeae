"""A panel's own export beside our list: who is on both, who on one, where they disagree, and what to do. Nothing of it is stored."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import TextChoices

from apps.annotators.identities import is_identity, outside_hash
from apps.annotators.models import Annotator, RecruitmentLink
from apps.core.errors import DomainError
from apps.desk.payments.decisions import Decision, Payment
from apps.desk.payments.files import People

MAX_BYTES = 2 * 1024 * 1024
MAX_PROBLEMS = 20
# Column → the names under which panels export it, in small letters.
_COLUMNS = {
    "participant": ("participant id", "participant_id", "participant"),
    "status": ("status",),
    "code": ("completion code", "completion_code", "entered code", "code"),
}
_NO_CODE = {"", "NOCODE", "NO CODE", "NONE"}


class PanelSays(TextChoices):
    """What a panel says became of a person."""

    SUBMITTED = "SUBMITTED", "Submitted"
    APPROVED = "APPROVED", "Approved"
    SCREENED_OUT = "SCREENED_OUT", "Screened out"
    RETURNED = "RETURNED", "Returned"
    TIMED_OUT = "TIMED_OUT", "Timed out"
    REJECTED = "REJECTED", "Rejected"
    ACTIVE = "ACTIVE", "Takes part"


_STATUSES = {
    **{status.value: status for status in PanelSays},
    "AWAITING_REVIEW": PanelSays.SUBMITTED,
    "COMPLETED": PanelSays.SUBMITTED,
    "PARTIALLY_APPROVED": PanelSays.APPROVED,
    "RESERVED": PanelSays.ACTIVE,
    "STARTED": PanelSays.ACTIVE,
    "QUOTA_FULL": PanelSays.SCREENED_OUT,
}


class Verdict(TextChoices):
    MATCH = "MATCH", "Agrees"
    STATUS = "STATUS", "Statuses disagree"
    WRONG_CODE = "WRONG_CODE", "Wrong or missing code"
    ONLY_HERE = "ONLY_HERE", "Only here"
    ONLY_THERE = "ONLY_THERE", "Only on the panel"


@dataclass(frozen=True)
class PanelRow:
    line: int
    participant: str
    status: PanelSays
    code: str


@dataclass(frozen=True)
class Finding:
    """One person, and what to do about them. `payment` is None for somebody whom only the panel knows, `row` for whom only we know."""

    verdict: Verdict
    participant: str
    payment: Payment | None
    row: PanelRow | None
    to_do: str


@dataclass(frozen=True)
class Reconciliation:
    findings: list[Finding]
    counts: dict[Verdict, int]


class ExportRefused(DomainError):
    """A file cannot be read as a panel's export. `problems` name lines, and never repeat what stands there."""

    code = "export_refused"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


def read_export(data: bytes) -> list[PanelRow]:
    """The people of a panel's CSV export: Prolific's, or one with the columns participant, status and code. Raises `ExportRefused`."""
    if len(data) > MAX_BYTES:
        raise ExportRefused([f"Expected a file of at most {MAX_BYTES // 1024 // 1024} MB."])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ExportRefused([f"Line {line}: expected UTF-8 text."]) from None
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    problems: list[str] = []
    rows: list[PanelRow] = []
    try:
        places = _places(next(reader, []))
        seen: dict[str, int] = {}
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = _row(reader.line_num, cells, places, seen, problems)
            if row is not None:
                rows.append(row)
            if len(problems) >= MAX_PROBLEMS:
                break
    except csv.Error:
        problems.append(f"Line {reader.line_num}: expected CSV; a quotation mark or a line break stands in the wrong place.")
    if not rows and not problems:
        problems.append("Expected at least one person below the header.")
    if problems:
        raise ExportRefused(problems)
    return rows


def _places(header: list[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    places = {column: names.index(name) for column, known in _COLUMNS.items() for name in reversed(known) if name in names}
    missing = [known[0] for column, known in _COLUMNS.items() if column not in places]
    if missing:
        expected = "Line 1: expected the columns Participant id, Status and Completion code (or participant, status, code)"
        raise ExportRefused([f"{expected}; missing: {', '.join(missing)}."])
    return places


def _row(line: int, cells: list[str], places: dict[str, int], seen: dict[str, int], problems: list[str]) -> PanelRow | None:
    if len(cells) <= max(places.values()):
        problems.append(f"Line {line}: expected as many cells as the header has, found {len(cells)}.")
        return None
    participant, status, code = (cells[places[column]].strip() for column in _COLUMNS)
    known = _STATUSES.get(status.upper().replace("-", "_").replace(" ", "_"))
    if not is_identity(participant):
        problems.append(f"Line {line}: expected a participant id of 1 to 100 visible characters.")
    elif participant in seen:
        problems.append(f"Line {line}: the same participant stands on line {seen[participant]}.")
    elif known is None:
        statuses = ", ".join(_STATUSES)
        problems.append(f"Line {line}: unknown status; expected one of {statuses}.")
    else:
        seen[participant] = line
        return PanelRow(line, participant, known, code)
    return None


def reconcile(*, link: RecruitmentLink, payments: Sequence[Payment], people: People, rows: Sequence[PanelRow]) -> Reconciliation:
    """Compare `payments` of `link`, whose `people` are known by number, with the panel's `rows`; what needs doing comes first."""
    ours = {people[each.annotator_id].participant: each for each in payments if each.annotator_id in people}
    theirs = {row.participant: row for row in rows}
    elsewhere = _known_elsewhere(link, [number for number in theirs if number not in ours])
    findings = [_finding(number, payment, theirs.get(number)) for number, payment in ours.items()]
    findings += [_unknown(row, elsewhere.get(number, "")) for number, row in theirs.items() if number not in ours]
    order = [Verdict.STATUS, Verdict.WRONG_CODE, Verdict.ONLY_THERE, Verdict.ONLY_HERE, Verdict.MATCH]
    findings.sort(key=lambda finding: (order.index(finding.verdict), finding.participant))
    counts = Counter(finding.verdict for finding in findings)
    return Reconciliation(findings, {verdict: counts[verdict] for verdict in order})


def _known_elsewhere(link: RecruitmentLink, numbers: Iterable[str]) -> dict[str, str]:
    """Number → name of the other link of the study through which the person came."""
    by_hash = {outside_hash(study_pk=link.study_id, kind=link.kind, participant=number): number for number in numbers}
    rows = Annotator.objects.filter(study=link.study_id, external_id_hash__isnull=False).exclude(recruitment_link=link)
    known = rows.values_list("external_id_hash", "recruitment_link__name")
    return {by_hash[known_as]: name for known_as, name in known if known_as in by_hash}


_AS_BONUS = "Pay the amount as a bonus."
_NOTHING = "Nothing to do."
_ASK_TO_RETURN = "Ask the person to return it."
_ASK_TO_RETURN_AND_PAY = "Ask the person to return it, and pay the amount as a bonus."
_NO_MORE = "The panel has paid in full already: pay no more."
_NOT_REJECTED = "Have the rejection taken back, and pay the amount as a bonus."
_OPEN_THERE_ENDED = "Wait until their place here is given up, or send the panel's status message; then reconcile again."
_OPEN_HERE = "Ask the person to finish here; what they have done is paid in any case."

# Our decision → what the panel says → whether both agree, and what to do.
_WHAT_TO_DO: dict[Decision, dict[PanelSays, tuple[bool, str]]] = {
    Decision.APPROVE: {
        PanelSays.SUBMITTED: (True, "Approve."),
        PanelSays.APPROVED: (True, _NOTHING),
        PanelSays.SCREENED_OUT: (False, "Completed here: pay what is missing to the full amount as a bonus."),
        PanelSays.RETURNED: (False, "Completed here: pay the full amount as a bonus."),
        PanelSays.TIMED_OUT: (False, "Completed here: approve it if the panel still allows, else pay the full amount as a bonus."),
        PanelSays.REJECTED: (False, "Completed here: have the rejection taken back, and approve."),
        PanelSays.ACTIVE: (True, "Completed here: wait until the person submits."),
    },
    Decision.PAY_PART: {
        PanelSays.SUBMITTED: (False, _ASK_TO_RETURN_AND_PAY),
        PanelSays.APPROVED: (False, _NO_MORE),
        PanelSays.SCREENED_OUT: (False, "Pay what is missing to the amount as a bonus."),
        PanelSays.RETURNED: (True, _AS_BONUS),
        PanelSays.TIMED_OUT: (True, _AS_BONUS),
        PanelSays.REJECTED: (False, _NOT_REJECTED),
        PanelSays.ACTIVE: (True, _ASK_TO_RETURN_AND_PAY),
    },
    Decision.SCREENED_OUT: {
        PanelSays.SUBMITTED: (True, "Have it returned or screened out on the panel, and pay the amount, if there is one."),
        PanelSays.APPROVED: (False, _NO_MORE),
        PanelSays.SCREENED_OUT: (True, "Nothing to do, unless the panel's own screen-out payment is less than the amount."),
        PanelSays.RETURNED: (True, "Pay the amount as a bonus, if there is one."),
        PanelSays.TIMED_OUT: (True, "Pay the amount as a bonus, if there is one."),
        PanelSays.REJECTED: (False, "We turned them away: have the rejection taken back."),
        PanelSays.ACTIVE: (True, _ASK_TO_RETURN),
    },
    Decision.RETURN: {
        PanelSays.SUBMITTED: (False, "Nothing was finished here: ask the person what happened, and to return it."),
        PanelSays.APPROVED: (False, _NO_MORE),
        PanelSays.SCREENED_OUT: (True, _NOTHING),
        PanelSays.RETURNED: (True, _NOTHING),
        PanelSays.TIMED_OUT: (True, _NOTHING),
        PanelSays.REJECTED: (True, _NOTHING),
        PanelSays.ACTIVE: (True, _ASK_TO_RETURN),
    },
    Decision.OPEN: {
        PanelSays.SUBMITTED: (False, _OPEN_HERE),
        PanelSays.APPROVED: (False, _OPEN_HERE),
        PanelSays.SCREENED_OUT: (False, _OPEN_THERE_ENDED),
        PanelSays.RETURNED: (False, _OPEN_THERE_ENDED),
        PanelSays.TIMED_OUT: (False, _OPEN_THERE_ENDED),
        PanelSays.REJECTED: (False, _OPEN_THERE_ENDED),
        PanelSays.ACTIVE: (True, _NOTHING),
    },
}


def _finding(number: str, payment: Payment, row: PanelRow | None) -> Finding:
    if row is None:
        to_do = "Check that the file is whole and of this study. If so, ask the panel who this is before you pay."
        return Finding(Verdict.ONLY_HERE, number, payment, None, to_do)
    agrees, to_do = _WHAT_TO_DO[payment.decision][row.status]
    verdict = Verdict.MATCH if agrees else Verdict.STATUS
    if row.status in (PanelSays.SUBMITTED, PanelSays.APPROVED) and not _is_right_code(payment, row.code):
        if payment.decision == Decision.APPROVE:
            return Finding(Verdict.WRONG_CODE, number, payment, row, "Completed here, so the code does not matter: approve.")
        if row.code.upper() not in _NO_CODE:
            return Finding(Verdict.WRONG_CODE, number, payment, row, f"Not a code that we gave this person: ask where it is from. {to_do}")
    return Finding(verdict, number, payment, row, to_do)


def _is_right_code(payment: Payment, code: str) -> bool:
    if code.upper() in _NO_CODE:
        return not payment.return_code
    return code.casefold() == payment.return_code.casefold()


def _unknown(row: PanelRow, other_link: str) -> Finding:
    if other_link:
        to_do = f"Came through the link “{other_link}”: see its payments."
    elif row.status in (PanelSays.SUBMITTED, PanelSays.APPROVED):
        to_do = "Never agreed to take part here: ask what they saw before you decide."
    else:
        to_do = "Left before agreeing to take part: nothing to do."
    return Finding(Verdict.ONLY_THERE, row.participant, None, row, to_do)
