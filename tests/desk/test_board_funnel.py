"""The funnel counts each person once, at the step where they are."""

import uuid
from collections import Counter
from datetime import timedelta

import pytest

from apps.annotation.models import Assignment
from apps.annotators.models import Annotator, LinkOpening, RecruitmentLink
from apps.desk.board.funnel import funnel
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, seated_study
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory

pytestmark = pytest.mark.django_db
LONG_AGO = NOW - timedelta(days=3)


def person(study, **fields):
    return AnnotatorFactory(study=study, **{"active_at": NOW, "joined_at": NOW} | fields)


def opening(link, submission_id=None, locale=None):
    LinkOpening.objects.create(
        link=link, study_locale=locale, submission_id=submission_id or uuid.uuid4(), opened_at=NOW
    )  # fmt: skip


def only(study):
    (row,) = funnel(study, NOW)
    return row


def test_an_opening_and_its_person_count_once():
    study = seated_study()
    link = RecruitmentLinkFactory(study=study)
    someone = person(study)
    opening(link, someone.submission_id, someone.study_locale)
    opening(link, locale=someone.study_locale)
    person(study)  # without JavaScript: consented, never seen to open
    row = only(study)
    assert (row.opened, row.consented) == (3, 2)


def test_an_opening_before_the_locale_is_chosen_has_a_row_of_its_own():
    study = seated_study()
    link = RecruitmentLinkFactory(study=study)
    opening(link)
    row = only(study)
    assert (row.locale, row.opened, row.consented) == ("", 1, 0)


def test_an_opening_follows_its_person_to_another_locale():
    study = seated_study()
    link = RecruitmentLinkFactory(study=study)
    english, french = study.locales.all()
    someone = person(study, study_locale=french)
    opening(link, someone.submission_id, english)
    row = only(study)
    assert (row.locale, row.opened, row.consented) == ("fr-FR", 1, 1)


def test_each_stage_is_counted():
    study = seated_study()
    reasons = Annotator.EndReason
    person(study)
    person(study, state="SCREENED_OUT", end_reason=reasons.UNDERAGE, ended_at=NOW)
    person(study, state="QUOTA_FULL", end_reason=reasons.CELL_FULL, ended_at=NOW)
    person(study, state="WITHDRAWN", ended_at=NOW)
    person(study, admitted_at=NOW)
    claim(admitted_annotator(study, admitted_at=NOW, active_at=NOW))
    person(study, admitted_at=NOW, state="COMPLETED", ended_at=NOW)
    row = only(study)
    assert (row.opened, row.consented, row.eligible, row.placed, row.started, row.completed) == (7, 7, 6, 3, 1, 1)
    assert row.at_work == 3
    assert row.ended == {"UNDERAGE": 1, "CELL_FULL": 1, "WITHDRAWN": 1}
    assert row.turned_away == 1


def test_the_silent_are_told_by_the_step_at_which_they_stand():
    study = seated_study()
    silent = {"active_at": LONG_AGO}
    person(study, **silent)
    person(study, admitted_at=LONG_AGO, **silent)
    person(study, admitted_at=LONG_AGO, guideline_read_at=LONG_AGO, **silent)
    between = admitted_annotator(study, admitted_at=LONG_AGO, **silent)
    inside = admitted_annotator(study, admitted_at=LONG_AGO)
    claim(inside)
    Annotator.objects.filter(pk__in=[between.pk, inside.pk]).update(active_at=LONG_AGO)
    row = only(study)
    assert row.silent == {"questions": 1, "guideline": 1, "practice": 1, "between tasks": 1, "in a task": 1}
    assert row.at_work == 0


def test_in_a_study_that_asks_nothing_the_silent_stand_at_the_guideline():
    study = seated_study()
    person(study, active_at=LONG_AGO)
    for locale in study.locales.all():
        locale.questionnaires.all().delete()
    assert only(study).silent == {"guideline": 1}


def test_an_hour_within_the_limit_is_work_and_one_beyond_is_silence():
    study = seated_study(place_hours=2)
    person(study, active_at=NOW - timedelta(hours=2))
    person(study, active_at=NOW - timedelta(hours=2, seconds=1))
    row = only(study)
    assert (row.at_work, row.silent.total()) == (1, 1)


def test_previews_are_left_out_and_pilots_stand_apart():
    study = seated_study()
    for purpose in RecruitmentLink.Purpose:
        link = RecruitmentLinkFactory(study=study, purpose=purpose)
        person(study, recruitment_link=link)
        opening(link, locale=study.locales.first())
    rows = funnel(study, NOW)
    assert [(row.purpose, row.opened, row.consented) for row in rows] == [("LIVE", 2, 1), ("PILOT", 2, 1)]


def test_another_study_is_not_counted():
    study = seated_study()
    person(seated_study())
    assert funnel(study, NOW) == []


def test_everybody_who_consented_is_somewhere():
    study = seated_study(prompts=4)
    for number in range(12):
        ended = {"state": "RETURNED", "end_reason": "PANEL_RETURNED", "ended_at": NOW} if number % 4 == 0 else {}
        person(study, study_locale=study.locales.all()[number % 2], active_at=NOW - timedelta(hours=number * 4), **ended)
    for row in funnel(study, NOW):
        assert row.consented == row.completed + row.at_work + row.silent.total() + row.ended.total()


def recount(study) -> dict[tuple[str, str], Counter[str]]:
    """The funnel again, one row after the other in plain Python."""
    figures: dict[tuple[str, str], Counter[str]] = {}
    people = {someone.submission_id: someone for someone in Annotator.objects.select_related("study_locale", "recruitment_link")}
    working = set(Assignment.objects.values_list("annotator_id", flat=True))
    for someone in people.values():
        figure = figures.setdefault((someone.recruitment_link.name, someone.study_locale.tag), Counter())
        figure["opened"] += 1
        figure["consented"] += 1
        figure["eligible"] += someone.state != "SCREENED_OUT"
        figure["placed"] += someone.admitted_at is not None
        figure["started"] += someone.pk in working
        figure["completed"] += someone.state == "COMPLETED"
    for seen in LinkOpening.objects.select_related("link", "study_locale"):
        if seen.submission_id not in people:
            figures.setdefault((seen.link.name, seen.study_locale.tag if seen.study_locale else ""), Counter())["opened"] += 1
    return figures


def test_the_funnel_equals_a_recount():
    study = seated_study(prompts=6)
    link = RecruitmentLinkFactory(study=study)
    locales = list(study.locales.all())
    for number in range(10):
        someone = admitted_annotator(study, study_locale=locales[number % 2], admitted_at=NOW if number % 3 else None)
        if number % 2:
            claim(someone)
        opening(link, someone.submission_id if number % 4 == 0 else None, locales[0] if number % 3 else None)
    counted = {
        (row.link, row.locale): +Counter(
            {name: getattr(row, name) for name in ("opened", "consented", "eligible", "placed", "started", "completed")}
        )
        for row in funnel(study, NOW)
    }
    assert counted == {key: +figure for key, figure in recount(study).items()}
