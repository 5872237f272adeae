"""What one annotated prompt costs, against a bare Django view and against plain SQL: `python -m benchmarks.annotate_loop`.

One loop is the task page (GET) and the comparison with its explanation (POST, 303), each by a person who has claimed a prompt. The
longer loop also claims: POST the claim (303), the page, the comparison. All with session, CSRF, ORM, translations and the change
sequence, through gunicorn as in production (HTTPS off, workers never restarted). The study has 5,000 prompts in one locale, overlap 5,
four candidates, one turn, no questions left. Latencies are those of single requests.

In each round, one after the other, on the same server and PostgreSQL:
- page and comparison by 8 annotators in a closed loop, no pause between clicks; the same by 32; with the claim by 8;
- the bare view (`benchmarks/bare_site`) in our own project, by 8 visitors with a session: GET with one select and a form with a CSRF
  token, POST with one insert and a redirect; and the same view in the smallest project, without session, CSRF or other middleware;
- pgbench with `annotate_loop.sql`, which does in SQL what a loop with its claim must read, lock and write, 8 clients.
CPU is read from /proc (gunicorn with its workers; the backends of this database), so PostgreSQL must run on this machine. Printed is the
median of the rounds. Needs DATABASE_URL (PostgreSQL; a database of its own is made beside it) and pgbench.
"""

# ruff: noqa: E402  (Django is set up before its models are imported)
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

import django

django.setup()

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone

from apps.annotation.middleware import SESSION_ANNOTATOR, SESSION_LANGUAGE
from apps.annotation.services import claim_next_assignment, seat_study
from apps.annotators.models import Annotator
from apps.content.models import Prompt
from apps.core.text import fingerprint
from apps.generation.models import Candidate, CandidateSet
from apps.studies.models import Questionnaire, Study
from benchmarks.browser import Browser, Tally, drive
from benchmarks.server import DatabaseMeter, gunicorn, tree_seconds
from benchmarks.stage import ROOT, answers, own_database
from tests.factories import AnnotatorFactory, StudyFactory

OVERLAP, ITEMS = 5, 5_000
REASON = "Answer B names a concrete plan for the whole day, while answer C only says that resting is fine and stops there."
_TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')
_SUBMISSION = re.compile(rb'name="submission_id" value="([^"]+)"')


@dataclass
class Figures:
    """One run of one system."""

    loops: int
    per_second: float
    p50: float
    p95: float
    errors: int
    requests: float
    server_ms: float
    database_ms: float
    client_ms: float

    @property
    def cpu_ms(self) -> float:
        return self.server_ms + self.database_ms


def make_study(prompts: int) -> Study:
    study = StudyFactory(overlap=OVERLAP, conversations_per_annotator=32_767, own_prompt_share=0)
    study.locales.exclude(language="en").delete()
    study.locales.get().questionnaires.filter(stage=Questionnaire.Stage.AFTER).delete()
    study.task_design.min_turns = study.task_design.max_turns = 1
    study.task_design.explanation_min_words = 15
    study.task_design.save()
    Prompt.objects.bulk_create(
        Prompt(study=study, key=f"p{number}", text_en=f"How should I spend free day number {number} of this year with two friends?")
        for number in range(prompts)
    )
    seat_study(study=study)
    candidates = []
    for pk, k in CandidateSet.objects.values_list("pk", "k"):
        for slot in range(k):
            text = f"{answers([{'content': ''}], pk * 7 + slot)} This is answer {slot} of set {pk}."
            candidates.append(Candidate(candidate_set_id=pk, slot=slot, text=text, text_fingerprint=fingerprint(text), source="default"))
    Candidate.objects.bulk_create(candidates, batch_size=5000)
    CandidateSet.objects.update(state=CandidateSet.State.READY, ready_at=timezone.now())
    return study


def join(study: Study, people: int) -> list[tuple[Annotator, dict[str, str]]]:
    """New people who have answered all questions, each with the cookie of a session as the recruitment link makes it."""
    now, store = timezone.now(), import_module(settings.SESSION_ENGINE).SessionStore()
    first = AnnotatorFactory(study=study, guideline_read_at=now, practice_passed_at=now, active_at=now)
    copies = [copy(first) for _ in range(people)]
    for annotator in copies:
        annotator.pk, annotator.public_id, annotator.submission_id = None, uuid.uuid4(), uuid.uuid4()
        annotator.seed = uuid.uuid4().int % 2**31
    joined, sessions, locale = Annotator.objects.bulk_create(copies), [], study.locales.get()
    for annotator in joined:
        data = store.encode({SESSION_ANNOTATOR: annotator.pk, SESSION_LANGUAGE: locale.interface_language})
        expires = now + timedelta(days=1)
        sessions.append(Session(session_key=store._get_new_session_key(), session_data=data, expire_date=expires))
    Session.objects.bulk_create(sessions)
    return [(annotator, {settings.SESSION_COOKIE_NAME: row.session_key}) for annotator, row in zip(joined, sessions, strict=True)]


