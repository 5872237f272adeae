"""From an annotator's POST to a READY set: `python -m benchmarks.live_turn [--turns 20]`.

Each turn posts a message through the real page; one worker makes the set with a stub of 1 s latency. Every set takes two calls, one
after the other, so 2 s of the time are the endpoint's. Printed is what Polyphony adds, per turn: median and highest.
Needs DATABASE_URL (PostgreSQL; a database of its own is made beside it) and REDIS_URL (emptied of our queues).
"""

# ruff: noqa: E402  (Django is set up before its models are imported)
import argparse
import os
import statistics
import time
import uuid

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

import django

django.setup()

from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse

from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.generation.models import CandidateSet, GenerationPolicy
from apps.studies.models import Study
from benchmarks.stage import own_database, stub, worker
from tests.annotation.fieldwork import admitted_annotator, claim, judge, seated_study

LATENCY, CALLS_PER_SET = 1.0, 2


def writing_client(url: str) -> tuple[Study, Client]:
    """A study of its own on the endpoint at `url`, and somebody in it whose next step is the second turn's message."""
    study = seated_study(prompts=1)
    study.model_specs.update(base_url=url, timeout_seconds=30)
    study.instruction_templates.filter(key="default").update(text_en="Answer in English.")
    GenerationPolicy.objects.update_or_create(study=study, defaults={"near_duplicate_similarity": 1, "budget": 10})
    annotator = admitted_annotator(study)
    claim(annotator)
    judge(annotator)
    client = Client(HTTP_HOST="localhost")
    session = client.session
    session[SESSION_ANNOTATOR] = annotator.pk
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
    return study, client


def one_turn(url: str, number: int) -> float:
    """Seconds from the POST to the READY set."""
    study, client = writing_client(url)
    form = {"turn": "2", "message": f"And what if it rains on day {number}?", "submission_id": str(uuid.uuid4()), "action": "send"}
    started = time.monotonic()
    response = client.post(reverse("annotation:message"), form)
    if response.status_code not in (302, 303):
        raise SystemExit(f"The page answered {response.status_code}.")
    live = CandidateSet.objects.get(recipe__study=study, is_live=True)
    while live.state != CandidateSet.State.READY:
        if live.failures or time.monotonic() - started > 60:
            raise SystemExit(f"The set is {live.state}: {live.error_code}")
        time.sleep(0.005)
        live.refresh_from_db(fields=["state", "failures", "error_code"])
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    with own_database() as database, stub(latency=LATENCY, places=32) as endpoint, worker(database, threads=8):
        for number in range(3):  # the worker starts, imports and loads what its checks need
            one_turn(endpoint.url, number)
        added = [(one_turn(endpoint.url, 100 + number) - CALLS_PER_SET * LATENCY) * 1000 for number in range(options.turns)]
        print(
            f"{options.turns} live turns: {statistics.median(added):.0f} ms above the endpoint's time at the median, "
            f"{max(added):.0f} ms at most (wanted: 300 ms at the median)"
        )
        connection.close()


if __name__ == "__main__":
    main()
