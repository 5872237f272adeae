"""The payments page: who sees identities, what is logged, files for the panel, and settling."""

import csv
import io
import logging
import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.annotators.identities import encrypt
from apps.annotators.models import IdentityReading, PanelIdentity, RecruitmentLink
from apps.desk.payments import files, identities, pages
from apps.studies.models import PayRule, StudyMembership
from tests.desk.paid import Role, paid_link, person, reader
from tests.factories import StudyFactory, UserFactory

pytestmark = pytest.mark.django_db
CANARY = "canary4711"
READING = ["payments_identities", "payments_file", "payments_reconciliation"]


def url(name: str, link: RecruitmentLink) -> str:
    return reverse(f"admin:{name}", args=[link.pk])


def lines(response) -> list[list[str]]:
    return list(csv.reader(io.StringIO(response.content.decode())))


def told(client: Client, link: RecruitmentLink, **data):
    return client.post(url("payments_file", link), data)


def upload(client: Client, link: RecruitmentLink, text: str):
    return client.post(url("payments_reconciliation", link), {"export": SimpleUploadedFile("export.csv", text.encode())})


@pytest.fixture
def link():
    link = paid_link()
    person(link, CANARY, state="COMPLETED")
    person(link, "left1", state="WITHDRAWN")
    person(link, "out1", state="SCREENED_OUT", end_reason="NOT_ELIGIBLE")
    person(link, "here1", active_at=timezone.now())
    return link


def test_every_member_sees_the_list_by_code_and_nobody_an_identity_on_it(link):
    code = link.annotators.get(state="COMPLETED").completion_code
    for role in Role:
        for may_see in (True, False):
            page = reader(link.study, role, may_see).get(url("payments", link))
            assert page.status_code == 200
            assert code in page.text
            assert f"{link.study} · Prolific" in page.text
            assert CANARY not in page.text
            assert ("Show the panel" in page.text) == may_see
    assert not IdentityReading.objects.exists()


def test_identities_are_shown_to_who_may_see_them_and_the_reading_is_logged(link):
    page = reader(link.study, Role.VIEWER, username="lea").post(url("payments_identities", link), {"decision": "APPROVE"})
    assert CANARY in page.text
    assert "here1" not in page.text
    reading = IdentityReading.objects.get()
    assert (reading.user.username, reading.identities, reading.purpose, reading.study) == ("lea", 1, "payments page", link.study)
    assert "lea: payments page, 1 person" in " ".join(reader(link.study).get(url("payments", link)).text.split())


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("role", Role)
def test_s9_without_the_right_nobody_reads_identities(link, name, role):
    answer = reader(link.study, role, may_see=False).post(url(name, link), {"file": "panel"})
    assert answer.status_code == 403
    assert CANARY not in answer.text
    assert not IdentityReading.objects.exists()


def test_s9_sabotage_without_the_check_anybody_reads_identities(link, monkeypatch):
    monkeypatch.setattr(identities, "may_see_identities", lambda user, study: True)
    with pytest.raises(AssertionError):
        test_s9_without_the_right_nobody_reads_identities(link, "payments_file", Role.VIEWER)


@pytest.mark.parametrize("name", ["payments", "payments_people", "payments_settled", *READING])
def test_s9_other_studies_are_not_there_and_visitors_log_in(link, name):
    stranger, visitor = reader(StudyFactory(), Role.OWNER), Client()
    is_page = name in ("payments", "payments_people")
    assert (stranger.get if is_page else stranger.post)(url(name, link)).status_code == 404
    assert (visitor.get if is_page else visitor.post)(url(name, link)).status_code == 302
    member = reader(link.study)
    assert (member.post if is_page else member.get)(url(name, link)).status_code == 405, "reading by GET would leave a line for a prefetch"


def test_s9_only_owners_say_who_may_see_identities(link):
    owner = reader(link.study, Role.OWNER, username="owner")
    page = reverse("admin:studies_study_change", args=[link.study.pk])
    assert "may_see_identities" in owner.get(page).text
    researcher = reader(link.study, Role.RESEARCHER, may_see=False, username="lea")
    form = researcher.get(page).text
    assert not re.search(r'name="memberships-\d+-may_see_identities"', form)
    membership = StudyMembership.objects.get(user__username="lea")
    data = {
        "memberships-TOTAL_FORMS": 1,
        "memberships-INITIAL_FORMS": 1,
        "memberships-0-id": membership.pk,
        "memberships-0-may_see_identities": "on",
    }
    researcher.post(page, data)
    membership.refresh_from_db()
    assert membership.may_see_identities is False


def test_a_superuser_reads_identities_without_a_membership(link):
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert CANARY in client.post(url("payments_identities", link)).text


