"""The Celery application. Tasks live in each app's `tasks.py`; queues: interactive, bulk, maintenance."""

import os
import threading
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, worker_ready

from annotation_site import file_queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

file_queue.install()
app = Celery("polyphony")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect
def give_each_thread_a_connection(options: dict[str, Any], **_: Any) -> None:
    """`-P threads --concurrency 32` needs as many connections, and some for what runs beside them. Idle ones close."""
    from django.conf import settings

    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    if pool:
        pool["max_size"] = max(pool["max_size"], int(options.get("concurrency") or 0) + 4)


@worker_ready.connect
def load_models_beforehand(**_: Any) -> None:
    """The first sets of a fresh worker would wait seconds for what measures answers; beside the work, so that no message waits."""
    from apps.generation.acceptance.language import load_identifier
    from apps.generation.similarity import load_encoder

    for load in (load_identifier, load_encoder):
        threading.Thread(target=load, name=load.__name__, daemon=True).start()
