"""The board's pages: who sees and edits what, what a refused edit keeps, and files that a spreadsheet does not run."""

import csv
import io
import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from apps.quotas.models import QuotaCell, TargetChange
from apps.quotas.services import place_annotator, set_target
from apps.studies.models import Study, StudyMembership
from tests.annotation.fieldwork import NOW, seated_study
from tests.factories import RecruitmentLinkFactory, StudyFactory, UserFactory
from tests.quotas.sampling import MEN, WOMEN, person, quota

pytestmark = pytest.mark.django_db
Role = StudyMembership.Role


def member(study: Study, role: Role, username: str = "") -> Client:
    user = UserFactory(is_staff=True, **({"username": username} if username else {}))
    StudyMembership.objects.create(study=study, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def study() -> Study:
    study = seated_study(prompts=2)
    quota(study, "gender", women=(10, WOMEN), men=(9, MEN))
    place_annotator(annotator=person(study, "woman"), now=NOW)
    place_annotator(annotator=person(study), now=NOW)
    return study


@pytest.fixture
def women(study) -> QuotaCell:
    return QuotaCell.objects.get(key="women")


def board(study: Study) -> str:
    return reverse("admin:board", args=[study.pk])


def save(client: Client, cell: QuotaCell, target: str, version: int | None = None):
    url = reverse("admin:board_target", args=[cell.quota.study_id])
    return client.post(url, {"cell": cell.pk, "version": cell.version if version is None else version, "target": target})


def row_of(page: str, cell: QuotaCell) -> str:
    """The text of the table row of `cell`."""
    found = re.search(rf'<tr id="cell-{cell.pk}">.*?</tr>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def test_every_cell_stands_in_the_table_and_in_the_heat_map(study, women):
    page = member(study, Role.VIEWER).get(board(study)).text
    assert row_of(page, women).startswith("gender hard women 10 1 0 0 0 9")
    assert "no cell: outside the cells" in page
    heat = page[page.index('<div class="heat"') : page.index("<table")]
    assert "women" in heat
    assert "0 / 10" in heat
    assert "0 %, 1 at work" in " ".join(heat.split())


def test_the_part_that_refreshes_has_the_same_figures(study, women):
    viewer = member(study, Role.VIEWER)
    part = viewer.get(reverse("admin:board_figures", args=[study.pk])).text
    assert "<html" not in part
    assert row_of(part, women) == row_of(viewer.get(board(study)).text, women)


def test_the_page_says_when_it_was_counted_and_brings_no_inline_script_or_style(study):
    page = member(study, Role.OWNER).get(board(study))
    assert re.search(r"Counted at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\.", page.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)", page.text)
    assert "<style" not in page.text
    assert not re.search(r"<[^>]+\s(style|on\w+)=", page.text)
    assert "no-store" in page.headers["Cache-Control"]


@pytest.mark.parametrize("name", ["board", "board_figures"])
def test_s9_the_board_is_for_members_only(study, name):
    url = reverse(f"admin:{name}", args=[study.pk])
    assert member(study, Role.VIEWER).get(url).status_code == 200
    assert member(StudyFactory(), Role.OWNER).get(url).status_code == 404
    assert Client().get(url).status_code == 302
    assert member(study, Role.OWNER).post(url).status_code == 405


@pytest.mark.parametrize("table", ["cells", "funnel"])
def test_s9_its_files_are_for_members_only(study, table):
    url = reverse("admin:board_csv", args=[study.pk, table])
    assert member(study, Role.VIEWER).get(url).status_code == 200
    assert member(StudyFactory(), Role.OWNER).get(url).status_code == 404
    assert Client().get(url).status_code == 302


def test_a_page_with_many_cells_asks_as_many_queries_as_one_with_few(study, django_assert_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    owner = member(study, Role.OWNER)
    with CaptureQueriesContext(connection) as few:
        owner.get(board(study))
    for number in range(4):
        quota(study, f"more-{number}", **{f"cell{cell}": (5, {}) for cell in range(6)})
    with django_assert_num_queries(len(few)):
        owner.get(board(study))
    assert len(few) <= 35


# --- Editing a target -------------------------------------------------------------------------------------------------


def test_a_target_is_changed_and_the_change_logged(study, women):
    owner = member(study, Role.OWNER, "lea")
    answer = save(owner, women, "12")
    assert (answer.status_code, answer.url) == (302, f"{board(study)}#cell-{women.pk}")
    women.refresh_from_db()
    assert (women.target, women.version) == (12, 2)
    change = TargetChange.objects.get()
    assert (change.user.username, change.before, change.after) == ("lea", 10, 12)
    page = " ".join(re.sub(r"<[^>]+>", " ", owner.get(board(study)).text).split())
    assert "lea gender: women 10 12" in page


def test_a_target_below_what_is_taken_is_allowed_and_shown(study, women):
    owner = member(study, Role.RESEARCHER)
    save(owner, women, "0")
    page = owner.get(board(study)).text
    assert row_of(page, women).endswith(" 0 1 above target full")


def test_a_full_share_outside_the_cells_says_how_many_of_how_many(study):
    row = quota(study, "narrow", outside_share="0.1", men=(10, MEN))
    place_annotator(annotator=person(study, "woman"), now=NOW)
    page = " ".join(re.sub(r"<[^>]+>", " ", member(study, Role.VIEWER).get(board(study)).text).split())
    assert row.placements.get().cell is None
    assert "outside the cells 0 / 1 full (1 of 1)" in page


def test_r23_a_second_researcher_is_told_who_was_faster_and_keeps_what_they_typed(study, women):
    slow = member(study, Role.RESEARCHER)
    fast = UserFactory(username="marie")
    set_target(cell=women, target=20, version=1, user=fast, now=NOW)
    answer = save(slow, women, "15", version=1)
    assert answer.status_code == 409
    assert "The target of women is 20 now: marie changed it at 2026-11-23" in answer.text
    assert re.search(r'value="15"\s+aria-label="Target of women"\s+autofocus', answer.text)
    women.refresh_from_db()
    assert (women.target, TargetChange.objects.count()) == (20, 1)
    assert f'name="version" value="{women.version}"' in answer.text  # so that saving again is a decision, not an accident


def test_r23_sabotage_without_the_version_the_first_edit_is_lost(study, women, monkeypatch):
    def careless(*, cell, target, version, user, now):
        QuotaCell.objects.filter(pk=cell.pk).update(target=target)

    monkeypatch.setattr("apps.desk.board.pages.set_target", careless)
    set_target(cell=women, target=20, version=1, user=UserFactory(), now=NOW)
    assert save(member(study, Role.RESEARCHER), women, "15", version=1).status_code == 302
    women.refresh_from_db()
    assert women.target == 15


@pytest.mark.parametrize("typed", ["", "-1", "1.5", "many", "٣", "2147483648", "9" * 5000])
def test_a_target_that_is_no_number_is_refused_and_kept(study, women, typed):
    answer = save(member(study, Role.OWNER), women, typed)
    assert answer.status_code == 400
    assert "Expected a whole number, 0 or more." in answer.text
    assert f'value="{typed}"' in answer.text
    assert not TargetChange.objects.exists()


def test_s9_only_writers_of_the_study_edit(study, women):
    assert save(member(study, Role.VIEWER), women, "1").status_code == 403
    assert save(member(StudyFactory(), Role.OWNER), women, "1").status_code == 404
    assert save(Client(), women, "1").status_code == 302
    other = quota(StudyFactory(), all=(3, {})).cells.get()
    url = reverse("admin:board_target", args=[study.pk])
    owner = member(study, Role.OWNER)
    assert owner.post(url, {"cell": other.pk, "version": 1, "target": 1}).status_code == 404
    assert owner.get(url).status_code == 405
    assert not TargetChange.objects.exists()
    assert "<form" not in member(study, Role.VIEWER).get(reverse("admin:board_figures", args=[study.pk])).text


@pytest.mark.parametrize("field", ["cell", "version"])
@pytest.mark.parametrize("value", ["", "x", "-1", "\x00", "9" * 40])
def test_s15_a_made_up_form_is_no_server_error(study, women, field, value):
    url = reverse("admin:board_target", args=[study.pk])
    form = {"cell": women.pk, "version": 1, "target": 1, field: value}
    assert member(study, Role.OWNER).post(url, form).status_code == 404


# --- CSV --------------------------------------------------------------------------------------------------------------


def table(client: Client, study: Study, name: str) -> list[dict[str, str]]:
    answer = client.get(reverse("admin:board_csv", args=[study.pk, name]))
    assert answer["Content-Disposition"] == f'attachment; filename="{study.slug}-{name}.csv"'
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_the_files_have_the_figures_of_the_page(study):
    viewer = member(study, Role.VIEWER)
    cells = table(viewer, study, "cells")
    assert [(row["cell"], row["is_outside"], row["target"], row["reserved"]) for row in cells] == [
        ("women", "false", "10", "1"),
        ("men", "false", "9", "0"),
        ("", "true", "", "1"),
    ]
    assert cells[0]["locales"] == "en-US fr-FR"
    (row,) = table(viewer, study, "funnel")
    assert (row["locale"], row["opened"], row["consented"]) == ("en-US", "2", "2")
    assert viewer.get(reverse("admin:board_csv", args=[study.pk, "other"])).status_code == 404


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "\t=1", " =1"])
def test_s7_no_cell_of_a_file_is_a_formula(study, women, name):
    QuotaCell.objects.filter(pk=women.pk).update(key=name)
    link = RecruitmentLinkFactory(study=study, name=name)
    person(study, recruitment_link=link)
    viewer = member(study, Role.VIEWER)
    assert table(viewer, study, "cells")[0]["cell"] == f"'{name}"
    assert f"'{name}" in [row["link"] for row in table(viewer, study, "funnel")]


# --- The desk's first page --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def forgetful():
    """The first page keeps its alarms for a while; primary keys come again in the next test."""
    cache.clear()
    yield
    cache.clear()


def test_the_first_page_counts_what_starves_once_in_a_while(study, django_assert_max_num_queries):
    Study.objects.filter(pk=study.pk).update(opened_at=study.created_at - timedelta(days=9))
    viewer, index = member(study, Role.VIEWER), reverse("admin:index")
    first = viewer.get(index)
    with django_assert_max_num_queries(8):
        again = viewer.get(index)
    assert "Counted up to 60 s ago" in again.text
    assert "fr-FR: Nobody opens the link." in first.text
    assert "fr-FR: Nobody opens the link." in again.text
    Study.objects.filter(pk=study.pk).update(opened_at=NOW)
    cache.clear()
    assert "What does not fill" not in viewer.get(index).text


def test_the_first_page_tells_what_starves_in_ones_own_open_studies(study):
    Study.objects.filter(pk=study.pk).update(opened_at=study.created_at - timedelta(days=9))
    other = seated_study(slug="not-mine", opened_at=NOW - timedelta(days=9))
    index = reverse("admin:index")
    page = member(study, Role.VIEWER).get(index).text
    assert "What does not fill" in page
    assert "fr-FR: Nobody opens the link." in page
    assert "not-mine" not in page
    Study.objects.filter(pk=study.pk).update(state="PAUSED")
    assert "What does not fill" not in member(study, Role.VIEWER).get(index).text
    assert other.is_open
