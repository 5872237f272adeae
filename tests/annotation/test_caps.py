"""How much one person may do: in the study, and in a day of their own time zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.annotation.caps import day_around
from apps.annotation.errors import DailyLimitReached, NoWorkAvailable
from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.studies.models import Study, StudyLocale, TaskDesign
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study

pytestmark = pytest.mark.django_db


def capped_study(per_day: int | None = 2, per_study: int = 10, zone: str = "UTC") -> Study:
    study = seated_study(prompts=6, overlap=2, max_conversations_per_day=per_day, conversations_per_annotator=per_study)
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=1)
    StudyLocale.objects.filter(study=study).update(time_zone=zone)
    return Study.objects.get(pk=study.pk)


def work(annotator, now: datetime = NOW) -> None:
    claim(annotator, now=now)
    judge(annotator, now=now)


# Zone, a moment, the first moments of its day and of the day after, in UTC.
DAYS = [
    ("UTC", "2026-11-23T12:00", "2026-11-23T00:00", "2026-11-24T00:00"),
    ("Asia/Kolkata", "2026-11-23T18:29", "2026-11-22T18:30", "2026-11-23T18:30"),
    ("Asia/Kolkata", "2026-11-23T18:30", "2026-11-23T18:30", "2026-11-24T18:30"),
    ("Europe/Paris", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
    ("Europe/Paris", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
    ("Europe/Paris", "2028-02-29T08:00", "2028-02-28T23:00", "2028-02-29T23:00"),  # leap day
    ("Europe/Paris", "2028-02-28T23:30", "2028-02-28T23:00", "2028-02-29T23:00"),
    ("America/Sao_Paulo", "2018-11-04T12:00", "2018-11-04T03:00", "2018-11-05T02:00"),  # midnight was skipped
    ("America/Sao_Paulo", "2018-11-03T12:00", "2018-11-03T03:00", "2018-11-04T03:00"),
    ("America/Sao_Paulo", "2018-02-17T12:00", "2018-02-17T02:00", "2018-02-18T03:00"),  # 23:00 came twice
    ("America/Havana", "2026-11-01T12:00", "2026-11-01T04:00", "2026-11-02T05:00"),  # midnight came twice
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("zone", "now", "start", "end"), DAYS)
def test_r18_a_day_begins_and_ends_at_midnight_of_its_zone(zone, now, start, end):
    assert day_around(utc(now), ZoneInfo(zone)) == (utc(start), utc(end))


def test_r18_sabotage_days_of_24_hours_miss_the_changes_of_the_clocks():
    """The control: a day taken as 24 hours after its start would end an hour off in Paris in spring and in autumn."""
    wrong = [(zone, start) for zone, _, start, end in DAYS if utc(start) + timedelta(hours=24) != utc(end)]
    assert len([zone for zone, _ in wrong if zone == "Europe/Paris"]) == 2


def test_a_full_day_refuses_another_conversation_until_midnight():
    annotator = admitted_annotator(capped_study())
    work(annotator)
    work(annotator)
    with pytest.raises(DailyLimitReached) as refused:
        claim(annotator)
    assert refused.value.extra["until"] == utc("2026-11-24T00:00")
    with pytest.raises(DailyLimitReached):
        claim(annotator, now=utc("2026-11-24T00:00") - timedelta(seconds=1))
    work(annotator, now=utc("2026-11-24T00:00"))


def test_the_day_is_that_of_the_persons_own_zone():
    study = capped_study(per_day=1, zone="Europe/Paris")
    at_home, abroad = admitted_annotator(study), admitted_annotator(study, time_zone="Asia/Kolkata")
    for annotator in (at_home, abroad):
        work(annotator, now=utc("2026-11-23T18:00"))
    work(abroad, now=utc("2026-11-23T18:30"))
    with pytest.raises(DailyLimitReached) as refused:
        claim(at_home, now=utc("2026-11-23T18:30"))
    assert refused.value.extra["until"] == utc("2026-11-23T23:00")


@pytest.mark.parametrize(("zone", "now", "start", "end"), DAYS)
def test_r18_the_cap_holds_until_the_last_second_of_the_day(zone, now, start, end):
    annotator = admitted_annotator(capped_study(per_day=1, zone=zone))
    work(annotator, now=utc(start))
    with pytest.raises(DailyLimitReached):
        claim(annotator, now=utc(end) - timedelta(seconds=1))
    work(annotator, now=utc(end))


def test_a_running_conversation_goes_on_although_the_day_is_full():
    annotator = admitted_annotator(capped_study(per_day=1))
    running = claim(annotator)
    assert claim(annotator) == running


def test_without_a_cap_a_day_has_no_end():
    annotator = admitted_annotator(capped_study(per_day=None))
    for _ in range(4):
        work(annotator)


def test_the_cap_of_the_study_gives_nothing_more():
    annotator = admitted_annotator(capped_study(per_day=None, per_study=2))
    work(annotator)
    work(annotator)
    with pytest.raises(NoWorkAvailable):
        claim(annotator)


def test_the_start_page_says_when_to_come_back(client):
    study = capped_study(per_day=1, zone="Asia/Kolkata")
    study.locales.get(language="en").questionnaires.filter(stage="AFTER").delete()
    annotator = admitted_annotator(study)
    work(annotator, now=timezone.now())
    session = client.session
    session[SESSION_ANNOTATOR] = annotator.pk
    session.save()
    url = reverse("annotation:start")
    page = client.get(url)
    assert page.status_code == 200
    assert "That is all for today" in page.text
    assert "00:00 your time" in page.text
    tomorrow = (timezone.now().astimezone(ZoneInfo("Asia/Kolkata")) + timedelta(days=1)).strftime("%B %-d, %Y").replace("November", "Nov.")
    assert tomorrow.split(" ", 1)[1] in page.text
    assert "<form" not in page.text.split("<main")[1]
    refused = client.post(url, {"submission_id": "5b0a4a3e-7d0f-4c5e-9a58-000000000001"})
    assert (refused.status_code, "That is all for today" in refused.text) == (429, True)
