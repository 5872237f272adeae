"""Whether a claim costs the same in a huge study: `python -m benchmarks.claim [--slots 1000000] [--churn 2000]`.

The very statements that `claim_next_assignment` sends to find a slot are recorded while it runs, then explained with
EXPLAIN (ANALYZE, BUFFERS): with 5,000 open slots, with 1,000,000 open and 500,000 filled ones, each for people with 0 and with 300 past
prompts, and each again after the same `--churn` claims that were finished or handed back. An hour of fieldwork sees sixty rounds of
autovacuum, the churn takes seconds: so the last look waits for one, under the settings that the migrations give the tables.
Ends with an error where a plan sorts, reads slots or assignments sequentially, does without a partial index of slots, or touches more than
1.2 times the shared buffers of the same look at 5,000. Needs DATABASE_URL (PostgreSQL; a database of its own is made beside it), for a
user who may switch off foreign key checks while the rows are made.
"""

# ruff: noqa: E402, E501  (Django is set up before its models are imported; statements stand as they are sent)
import argparse
import json
import os
import time
import uuid
from collections.abc import Iterator
from itertools import cycle
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

import django

django.setup()

from django.db import connection, transaction
from django.utils import timezone

from apps.annotation.services import claim_next_assignment
from apps.annotators.models import Annotator
from apps.studies.models import StudyLocale
from benchmarks.stage import own_database
from tests.factories import AnnotatorFactory, StudyFactory

OVERLAP, WAVE, PAST, BASE = 10, 50, 300, 5_000
MOST_BUFFERS = 1.2
PARTIAL_INDEXES = {"slot_open_in_queue_order", "slot_claimed_by_lease"}
BIG_TABLES = {"annotation_slot", "annotation_assignment"}


