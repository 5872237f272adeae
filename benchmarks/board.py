"""What the board costs in a huge study: `python -m benchmarks.board [--assignments 1000000] [--plans]`.

One study with as many finished assignments, a quarter as many seats that are not filled (some claimed), a person per eight assignments
with places in three quotas, and as many openings as people, over the last 30 days; made by SQL, since the services would take hours.
Printed are the times of the board, of the part that refreshes, of the API, of the desk's first page when it counts and within the
minute after, each the median of five, and the processor time of Python and the database for one board. `--plans` explains every
statement of the board (ANALYZE, BUFFERS). Ends with an error where the board takes two seconds or more. Needs DATABASE_URL
(PostgreSQL on this machine; a database of its own is made beside it), for a user who may switch off foreign key checks.
"""

# ruff: noqa: E402  (Django is set up before its models are imported; statements stand as they are sent)
import argparse
import os
import statistics
import sys
import time
from datetime import timedelta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

import django

django.setup()

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from django.urls import reverse
from django.utils import timezone

from apps.annotation.models import Slot
from apps.annotators.models import Annotator
from apps.desk.board import read_board
from apps.quotas.models import Quota, QuotaCell
from apps.studies.models import ApiToken, Study, StudyMembership
from benchmarks.claim import FILL, OVERLAP, WAVE
from benchmarks.stage import cpu_seconds, own_database
from tests.factories import AnnotatorFactory, StudyFactory, UserFactory

MOST_SECONDS, ROUNDS, TASKS, DAYS, CLAIMED, QUOTAS, CELLS = 2.0, 5, 8, 30, 400, 3, 40

_PEOPLE = """
UPDATE annotators_annotator SET joined_at = now() - (id %% %(days)s) * interval '1 day',
    admitted_at = now() - (id %% %(days)s) * interval '1 day',
    active_at = now() - (id %% %(days)s) * interval '1 day', guideline_read_at = now(), practice_passed_at = now(),
    state = CASE WHEN id %% 10 < 8 THEN 'COMPLETED' ELSE 'ACTIVE' END, ended_at = CASE WHEN id %% 10 < 8 THEN now() END;
INSERT INTO quotas_placement (annotator_id, quota_id, cell_id, state, is_over, release_reason, reserved_at, ended_at)
  SELECT a.id, c.quota_id, c.id, CASE a.state WHEN 'COMPLETED' THEN 'COMPLETED' ELSE 'RESERVED' END, false, '', a.joined_at, a.ended_at
  FROM annotators_annotator a JOIN (SELECT *, row_number() OVER (PARTITION BY quota_id ORDER BY id) - 1 AS number FROM quotas_quotacell) c
    ON c.number = a.id %% %(cells)s;
INSERT INTO annotators_linkopening (link_id, study_locale_id, submission_id, opened_at)
  SELECT recruitment_link_id, study_locale_id, CASE WHEN id %% 2 = 0 THEN submission_id ELSE gen_random_uuid() END, joined_at
  FROM annotators_annotator;
UPDATE annotation_slot SET state = 'CLAIMED', lease_expires_at = now() + interval '1 hour' WHERE id IN (
  SELECT id FROM annotation_slot WHERE study_locale_id = %(locale)s AND state = 'OPEN' ORDER BY queue_position LIMIT %(claimed)s)
"""


