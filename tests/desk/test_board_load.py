"""While people come, work and go, every reading of the board equals a recount of the same state of the database."""

import random
import threading
import uuid
from collections import Counter

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.annotation.models import Assignment, Slot
from apps.annotators.models import Annotator, LinkOpening
from apps.core.errors import DomainError
from apps.desk.board import read_board
from apps.quotas.models import Placement
from apps.quotas.services import complete_placements, place_annotator, release_placements, set_target
from apps.studies.models import Study
from tests.annotation.fieldwork import claim, seated_study
from tests.desk.test_board_funnel import recount as recount_funnel
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory, UserFactory
from tests.quotas.sampling import quota

PEOPLE, THREADS, READINGS = 12, 3, 12
FIGURES = ("opened", "consented", "eligible", "placed", "started", "completed")
SEATS, WAVES = ("open", "claimed", "filled", "prompts"), ("open", "claimed", "prompts")


def recount_cells() -> dict[tuple[str, str], list[int]]:
    """Reserved, completed, released and over, one placement after the other."""
    figures: dict[tuple[str, str], list[int]] = {}
    for row in Placement.objects.select_related("quota", "cell"):
        figure = figures.setdefault((row.quota.key, row.cell.key if row.cell else ""), [0, 0, 0, 0])
        figure[["RESERVED", "COMPLETED", "RELEASED"].index(row.state)] += 1
        figure[3] += row.is_over
    return figures


def recount_seats() -> dict[str, Counter[str]]:
    """Per locale the seats by state and the prompts that are not full, one seat after the other."""
    figures: dict[str, Counter[str]] = {}
    unfilled = set()
    for slot in Slot.objects.select_related("study_locale"):
        figures.setdefault(slot.study_locale.tag, Counter())[slot.state.lower()] += 1
        if slot.state != "FILLED":
            unfilled.add((slot.study_locale.tag, slot.prompt_id))
    for tag, figure in figures.items():
        figure["prompts"] = sum(one == tag for one, _ in unfilled)
    return figures


def recount_begun() -> dict[tuple[str, str], tuple[int, int]]:
    """Seats and filled ones of each prompt that was begun and is not full, one seat after the other."""
    states: dict[tuple[str, str], list[str]] = {}
    for slot in Slot.objects.select_related("study_locale", "prompt"):
        states.setdefault((slot.study_locale.tag, slot.prompt.key), []).append(slot.state)
    return {key: (len(found), found.count("FILLED")) for key, found in states.items() if {"OPEN"} != set(found) != {"FILLED"}}


def differences(study: Study) -> list[str]:
    """Where the board and the recount disagree."""
    board = read_board(study, timezone.now())
    shown = {
        "cells": {
            (cell.count.quota, cell.count.cell): figure
            for cell in board.cells()
            if any(figure := [cell.count.reserved, cell.count.completed, cell.count.released, cell.count.over])
        },
        "funnel": {(row.link, row.locale): {name: getattr(row, name) for name in FIGURES} for row in board.funnel},
        "seats": {locale.locale: Counter({name: getattr(locale, name) for name in SEATS}) for locale in board.work},
        "waves": {
            locale.locale: Counter({name: sum(getattr(wave, name) for wave in locale.waves) for name in WAVES}) for locale in board.work
        },
        "begun": {(prompt.locale, prompt.prompt): (prompt.seats, prompt.filled) for prompt in board.slowest},
    }
    funnel = {key: {name: figure[name] for name in FIGURES} for key, figure in recount_funnel(study).items()}
    seats = recount_seats()
    waves = {tag: Counter({name: figure[name] for name in WAVES}) for tag, figure in seats.items()}
    counted = {"cells": recount_cells(), "funnel": funnel, "seats": seats, "waves": waves, "begun": recount_begun()}
    return [f"{name}: the board shows {shown[name]}, a recount gives {counted[name]}" for name in shown if shown[name] != counted[name]]


