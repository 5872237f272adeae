"""Housekeeping of panel identities, on the queue `maintenance`."""

from celery import shared_task
from django.utils import timezone

from apps.annotators import services


@shared_task(name="annotators.delete_old_identities")
def delete_old_identities() -> None:
    """Delete what the retention of its study no longer covers."""
    services.delete_old_identities(now=timezone.now())
