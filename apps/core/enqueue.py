"""Hand work to Celery after the commit. A message is a hint: the row is the queue, and a sweeper finds what got lost."""

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)


def enqueue_on_commit(task_name: str, *ids: int, queue: str) -> None:
    """Send `task_name(*ids)` to `queue` once the current transaction commits (at once outside one).

    A broker that is down costs the sweeper's period, never the caller's request.
    """

    def send() -> None:
        try:
            current_app.send_task(task_name, args=list(ids), queue=queue)
        except (OperationalError, OSError) as error:
            logger.warning("broker unreachable, %s%s is left to the sweeper: %s", task_name, ids, error)

    transaction.on_commit(send)