def join_and_claim(study: Study, people: int) -> Iterator[dict[str, str]]:
    """New people at work on a prompt each; their cookies."""
    joined = join(study, people)
    for annotator, _ in joined:
        claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=timezone.now())
    return iter([cookies for _, cookies in joined])


def _hidden(page: bytes) -> dict[str, str]:
    token, submission = _TOKEN.search(page), _SUBMISSION.search(page)
    if token is None or submission is None:
        raise SystemExit(f"No form on this page:\n{page.decode()}")
    return {"csrfmiddlewaretoken": token[1].decode(), "submission_id": submission[1].decode()}


async def annotate(browser: Browser) -> None:
    """The loop: the task page and the comparison, by the next person who has claimed."""
    if browser.people is not None:
        cookies = next(browser.people, None)
        if cookies is None:
            raise SystemExit("Everybody has finished: claim more beforehand.")
        browser.cookies = cookies
    task = await browser.get("/task/compare/")
    form = _hidden(task.body) | {"turn": "1", "layout": "column", "choice": "2", "explanation": REASON}
    done = await browser.post("/task/compare/", form)
    if done.status != 303:
        raise SystemExit(f"The comparison was answered with {done.status}:\n{done.body.decode()}")


async def claim_and_annotate(browser: Browser) -> None:
    """The longer loop. The claim's form is that of the start page, with an id of its own for each press."""
    if browser.page is None:
        browser.page = (await browser.get("/task/start/")).body
    claimed = await browser.post("/task/start/", _hidden(browser.page) | {"submission_id": str(uuid.uuid4())})
    if claimed.status != 303:
        raise SystemExit(f"The claim was answered with {claimed.status}:\n{claimed.body.decode()}")
    await annotate(browser)


async def answer_item(browser: Browser) -> None:
    """The bare loop: GET an item, POST an answer to it."""
    number = 1 + browser.tally.loops % ITEMS
    page = await browser.get(f"/bare/{number}/")
    token = _TOKEN.search(page.body)
    form = {"choice": "2", "explanation": REASON, "csrfmiddlewaretoken": token[1].decode() if token else ""}
    stored = await browser.post(f"/bare/{number}/", form)
    if (page.status, stored.status) != (200, 303):
        raise SystemExit(f"The bare view answered with {page.status} and {stored.status}:\n{stored.body.decode()}")


def measure(browsers: list[Browser], work: Callable[[Browser], Awaitable[None]], master: int, database: str, seconds: float) -> Figures:
    tally = browsers[0].tally
    drive(browsers, work, 1.5)  # connections, caches, the first import of what pages need
    tally.loops = tally.requests = tally.errors = 0
    tally.latencies.clear()
    meter, server, client = DatabaseMeter(database), tree_seconds(master), time.process_time()
    for browser in browsers:
        browser.forget_connection()  # they belonged to the event loop of the warm-up
    took = drive(browsers, work, seconds)
    client, server = time.process_time() - client, tree_seconds(master) - server
    in_database = meter.stop()
    loops = tally.loops
    return Figures(
        loops=loops,
        per_second=loops / took,
        p50=tally.percentile(0.5),
        p95=tally.percentile(0.95),
        errors=tally.errors,
        requests=tally.requests / loops,
        server_ms=server / loops * 1000,
        database_ms=in_database / loops * 1000,
        client_ms=client / loops * 1000,
    )


def plain_sql(study: Study, url: str, database: str, seconds: int) -> Figures:
    """pgbench with our loop's SQL, for people of its own."""
    people = [AnnotatorFactory(study=study).pk for _ in range(8)]
    locale = study.locales.get()
    assert people[-1] - people[0] == 7
    command = ["pgbench", "-n", "-c", "8", "-j", "1", "-T", str(seconds), "-M", "simple", "-f", "benchmarks/annotate_loop.sql"]
    command += ["-D", f"first_annotator={people[0]}", "-D", f"locale={locale.pk}", "-D", f"design={study.task_design.pk}", url]
    meter = DatabaseMeter(database)
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    in_database = meter.stop()
    done = re.search(r"number of transactions actually processed: (\d+)", result.stdout)
    if result.returncode or done is None:
        raise SystemExit(result.stdout + result.stderr)
    loops = int(done[1])
    return Figures(loops, loops / seconds, 0, 0, 0, 0, 0, in_database / loops * 1000, 0)


def production(url: str, folder: str) -> dict[str, str]:
    """The environment of a production-like run on loopback."""
    return {
        "POLYPHONY_ENVIRONMENT": "production",
        "HTTPS": "false",
        "SECRET_KEY": settings.SECRET_KEY,
        "PSEUDONYM_KEY": uuid.uuid4().hex * 3,
        "PANEL_KEY": uuid.uuid4().hex * 3,
        "IDENTITY_KEY": uuid.uuid4().hex * 3,
        "ALLOWED_HOSTS": "127.0.0.1",
        "DATABASE_URL": url,
        "REDIS_URL": settings.REDIS_URL or "redis://127.0.0.1:6379/0",  # nothing is sent there: no live turns
        "STATIC_ROOT": f"{folder}/static",
        "POLYPHONY_VAR_DIR": f"{folder}/var",
    }


