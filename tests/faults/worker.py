"""The Celery application of the product with one crash point, for `celery -A tests.faults.worker`.

`FAULT_POINT`: before_call, during_call, after_call, after_commit or before_enqueue. `FAULT_DIR`: the worker crashes (SIGKILL to itself) if
it finds the file `FAULT_POINT` there and takes it away, so each file is one crash; it leaves `FAULT_POINT.killed`. With `FAULT_POISON`
each call whose message holds that word kills the worker. A worker that takes messages leaves `NAME.ready`.

`python -m tests.faults.worker set ID` does the work of one message and ends; `live RECIPE` and `bulk STUDY` commit a wish and enqueue it.

For twins and short forms: `FAULT_LEASE` (seconds), `FAULT_SABOTAGE`: call_inside_transaction (no attempt is stored before its call) or
suspects_at_once (none waits for another).
"""

import json
import os
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import django
from celery.signals import worker_ready
from django.db import transaction

from annotation_site.celery import app

django.setup()

from apps.core import enqueue, outbound  # noqa: E402  (needs the apps to be ready)
from apps.generation import services, tasks  # noqa: E402
from apps.generation.models import Recipe  # noqa: E402
from apps.generation.services import claiming, making  # noqa: E402
from apps.studies.models import Study  # noqa: E402

__all__ = ["app"]

POINT, FOLDER, POISON = os.environ.get("FAULT_POINT", ""), Path(os.environ["FAULT_DIR"]), os.environ.get("FAULT_POISON", "")
_complete, _read, _generate_set = making.complete, outbound._DeadlineStream.read, services.generate_set


under_way = threading.local()


def crash(*, after_seconds: float = 0.0) -> None:
    time.sleep(after_seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def is_here(point: str, message: str = "") -> bool:
    """Whether this is the moment to crash; takes the fuse and notes the time and the call's message."""
    if point != POINT:
        return False
    try:
        (FOLDER / point).unlink()
    except FileNotFoundError:
        return False
    (FOLDER / f"{point}.killed").write_text(json.dumps({"at": time.time(), "message": message}))
    return True


def complete(**arguments):
    message = arguments["messages"][-1]["content"]
    if POISON and POISON in message:
        crash()
    if is_here("before_call", message):
        crash()
    under_way.message = message
    completion = _complete(**arguments)
    under_way.message = ""
    if is_here("after_call", message):
        crash()
    return completion


def read(self, *arguments, **options):
    """The request was sent and no answer has come yet."""
    if getattr(under_way, "message", "") and is_here("during_call", under_way.message):
        crash(after_seconds=0.1)
    return _read(self, *arguments, **options)


def generate_set(**arguments):
    outcome = _generate_set(**arguments)
    if outcome == making.Outcome.READY and is_here("after_commit"):
        crash()
    return outcome


@worker_ready.connect
def tell_ready(sender, **_):
    name, _host = sender.hostname.split("@")
    (FOLDER / f"{name}.ready").touch()


class CrashingSender:
    """Stands before the Celery application where `apps.core.enqueue` tells the broker: after the commit."""

    def __getattr__(self, name: str):
        if is_here("before_enqueue"):
            crash()
        return getattr(app, name)


making.complete = complete
outbound._DeadlineStream.read = read
services.generate_set = generate_set
enqueue.current_app = CrashingSender()
if "FAULT_LEASE" in os.environ:
    claiming.LEASE = timedelta(seconds=float(os.environ["FAULT_LEASE"]))
    claiming.BEAT_SECONDS = min(claiming.BEAT_SECONDS, claiming.LEASE.total_seconds() / 3)
if os.environ.get("FAULT_SABOTAGE") == "call_inside_transaction":
    making._ask_for_part = transaction.atomic(making._ask_for_part)
if os.environ.get("FAULT_SABOTAGE") == "suspects_at_once":
    claiming.suspects_that_wait = lambda now: []

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["set", pk]:
            tasks.generate_set(int(pk))
        case ["live", pk]:
            messages = [{"role": "user", "content": "How do I begin?"}]
            services.request_live_set(recipe=Recipe.objects.get(pk=pk), language="en", messages=messages)
        case ["bulk", pk]:
            services.enqueue_pending(study=Study.objects.get(pk=pk))