def live(study: Study, seed: int, go_on: threading.Event, errors: list[Exception]) -> None:
    """People join, take a place, work, complete, give up, until told to stop."""
    rng = random.Random(seed)
    link, locales = study.recruitment_links.get(), list(study.locales.all())
    try:
        while go_on.is_set():
            now, submission_id = timezone.now(), uuid.uuid4()
            LinkOpening.objects.create(link=link, study_locale=rng.choice([None, *locales]), submission_id=submission_id, opened_at=now)
            if rng.random() < 0.3:
                continue
            someone = AnnotatorFactory(
                study=study, study_locale=rng.choice(locales), recruitment_link=link, submission_id=submission_id,
                guideline_read_at=now, practice_passed_at=now,
            )  # fmt: skip
            try:
                with transaction.atomic():
                    someone = Annotator.objects.select_for_update().get(pk=someone.pk)
                    place_annotator(annotator=someone, now=now)
                    Annotator.objects.filter(pk=someone.pk).update(admitted_at=now)
                assignment = claim(someone, now=now)
            except DomainError:
                Annotator.objects.filter(pk=someone.pk).update(state="QUOTA_FULL", end_reason="CELL_FULL", ended_at=now)
                continue
            with transaction.atomic():
                someone = Annotator.objects.select_for_update().get(pk=someone.pk)
                if rng.random() < 0.6:
                    Assignment.objects.filter(pk=assignment.pk).update(state="COMPLETED", ended_at=now)
                    Slot.objects.filter(pk=assignment.slot_id).update(state="FILLED", lease_expires_at=None)
                    Annotator.objects.filter(pk=someone.pk).update(state="COMPLETED", ended_at=now)
                    complete_placements(annotator=someone, now=now)
                else:
                    release_placements(annotator=someone, reason="RETURN", now=now)
    except Exception as error:  # told by the test
        errors.append(error)
    finally:
        connection.close()


@pytest.fixture
def study(transactional_db) -> Study:
    study = seated_study(prompts=40, overlap=10)
    RecruitmentLinkFactory(study=study)
    quota(study, "all", everybody=(60, {}))
    quota(study, "marginal", kind="MONITOR", women=(30, {"gender": ["female"]}))
    return study


def readings(study: Study) -> list[str]:
    """What was wrong in a row of readings, each beside its recount in one snapshot, under load."""
    go_on, errors = threading.Event(), []
    go_on.set()
    threads = [threading.Thread(target=live, args=(study, seed, go_on, errors)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    found, user, cell = [], UserFactory(), study.quotas.get(key="all").cells.get()
    try:
        for _ in range(READINGS):
            cell = set_target(cell=cell, target=cell.target + 5, version=cell.version, user=user, now=timezone.now())
            found += look(study)
    finally:
        go_on.clear()
        for thread in threads:
            thread.join(30)
    assert errors == []
    assert Placement.objects.filter(state="COMPLETED").count() > 5, "there was no load"
    return found


def look(study: Study) -> list[str]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return differences(study)


@pytest.mark.postgresql
def test_r23_the_board_equals_a_recount_at_any_time_under_load(study):
    assert readings(study) == []


@pytest.mark.postgresql
def test_r23_sabotage_a_stored_counter_would_be_seen(study, monkeypatch):
    from apps.desk.board import cells
    from apps.quotas.selectors import quota_board

    stored = quota_board(study)
    monkeypatch.setattr(cells, "quota_board", lambda study: stored)
    assert any(line.startswith("cells:") for line in readings(study))


@pytest.mark.postgresql
def test_r23_a_board_is_of_one_moment_whatever_commits_while_it_is_read(study, monkeypatch):
    from apps.desk.board import reading

    def commit_one_more(study, window, count=reading.work_by_locale):
        thread = threading.Thread(target=one_more, args=(study,))
        thread.start()
        thread.join(30)
        return count(study, window)

    def one_more(study):
        try:
            AnnotatorFactory(study=study)
        finally:
            connection.close()

    monkeypatch.setattr(reading, "work_by_locale", commit_one_more)
    assert read_board(study, timezone.now()).funnel == []
    assert Annotator.objects.count() == 1
    assert [row.consented for row in reading.funnel(study, timezone.now())] == [1]


def test_the_board_equals_a_recount_when_all_is_quiet(study):
    link = study.recruitment_links.get()
    people = [
        AnnotatorFactory(study=study, recruitment_link=link, study_locale=study.locales.all()[number % 2]) for number in range(PEOPLE)
    ]
    for number, someone in enumerate(people):
        place_annotator(annotator=someone, now=timezone.now())
        if number % 2:
            complete_placements(annotator=someone, now=timezone.now())
    assert differences(study) == []