def make_items(url: str) -> None:
    """The bare site's two tables, beside ours."""
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "benchmarks.bare_site.minimal_settings"}
    subprocess.run([sys.executable, "-m", "django", "migrate", "--run-syncdb", "-v", "0"], cwd=ROOT, env=environment, check=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO bare_site_item (text) SELECT 'How should I spend free day number ' || n || '?' FROM generate_series(1, %s) n",
            [ITEMS],
        )


BARE = {"bare, 8": "benchmarks.bare_site.settings", "smallest, 8": "benchmarks.bare_site.minimal_settings"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="Of each run (default 10).")
    parser.add_argument("--prompts", type=int, default=5_000)
    parser.add_argument("--claims", type=int, default=150, help="People who claim beforehand, per second of a run (default 150).")
    parser.add_argument("--json", type=Path, help="Also write every run here.")
    options = parser.parse_args()
    runs: dict[str, list[Figures]] = {name: [] for name in ("ours, 8", "ours, 32", "claim too, 8", *BARE, "SQL, 8")}
    with own_database() as url, TemporaryDirectory() as folder:
        database = url.rsplit("/", 1)[1]
        study = make_study(options.prompts)
        make_items(url)
        environment, log = production(url, folder), Path(settings.VAR_DIR) / "benchmark-web.log"
        collect = [sys.executable, "manage.py", "collectstatic", "--noinput", "-v", "0"]
        subprocess.run(collect, cwd=ROOT, env=os.environ | environment, check=True)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        for _ in range(options.rounds):
            for people in (8, 32):
                claimed = join_and_claim(study, options.claims * (options.seconds + 2))
                with gunicorn("annotation_site.wsgi", environment=environment, log=log) as (port, master):
                    browsers = visitors(port, people, claimed)
                    runs[f"ours, {people}"].append(measure(browsers, annotate, master, database, options.seconds))
            with gunicorn("annotation_site.wsgi", environment=environment, log=log) as (port, master):
                browsers = visitors(port, 8)
                seat(browsers, study)
                runs["claim too, 8"].append(measure(browsers, claim_and_annotate, master, database, options.seconds))
            for name, module in BARE.items():
                bare = environment | {"DJANGO_SETTINGS_MODULE": module}
                with gunicorn("benchmarks.bare_site.wsgi", environment=bare, log=log) as (port, master):
                    browsers = visitors(port, 8)
                    seat(browsers, study)
                    runs[name].append(measure(browsers, answer_item, master, database, options.seconds))
            runs["SQL, 8"].append(plain_sql(study, url, database, options.seconds))
        connection.close()
    report(runs)
    if options.json:
        options.json.write_text(json.dumps({name: [asdict(run) for run in of] for name, of in runs.items()}, indent=1))


def seat(browsers: list[Browser], study: Study) -> None:
    """One newcomer to the study at each browser."""
    for browser, (_, cookies) in zip(browsers, join(study, len(browsers)), strict=True):
        browser.cookies = cookies


def visitors(port: int, people: int, claimed: Iterator[dict[str, str]] | None = None) -> list[Browser]:
    tally = Tally()
    browsers = [Browser(port, tally) for _ in range(people)]
    for browser in browsers:
        browser.people = claimed
    return browsers


def report(runs: dict[str, list[Figures]]) -> None:
    def median(name: str, field: str) -> float:
        return statistics.median(getattr(run, field) for run in runs[name])

    print("system       loops/s  p50 ms  p95 ms  5xx  requests  server ms  PostgreSQL ms  client ms   (CPU per loop; medians)")
    for name in runs:
        fields = ("per_second", "p50", "p95", "errors", "requests", "server_ms", "database_ms", "client_ms")
        values = [median(name, field) for field in fields]
        print("{:12} {:7.1f} {:7.1f} {:7.1f} {:4.0f} {:9.2f} {:10.2f} {:14.2f} {:10.2f}".format(name, *values))

    def ratio(name: str, floor: str, field: str) -> float:
        return statistics.median(getattr(run, field) / getattr(bare, field) for run, bare in zip(runs[name], runs[floor], strict=True))

    print(f"server + PostgreSQL CPU: {ratio('ours, 8', 'bare, 8', 'cpu_ms'):.2f} × the bare loop (wanted at most 3)")
    print(f"  with the claim: {ratio('claim too, 8', 'bare, 8', 'cpu_ms'):.2f} ×", end="; ")
    print(f"against the smallest project: {ratio('ours, 8', 'smallest, 8', 'cpu_ms'):.2f} ×")
    print(f"PostgreSQL CPU, with the claim: {ratio('claim too, 8', 'SQL, 8', 'database_ms'):.2f} × the plain SQL (wanted at most 3)")


if __name__ == "__main__":
    main()
