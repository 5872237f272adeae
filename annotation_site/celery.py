"""The Celery application. Tasks live in each app's `tasks.py`; queues: interactive, bulk, maintenance."""

import os

from celery import Celery

from annotation_site import file_queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

file_queue.install()
app = Celery("polyphony")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