def make_fieldwork(assignments: int) -> Study:
    study = StudyFactory(overlap=OVERLAP, prompts_per_wave=WAVE, opened_at=timezone.now() - timedelta(days=DAYS))
    people, filled = assignments // TASKS, assignments // OVERLAP
    for number in range(QUOTAS):
        quota = Quota.objects.create(study=study, key=f"quota-{number}")
        quota.locales.set(study.locales.all())
        QuotaCell.objects.bulk_create(QuotaCell(quota=quota, key=f"cell {cell}", target=people // CELLS) for cell in range(CELLS))
    names = {
        "study": study.pk,
        "locale": study.locales.get(language="en").pk,
        "recipe": study.recipes.get().pk,
        "link": AnnotatorFactory(study=study).recruitment_link_id,
        "filled": filled,
        "prompts": filled + filled // 4,
        "people": people - 1,
        "overlap": OVERLAP,
        "wave": WAVE,
        "days": DAYS,
        "claimed": CLAIMED,
        "cells": CELLS,
    }
    skipped = {"id", "study", "study_locale", "recruitment_link", "public_id", "submission_id"}
    columns = ", ".join(field.column for field in Annotator._meta.concrete_fields if field.name not in skipped)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET session_replication_role = replica")  # no foreign key checks: minutes for millions of rows
        for statement in f"{FILL};{_PEOPLE}".replace("{columns}", columns).split(";"):
            cursor.execute(statement, names)
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("RESET statement_timeout")
    return study


def seconds(client: Client, url: str, *, keep: bool = True, **options: object) -> float:
    """Median of the answers' times after one that warms up; without `keep`, nothing is kept from one to the next."""
    times = []
    for _ in range(ROUNDS + 1):
        if not keep:
            cache.clear()
        started = time.perf_counter()
        answer = client.get(url, **options)  # type: ignore[arg-type]
        times.append(time.perf_counter() - started)
        assert answer.status_code == 200, answer.status_code
    return statistics.median(times[1:])


def processor_seconds(study: Study) -> float:
    """Of Python and the database for one board; the database's helpers are left out, so that their work is not missed."""
    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        cursor.execute("SELECT pg_backend_pid()")
        pids = [os.getpid(), cursor.fetchone()[0]]
        before = sum(cpu_seconds(pid) for pid in pids)
        read_board(study, timezone.now())
        return sum(cpu_seconds(pid) for pid in pids) - before


def show_plans(study: Study) -> None:
    with CaptureQueriesContext(connection) as queries:
        read_board(study, timezone.now())
    with connection.cursor() as cursor:
        for query in queries:
            if query["sql"].startswith(("SELECT", "\nSELECT")):
                print(query["sql"].strip()[:400])
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {query['sql']}")
                print("\n".join(f"    {line}" for (line,) in cursor.fetchall()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assignments", type=int, default=1_000_000)
    parser.add_argument("--plans", action="store_true", help="Explain every statement of the board.")
    options = parser.parse_args()
    connection.settings_dict["OPTIONS"]["options"] = settings.WEB_DATABASE_OPTIONS
    with own_database(), override_settings(ALLOWED_HOSTS=["*"]):
        study = make_fieldwork(options.assignments)
        user = UserFactory(is_staff=True)
        membership = StudyMembership.objects.create(study=study, user=user, role=StudyMembership.Role.OWNER)
        _, token = ApiToken.issue(membership=membership, name="benchmark")
        client = Client()
        client.force_login(user)
        if options.plans:
            show_plans(study)
        measured = {
            "board": seconds(client, reverse("admin:board", args=[study.pk])),
            "refreshed part": seconds(client, reverse("admin:board_figures", args=[study.pk])),
            "API": seconds(Client(), f"/api/v1/studies/{study.slug}/quotas/", headers={"Authorization": f"Bearer {token}"}),
            "first page": seconds(client, reverse("admin:index"), keep=False),
            "… once more": seconds(client, reverse("admin:index")),
            "CPU of a board": processor_seconds(study),
        }
        seats = Slot.objects.filter(study_locale__study=study).count()
        print(f"{options.assignments:,} assignments, {study.annotators.count():,} people, {seats:,} seats:")
        for name, taken in measured.items():
            print(f"  {name:<15} {taken:6.2f} s")
        connection.close()
    if measured["board"] >= MOST_SECONDS:
        sys.exit(f"The board takes {measured['board']:.2f} s; wanted is less than {MOST_SECONDS:.0f} s.")


if __name__ == "__main__":
    main()
