"""Releases built by a worker, on the queue `maintenance` (the default one; `enqueue_on_commit` names it too)."""

import logging

from celery import shared_task
from django.utils import timezone

from apps.core.errors import DomainError
from apps.exports import services

logger = logging.getLogger(__name__)


@shared_task(name="exports.build_release")
def build_release(release_id: int) -> None:
    """Build a requested release; a refusal is written on its row, where the admin shows it."""
    try:
        services.build_requested_release(release_id=release_id)
    except DomainError as error:
        logger.warning("release %s was not built: %s", release_id, error)


@shared_task(name="exports.sweep")
def sweep() -> None:
    """Bring back releases whose message was lost or whose worker died."""
    services.enqueue_overdue_releases(now=timezone.now())
