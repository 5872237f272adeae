"""How much one person may do: conversations in the study, and in a day of their own time zone."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from apps.annotation.models import Conversation
from apps.annotators.models import Annotator


def zone_of(annotator: Annotator) -> ZoneInfo:
    """The person's own time zone as their browser named it, else their locale's."""
    return ZoneInfo(annotator.time_zone or annotator.study_locale.time_zone)


def day_around(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """First moment of the day in `zone` that `now` falls in, and of the day after, in UTC; 23 to 25 hours apart.

    Where a change of the clocks skips midnight, the day begins right after the gap; where midnight comes twice, at the first.
    """
    today = now.astimezone(zone).date()
    start, end = (datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC) for day in (today, today + timedelta(days=1)))
    return start, end


def day_is_full_until(annotator: Annotator, now: datetime) -> datetime | None:
    """When the person may start another conversation, if they have started as many today as the study allows; else None."""
    most = annotator.study.max_conversations_per_day
    if most is None:
        return None
    start, end = day_around(now, zone_of(annotator))
    begun = Conversation.objects.filter(annotator=annotator, started_at__gte=start, started_at__lt=end).count()
    return end if begun >= most else None