def make_study(open_slots: int) -> StudyLocale:
    """A locale with `open_slots` open slots behind half as many finished ones; by SQL, since the services would take hours."""
    study = StudyFactory(overlap=OVERLAP, prompts_per_wave=WAVE, conversations_per_annotator=32_767)
    locale: StudyLocale = study.locales.get(language="en")
    names = {
        "study": study.pk,
        "locale": locale.pk,
        "recipe": study.recipes.get().pk,
        "link": AnnotatorFactory(study=study).recruitment_link_id,
        "filled": open_slots // 2 // OVERLAP,
        "prompts": (open_slots + open_slots // 2) // OVERLAP,
        "people": max(500, open_slots // 2 // PAST),
        "overlap": OVERLAP,
        "wave": WAVE,
        "days": 1,
    }
    with connection.cursor() as cursor:
        skipped = {"id", "study", "study_locale", "recruitment_link", "public_id", "submission_id"}
        columns = ", ".join(field.column for field in Annotator._meta.concrete_fields if field.name not in skipped)
        cursor.execute("SET session_replication_role = replica")  # no foreign key checks: minutes for millions of rows
        for statement in FILL.replace("{columns}", columns).split(";"):
            cursor.execute(statement, names)
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE")
    return locale


FILL = """
INSERT INTO content_prompt (study_id, key, version, is_current, is_gold, text_en, created_at)
  SELECT %(study)s, 'p' || n, 1, true, false, 'How should I spend free day ' || n || '?', now() FROM generate_series(1, %(prompts)s) n;
INSERT INTO generation_candidateset (recipe_id, language, k, is_live, messages, text_hash, state, failures, error_code, seed, regenerations,
    review_note, created_at, ready_at)
  SELECT %(recipe)s, 'en', 4, false, '[]', md5(key) || md5(key), 'READY', 0, '', id, 0, '', now(), now()
  FROM content_prompt WHERE study_id = %(study)s ORDER BY id;
ANALYZE content_prompt, generation_candidateset;
INSERT INTO annotation_slot (prompt_id, study_locale_id, recipe_id, candidate_set_id, ordinal, queue_position, state, fencing_token, is_excess)
  SELECT p.id, %(locale)s, %(recipe)s, c.id, o, ((place / %(wave)s) * 65536 + o) * %(wave)s + place %% %(wave)s,
    CASE WHEN place < %(filled)s THEN 'FILLED' ELSE 'OPEN' END, CASE WHEN place < %(filled)s THEN 1 ELSE 0 END, false
  FROM (SELECT id, key, row_number() OVER (ORDER BY id) - 1 AS place FROM content_prompt WHERE study_id = %(study)s) p
  JOIN generation_candidateset c ON c.recipe_id = %(recipe)s AND c.seed = p.id CROSS JOIN generate_series(1, %(overlap)s) o;
INSERT INTO annotators_annotator (study_id, study_locale_id, recruitment_link_id, public_id, submission_id, {columns})
  SELECT %(study)s, %(locale)s, %(link)s, gen_random_uuid(), gen_random_uuid(), {columns}
  FROM (SELECT * FROM annotators_annotator WHERE study_id = %(study)s LIMIT 1) a, generate_series(1, %(people)s);
ANALYZE annotation_slot, annotators_annotator;
INSERT INTO annotation_assignment (annotator_id, slot_id, prompt_id, recipe_id, purpose, state, submission_id, fencing_token, lease_expires_at,
    policy, seed, reason, claimed_at, ended_at)
  SELECT a.id, s.id, s.prompt_id, s.recipe_id, 'MAIN', 'COMPLETED', gen_random_uuid(), 1, now(), 'fill_to_overlap', 0, '', now(), now() - (s.id %% %(days)s) * interval '1 day'
  FROM (SELECT *, (row_number() OVER (ORDER BY prompt_id, ordinal) - 1) %% %(people)s AS holder FROM annotation_slot
        WHERE study_locale_id = %(locale)s AND state = 'FILLED') s
  JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS number FROM annotators_annotator WHERE study_id = %(study)s) a ON a.number = s.holder
"""


def newcomer(locale: StudyLocale) -> Annotator:
    now = timezone.now()
    annotator: Annotator = AnnotatorFactory(study=locale.study, study_locale=locale, guideline_read_at=now, practice_passed_at=now)
    return annotator


def veteran(locale: StudyLocale) -> Annotator:
    """Somebody with 300 past prompts: half of the wave that is being filled, the others finished before."""
    annotator = newcomer(locale)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH seats AS (
              (SELECT id FROM annotation_slot WHERE study_locale_id = %(locale)s AND state = 'OPEN' ORDER BY queue_position LIMIT %(half)s)
            ), taken AS (
              UPDATE annotation_slot SET state = 'FILLED', fencing_token = 1 WHERE id IN (SELECT id FROM seats) RETURNING *
            )
            INSERT INTO annotation_assignment (annotator_id, slot_id, prompt_id, recipe_id, purpose, state, submission_id, fencing_token,
                lease_expires_at, policy, seed, reason, claimed_at, ended_at)
            SELECT %(annotator)s, id, prompt_id, recipe_id, 'MAIN', 'COMPLETED', gen_random_uuid(), 1, now(), 'fill_to_overlap', 0, '', now(), now()
            FROM taken
            """,
            {"locale": locale.pk, "half": WAVE // 2, "annotator": annotator.pk},
        )
        cursor.execute(
            """
            UPDATE annotation_assignment SET annotator_id = %(annotator)s WHERE id IN (
              SELECT DISTINCT ON (a.prompt_id) a.id FROM annotation_assignment a JOIN annotation_slot s ON s.id = a.slot_id
              WHERE s.study_locale_id = %(locale)s AND a.annotator_id <> %(annotator)s
              ORDER BY a.prompt_id DESC LIMIT %(past)s)
            """,
            {"locale": locale.pk, "annotator": annotator.pk, "past": PAST - WAVE // 2},
        )
    return annotator


class _Found(Exception):
    """Ends the claim whose statements were wanted."""


def statements_of_claim(annotator: Annotator) -> list[tuple[str, Any]]:
    """What the claim sends to find a slot, with its parameters; the claim itself is rolled back."""
    sent: list[tuple[str, Any]] = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and "SKIP LOCKED" in sql and 'FROM "annotation_slot"' in sql:
            sent.append((sql, params))
        return execute(sql, params, many, context)

    try:
        with transaction.atomic(), connection.execute_wrapper(record):
            claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=timezone.now())
            raise _Found
    except _Found:
        return sent


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def explain(annotator: Annotator) -> tuple[int, float, list[str]]:
    """Shared buffers and milliseconds of finding a slot, and what is wrong with the plans."""
    buffers, milliseconds, wrong = 0, 0.0, []
    for sql, params in statements_of_claim(annotator):
        for _ in range(2):  # the first brings pages in and sets hint bits
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, params)
                found = cursor.fetchone()[0]
                transaction.set_rollback(True)
        top = (json.loads(found) if isinstance(found, str) else found)[0]
        plan = top["Plan"]
        buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        milliseconds += top["Execution Time"]
        nodes = list(_nodes(plan))
        wrong += [f"{node['Node Type']}" for node in nodes if node["Node Type"] in ("Sort", "Incremental Sort")]
        wrong += [
            f"Seq Scan on {node['Relation Name']}"
            for node in nodes
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG_TABLES
        ]
        if not PARTIAL_INDEXES & {node.get("Index Name") for node in nodes}:
            wrong.append("no partial index of slots")
    return buffers, milliseconds, wrong


_CHURN = """
WITH seat AS (
  SELECT id, prompt_id, recipe_id, fencing_token + 1 AS token FROM annotation_slot WHERE study_locale_id = %(locale)s AND state = 'OPEN'
  ORDER BY queue_position LIMIT 1 FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE annotation_slot s SET state = 'CLAIMED', fencing_token = token, lease_expires_at = now() + interval '1 hour' FROM seat WHERE s.id = seat.id
)
SELECT id, prompt_id, recipe_id, token FROM seat;
INSERT INTO annotation_assignment (annotator_id, slot_id, prompt_id, recipe_id, purpose, state, submission_id, fencing_token, lease_expires_at,
    policy, seed, reason, claimed_at)
  VALUES (%(annotator)s, %(slot)s, %(prompt)s, %(recipe)s, 'MAIN', 'ACTIVE', gen_random_uuid(), %(token)s, now() + interval '1 hour',
    'fill_to_overlap', 0, '', now()) RETURNING id;
UPDATE annotation_assignment SET state = %(end)s, ended_at = now() WHERE id = %(assignment)s;
UPDATE annotation_slot SET state = %(after)s, lease_expires_at = NULL WHERE id = %(slot)s
"""


def churn(locale: StudyLocale, claims: int, spared: list[int]) -> float:
    """Claim and end `claims` slots, each step a transaction of its own: nine of ten finish, one goes back. Returns the seconds.

    By people other than `spared`, whose past is being measured.
    """
    seat, assign, end, leave = _CHURN.split(";")
    people = cycle(locale.annotators.exclude(pk__in=spared).values_list("pk", flat=True)[:2000])
    had: set[tuple[int, int]] = set()
    started = time.monotonic()
    with connection.cursor() as cursor:
        for number in range(claims):
            names: dict[str, Any] = {"locale": locale.pk}
            cursor.execute(seat, names)
            names["slot"], names["prompt"], names["recipe"], names["token"] = cursor.fetchone()
            names["annotator"] = next(pk for pk in people if (pk, names["prompt"]) not in had)
            had.add((names["annotator"], names["prompt"]))
            names["end"], names["after"] = ("RETURNED", "OPEN") if number % 10 == 0 else ("COMPLETED", "FILLED")
            cursor.execute(assign, names)
            names["assignment"] = cursor.fetchone()[0]
            cursor.execute(end, names)
            cursor.execute(leave, names)
    return time.monotonic() - started


def wait_for_vacuum(seconds: int) -> str:
    """Until autovacuum has been over the slots once more, and what it has left."""
    seen, until = _vacuums()[0], time.monotonic() + seconds
    while _vacuums()[0] == seen and time.monotonic() < until:
        time.sleep(1)
    count, dead = _vacuums()
    return f"autovacuum went over the slots {count - seen} times and left {dead:,} dead rows"


def _vacuums() -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT autovacuum_count, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'annotation_slot'")
        count, dead = cursor.fetchone()
    return count, dead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=1_000_000, help="Open slots of the large study (default 1,000,000).")
    parser.add_argument("--churn", type=int, default=2_000, help="Claims before the second look, fewer than 4,500 (default 2,000).")
    parser.add_argument("--wait", type=int, default=180, help="Seconds to wait for autovacuum at most (default 180).")
    options = parser.parse_args()
    failures: list[str] = []
    floor: dict[str, int] = {}
    with own_database():
        for slots in (BASE, options.slots):
            started = time.monotonic()
            locale = make_study(slots)
            print(f"{slots:,} open, {slots // 2:,} filled: made in {time.monotonic() - started:.0f} s", flush=True)
            people = {"0": newcomer(locale), str(PAST): veteran(locale)}
            look(slots, "fresh", people, floor, failures)
            seconds = churn(locale, options.churn, [annotator.pk for annotator in people.values()])
            print(f"  {options.churn:,} claims in {seconds:.0f} s; {wait_for_vacuum(options.wait)}", flush=True)
            look(slots, "after churn", people, floor, failures)
        connection.close()
    for failure in failures:
        print("FAILED", failure)
    raise SystemExit(bool(failures))


def look(slots: int, moment: str, people: dict[str, Annotator], floor: dict[str, int], failures: list[str]) -> None:
    """Explain the claims of `people` (by number of past prompts), print them and note what is wrong. The first look at a moment is the floor."""
    for past, annotator in people.items():
        buffers, milliseconds, wrong = explain(annotator)
        name = f"{moment}, {past} past prompts"
        ratio = buffers / floor.setdefault(name, buffers)
        print(f"  {name}: {buffers} shared buffers ({ratio:.2f} ×), {milliseconds:.2f} ms", flush=True)
        failures += [f"{slots:,} open, {name}: {problem}" for problem in wrong]
        if ratio > MOST_BUFFERS:
            failures.append(f"{slots:,} open, {name}: {ratio:.2f} times the shared buffers")


if __name__ == "__main__":
    main()
