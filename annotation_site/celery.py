"""The Celery application. Tasks live in each app's `tasks.py`; queues: interactive, bulk, maintenance."""

import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

app = Celery("polyphony")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect
def give_each_thread_a_connection(options: dict[str, Any], **_: Any) -> None:
    """`-P threads --concurrency 32` needs as many database connections, and some for the heartbeat and the sweep beside them."""
    from django.conf import settings

    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    if pool and options.get("pool") == "threads":
        pool["max_size"] = max(pool["max_size"], int(options.get("concurrency") or 0) + 4)
