"""Hand work to Celery after the commit. A message is a hint: the row is the queue, and a sweeper finds what got lost."""

import logging
from collections.abc import Sequence

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

REFUSALS = (OperationalError, OSError, RedisError)  # away, unreachable, full
logger = logging.getLogger(__name__)


def enqueue_on_commit(task_name: str, *ids: int, queue: str) -> None:
    """Send `task_name(*ids)` to `queue` once the current transaction commits (at once outside one).

    A broker that is down costs the sweeper's period, never the caller's request.
    """

    def send() -> None:
        try:
            current_app.send_task(task_name, args=list(ids), queue=queue)
        except REFUSALS as error:
            logger.warning("broker unreachable, %s%s is left to the sweeper: %s", task_name, ids, error)

    transaction.on_commit(send)


def enqueue_many(task_name: str, ids: Sequence[int], *, queue: str) -> None:
    """Send `task_name(id)` to `queue` for each of `ids`, at once and over one connection; for thousands, outside a transaction.

    A broker that is down leaves them to the sweeper.
    """
    try:
        with current_app.producer_or_acquire() as producer:
            for pk in ids:
                current_app.send_task(task_name, args=[pk], queue=queue, producer=producer)
    except REFUSALS as error:
        logger.warning("broker unreachable, %s messages of %s are left to the sweeper: %s", len(ids), task_name, error)
