"""A panel's export beside our list."""

import pytest

from apps.desk.payments.decisions import Decision, payments_of
from apps.desk.payments.identities import PanelPerson
from apps.desk.payments.reconciliation import _WHAT_TO_DO, MAX_BYTES, ExportRefused, PanelSays, Verdict, read_export, reconcile
from tests.annotation.fieldwork import NOW
from tests.desk.paid import paid_link, person

HEADER = "participant,status,code\n"


def read(text: str):
    return read_export(text.encode())


def problems(data: bytes) -> list[str]:
    with pytest.raises(ExportRefused) as refused:
        read_export(data)
    return refused.value.problems


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_both_shapes_are_read_with_each_usual_separator(separator):
    prolific = "Submission id,Participant id,Status,Time taken,Completion code\ns1,p1,AWAITING REVIEW,61,ABC\ns2,p2,TIMED-OUT,,\n"
    generic = "\ufeffstatus,code,participant\r\napproved,ABC,p1\r\n\r\nTimed out,,p2\r\n"
    for text, first in ((prolific, PanelSays.SUBMITTED), (generic, PanelSays.APPROVED)):
        rows = read(text.replace(",", separator))
        assert [(row.participant, row.status, row.code) for row in rows] == [("p1", first, "ABC"), ("p2", PanelSays.TIMED_OUT, "")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "Line 1: expected the columns Participant id, Status and Completion code"),
        (b"participant,code\np1,x\n", "missing: status."),
        (HEADER.encode(), "Expected at least one person"),
        (HEADER.encode() + b"p1,APPROVED\n", "Line 2: expected as many cells as the header has, found 2."),
        (HEADER.encode() + b"p1,APPROVED,\n,APPROVED,\n", "Line 3: expected a participant id"),
        (HEADER.encode() + b"p1,APPROVED,\np1,RETURNED,\n", "Line 3: the same participant stands on line 2."),
        (HEADER.encode() + b"p1,DANCING,\n", "Line 2: unknown status"),
        (HEADER.encode() + b'p1,APPROVED,\np2,"APPROVED,\n', "expected CSV"),
        (HEADER.encode() + b"p1,APPROVED,\xff\n", "Line 2: expected UTF-8 text."),
        (b"x" * (MAX_BYTES + 1), "Expected a file of at most 2 MB."),
        (b'\x00PK\x03\x04,"', "Line 1"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(data, expected):
    assert expected in " ".join(problems(data))


def test_all_problems_are_listed_up_to_a_limit_and_never_repeat_the_file():
    found = problems((HEADER + "canary,DANCING,canary\n" * 50).encode())
    assert len(found) == 20
    assert "canary" not in " ".join(found)


def test_every_pair_of_decision_and_status_has_an_answer():
    assert {decision: set(answers) for decision, answers in _WHAT_TO_DO.items()} == {decision: set(PanelSays) for decision in Decision}


@pytest.fixture
def sides(db):
    link = paid_link(completion_code="DONE1", screen_out_code="OUT1")
    people = {
        "done": person(link, "done", state="COMPLETED"),
        "out": person(link, "out", state="SCREENED_OUT", end_reason="NOT_ELIGIBLE"),
        "left": person(link, "left", state="WITHDRAWN"),
        "here": person(link, "here"),
    }
    return link, {annotator.pk: PanelPerson(number, "") for number, annotator in people.items()}


def compare(sides, text: str) -> dict[str, tuple[Verdict, str]]:
    link, people = sides
    result = reconcile(link=link, payments=payments_of(link, NOW), people=people, rows=read(HEADER + text))
    assert sum(result.counts.values()) == len(result.findings)
    return {finding.participant: (finding.verdict, finding.to_do) for finding in result.findings}


@pytest.mark.parametrize(
    ("line", "verdict", "to_do"),
    [
        ("done,AWAITING REVIEW,done1", Verdict.MATCH, "Approve."),
        ("done,APPROVED,DONE1", Verdict.MATCH, "Nothing to do."),
        ("done,APPROVED,OTHER", Verdict.WRONG_CODE, "Completed here, so the code does not matter"),
        ("done,SUBMITTED,NOCODE", Verdict.WRONG_CODE, "Completed here, so the code does not matter"),
        ("done,RETURNED,", Verdict.STATUS, "pay the full amount as a bonus"),
        ("done,TIMED-OUT,", Verdict.STATUS, "pay the full amount as a bonus"),
        ("done,REJECTED,", Verdict.STATUS, "have the rejection taken back"),
        ("done,ACTIVE,", Verdict.MATCH, "wait until the person submits"),
        ("out,SCREENED OUT,OUT1", Verdict.MATCH, "Nothing to do, unless"),
        ("out,SUBMITTED,OUT1", Verdict.MATCH, "pay the amount"),
        ("out,SUBMITTED,DONE1", Verdict.WRONG_CODE, "Not a code that we gave this person"),
        ("out,REJECTED,", Verdict.STATUS, "We turned them away"),
        ("left,SUBMITTED,DONE1", Verdict.WRONG_CODE, "ask where it is from"),
        ("left,SUBMITTED,", Verdict.STATUS, "Nothing was finished here"),
        ("left,RETURNED,", Verdict.MATCH, "Nothing to do."),
        ("here,ACTIVE,", Verdict.MATCH, "Nothing to do."),
        ("here,RETURNED,", Verdict.STATUS, "send the panel's status message"),
        ("new,APPROVED,DONE1", Verdict.ONLY_THERE, "Never agreed to take part here"),
        ("new,TIMED-OUT,", Verdict.ONLY_THERE, "Left before agreeing"),
    ],
)
def test_each_disagreement_says_what_to_do(sides, line, verdict, to_do):
    found = compare(sides, line + "\n")[line.split(",")[0]]
    assert found[0] == verdict
    assert to_do in found[1]


def test_people_on_one_side_only_are_told_apart(sides):
    found = compare(sides, "done,SUBMITTED,DONE1\nnew,RETURNED,\n")
    assert {number: verdict for number, (verdict, _) in found.items()} == {
        "done": Verdict.MATCH, "out": Verdict.ONLY_HERE, "left": Verdict.ONLY_HERE, "here": Verdict.ONLY_HERE, "new": Verdict.ONLY_THERE,
    }  # fmt: skip
    assert next(iter(found)) == "new", "what needs doing comes first"


def test_somebody_of_another_link_of_the_study_is_named_there(sides):
    link, _ = sides
    person(paid_link(study=link.study, name="second batch"), "moved", state="COMPLETED")
    verdict, to_do = compare(sides, "moved,SUBMITTED,DONE1\n")["moved"]
    assert verdict == Verdict.ONLY_THERE
    assert "second batch" in to_do


def test_somebody_of_another_study_is_unknown(sides):
    person(paid_link(name="elsewhere"), "moved", state="COMPLETED")
    assert "Never agreed" in compare(sides, "moved,SUBMITTED,DONE1\n")["moved"][1]


def test_a_personal_code_is_right_for_its_own_person_only(db):
    link = paid_link()
    first, second = person(link, "p1", state="COMPLETED"), person(link, "p2", state="COMPLETED")
    people = {first.pk: PanelPerson("p1", ""), second.pk: PanelPerson("p2", "")}
    found = compare((link, people), f"p1,SUBMITTED,{first.completion_code}\np2,SUBMITTED,{first.completion_code}\n")
    assert [found[number][0] for number in ("p1", "p2")] == [Verdict.MATCH, Verdict.WRONG_CODE]
