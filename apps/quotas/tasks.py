"""Celery's way into the services of the quotas."""

from celery import shared_task
from django.utils import timezone

from apps.quotas.services import expire_places
from apps.studies.models import Study


@shared_task(name="quotas.expire_places")
def expire_idle_places() -> None:
    """Release the places of people who have not been active for long, in every study that is open."""
    for study in Study.objects.filter(state=Study.State.OPEN):
        expire_places(study=study, now=timezone.now())
