"""Celery's way into the services: ids in, one service call. Whoever sends a message names its queue; the default is maintenance."""

import logging
import uuid

from celery import shared_task
from django.utils import timezone

from apps.generation import services

logger = logging.getLogger(__name__)


@shared_task(name=services.TASK_NAME)
def generate_set(candidate_set_id: int) -> None:
    """Make one set; sent to interactive for live sets, to bulk for the others."""
    claim_token = uuid.uuid4()
    try:
        services.generate_set(candidate_set_id=candidate_set_id, now=timezone.now(), claim_token=claim_token)
    except Exception:
        logger.exception("candidate set %s broke its worker", candidate_set_id)
        services.record_unexpected_failure(candidate_set_id=candidate_set_id, claim_token=claim_token, now=timezone.now())
        raise


@shared_task(name="generation.sweep")
def sweep() -> None:
    """Bring back sets whose message or worker got lost."""
    services.sweep(now=timezone.now())