# --- Files ------------------------------------------------------------------------------------------------------------


def test_prolific_gets_approvals_and_bonuses(link):
    member = reader(link.study)
    approvals = told(member, link, file="approve")
    assert lines(approvals) == [[CANARY]]
    assert approvals.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert approvals.headers["Content-Disposition"] == f'attachment; filename="{link.study.slug}-link{link.pk}-approve.csv"'
    assert "no-store" in approvals.headers["Cache-Control"]
    assert lines(told(member, link, file="bonus", currency="EUR")) == [["out1", "0.50"]]
    assert list(IdentityReading.objects.order_by("pk").values_list("purpose", "identities")) == [("approve file", 3), ("bonus file", 3)]


def test_any_panel_gets_all_that_is_due_with_reasons(link):
    header, *rows = lines(told(reader(link.study), link, file="panel"))
    assert header == list(files.PANEL_COLUMNS)
    assert sorted(rows) == [
        [CANARY, "s1", "APPROVE", "6.00", "EUR", "Completed"],
        ["left1", "s1", "RETURN", "0.00", "EUR", "Withdrawn"],
        ["out1", "s1", "SCREENED_OUT", "0.50", "EUR", "An answer showed that the person is not eligible"],
    ]


@pytest.mark.parametrize("data", [{"file": "people"}, {"file": "bonus", "currency": "USD"}, {"file": "bonus"}, {}, {"file": "../x"}])
def test_a_file_that_does_not_exist_is_not_found_and_not_logged(link, data):
    assert told(reader(link.study), link, **data).status_code == 404
    assert not IdentityReading.objects.exists()


def test_a_direct_link_has_a_list_and_no_panel_files():
    link = paid_link(kind="DIRECT")
    code = person(link, state="COMPLETED").completion_code
    member = reader(link.study)
    assert code in member.get(url("payments", link)).text
    assert told(member, link, file="panel").status_code == 404
    assert upload(member, link, "participant,status,code\np1,APPROVED,\n").status_code == 404


def test_the_list_by_code_is_for_members_and_holds_no_identity(link):
    response = reader(link.study, Role.VIEWER, may_see=False).get(url("payments_people", link))
    header, *rows = lines(response)
    assert header == list(files.PEOPLE_COLUMNS)
    assert len(rows) == 4
    assert CANARY not in response.text
    assert not IdentityReading.objects.exists()


@pytest.mark.parametrize("number", ["=1+1", "+1", "-1", "@SUM(A1)", "'=1"])
def test_s7_a_number_that_a_spreadsheet_would_run_is_made_inert(number):
    link = paid_link()
    person(link, number, state="COMPLETED")
    member = reader(link.study)
    assert lines(told(member, link, file="approve")) == [[f"'{number}"]]
    assert lines(told(member, link, file="panel"))[1][0] == f"'{number}"


def test_s7_sabotage_without_the_rule_it_would_run(monkeypatch):
    monkeypatch.setattr(files, "neutralise", str)
    with pytest.raises(AssertionError):
        test_s7_a_number_that_a_spreadsheet_would_run_is_made_inert("=1+1")


def test_a_number_whose_key_is_gone_is_counted_and_the_others_are_read(link, settings):
    key = settings.IDENTITY_KEY
    settings.IDENTITY_KEY = "another-key-that-was-lost-later"
    PanelIdentity.objects.filter(annotator__state="WITHDRAWN").update(participant=encrypt("left1"))
    settings.IDENTITY_KEY = key
    page = reader(link.study).post(url("payments_identities", link)).text
    assert CANARY in page
    assert "1 number cannot be read" in page


def test_the_page_names_locales_without_pay_rules(link):
    PayRule.objects.all().delete()
    assert "Without pay rules, and so without amounts: en-US." in reader(link.study).get(url("payments", link)).text


# --- Settling ---------------------------------------------------------------------------------------------------------


def listed_at(client: Client, link: RecruitmentLink) -> str:
    return re.search(r'name="listed_at"\s+value="([^"]+)"', client.get(url("payments", link)).text)[1]


def test_settling_marks_what_the_list_showed_and_forgets_who_left(link):
    member = reader(link.study)
    moment = listed_at(member, link)
    later = person(link, "later1", state="WITHDRAWN", ended_at=timezone.now() + timedelta(seconds=1))
    assert member.post(url("payments_settled", link), {"listed_at": moment}).status_code == 302
    link.refresh_from_db()
    assert link.settled_at is not None
    assert (
        not PanelIdentity.objects.filter(annotator__recruitment_link=link, annotator__state="WITHDRAWN").exclude(annotator=later).exists()
    )
    assert PanelIdentity.objects.filter(annotator=later).exists(), "who left since then is not paid yet"
    assert lines(told(member, link, file="approve")) == []


