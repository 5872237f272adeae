"""The Celery application of the product with one crash point, for `celery -A tests.faults.worker`.

`FAULT_POINT`: before_call, during_call, after_call or after_commit. `FAULT_DIR`: the worker crashes (SIGKILL to itself) if it finds the
file `FAULT_POINT` there and takes it away, so each file is one crash; it leaves `FAULT_POINT.killed` with the time. With `FAULT_POISON`
each call whose message holds that word kills the worker. `FAULT_LEASE` (seconds) is for the sabotage twin.
"""

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import django

from annotation_site.celery import app

django.setup()

from apps.generation import services  # noqa: E402  (needs the apps to be ready)
from apps.generation.services import claiming, making  # noqa: E402

__all__ = ["app"]

POINT, FOLDER, POISON = os.environ.get("FAULT_POINT", ""), Path(os.environ["FAULT_DIR"]), os.environ.get("FAULT_POISON", "")
_complete, _generate_set = making.complete, services.generate_set


def crash(delay: float = 0.0) -> None:
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)


def is_here(point: str) -> bool:
    """Whether this is the moment to crash; takes the fuse."""
    if point != POINT:
        return False
    try:
        (FOLDER / point).unlink()
    except FileNotFoundError:
        return False
    (FOLDER / f"{point}.killed").write_text(str(time.time()))
    return True


def complete(**arguments):
    if POISON and POISON in arguments["messages"][-1]["content"]:
        crash()
    if is_here("before_call"):
        crash()
    if is_here("during_call"):
        threading.Thread(target=crash, args=(0.2,)).start()
    completion = _complete(**arguments)
    if is_here("after_call"):
        crash()
    return completion


def generate_set(**arguments):
    outcome = _generate_set(**arguments)
    if outcome == making.Outcome.READY and is_here("after_commit"):
        crash()
    return outcome


making.complete = complete
services.generate_set = generate_set
if "FAULT_LEASE" in os.environ:
    claiming.LEASE = timedelta(seconds=float(os.environ["FAULT_LEASE"]))