def test_a_file_holds_what_the_list_showed_when_it_was_made(link):
    member = reader(link.study)
    moment = listed_at(member, link)
    person(link, "later1", state="COMPLETED", ended_at=timezone.now())
    assert lines(told(member, link, file="approve", listed_at=moment)) == [[CANARY]]
    assert sorted(lines(told(member, link, file="approve"))) == [[CANARY], ["later1"]]


@pytest.mark.parametrize("role", [Role.TRANSLATOR, Role.REVIEWER, Role.VIEWER])
def test_s9_only_researchers_and_owners_settle(link, role):
    member = reader(link.study, role)
    assert "All of this is paid" not in member.get(url("payments", link)).text
    assert member.post(url("payments_settled", link), {"listed_at": timezone.now().isoformat()}).status_code == 403
    assert PanelIdentity.objects.count() == 4


@pytest.mark.parametrize("moment", ["", "yesterday", "2026-13-45T00:00:00+00:00", "2026-11-23T12:00:00", "2999-01-01T00:00:00+00:00"])
def test_a_moment_that_no_list_was_made_at_settles_nothing(link, moment):
    reader(link.study).post(url("payments_settled", link), {"listed_at": moment})
    link.refresh_from_db()
    assert link.settled_at is None
    assert PanelIdentity.objects.count() == 4


def test_an_older_list_does_not_undo_a_later_settlement(link):
    member = reader(link.study)
    RecruitmentLink.objects.update(settled_at=timezone.now())
    before = RecruitmentLink.objects.get().settled_at
    member.post(url("payments_settled", link), {"listed_at": (before - timedelta(hours=1)).isoformat()})
    assert RecruitmentLink.objects.get().settled_at == before


# --- Reconciliation and logs ------------------------------------------------------------------------------------------


def test_the_panels_export_is_compared_and_only_the_reading_is_stored(link):
    header = "Submission id,Participant id,Status,Started at,Time taken,Completion code"
    text = f"{header}\nx,{CANARY},AWAITING REVIEW,,600,WRONG\nx,new1,RETURNED,,5,\n"
    page = upload(reader(link.study), link, text)
    assert page.status_code == 200
    assert "Completed here, so the code does not matter: approve." in page.text
    assert "Left before agreeing to take part: nothing to do." in page.text
    assert IdentityReading.objects.get().purpose == "reconciliation"


def test_a_file_that_is_no_export_is_refused_by_line_and_nothing_is_read(link):
    page = upload(reader(link.study), link, "Participant id,Status,Completion code\np1,DANCING,\n")
    assert page.status_code == 400
    assert "Line 2: unknown status; expected one of SUBMITTED" in page.text
    assert not IdentityReading.objects.exists()


def test_p7_no_identity_enters_the_logs_or_a_page_without_the_right(link, caplog):
    member, other = reader(link.study), reader(link.study, may_see=False)
    with caplog.at_level(logging.DEBUG):
        member.post(url("payments_identities", link))
        for name in ("approve", "panel"):
            told(member, link, file=name)
        upload(member, link, f"participant,status,code\n{CANARY},APPROVED,\nthem{CANARY},RETURNED,\n")
        upload(member, link, f'participant,status,code\n{CANARY},"x,\n{CANARY},UNKNOWN,{CANARY}\n')
        shown = [other.get(url(name, link)).text for name in ("payments", "payments_people")]
        shown += [other.get(reverse(f"admin:annotators_{name}_changelist")).text for name in ("annotator", "recruitmentlink")]
    assert CANARY not in caplog.text
    assert not [page for page in shown if CANARY in page]


def test_p7_sabotage_a_logged_identity_is_found(link, caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("apps.desk").info("paid %s", CANARY)
    assert CANARY in caplog.text


def test_the_pages_bring_no_inline_script_or_style(link):
    member = reader(link.study)
    shown = [member.get(url("payments", link)).text, upload(member, link, f"participant,status,code\n{CANARY},APPROVED,\n").text]
    for page in shown:
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page)


def test_a_long_list_comes_in_pages(monkeypatch):
    link = paid_link()
    for number in range(3):
        person(link, f"number{number}x", state="COMPLETED")
    member = reader(link.study)
    monkeypatch.setattr(pages, "PAGE_SIZE", 2)
    second = member.post(url("payments_identities", link), {"page": "2"})
    assert "Page 2 of 2." in second.text
    assert len(re.findall(r"number\dx", second.text)) == 1
    assert IdentityReading.objects.get().identities == 1, "only what is shown is read"


def test_the_list_of_links_leads_here(link):
    assert url("payments", link) in reader(link.study).get(reverse("admin:annotators_recruitmentlink_changelist")).text
