"""When something fills, and what blocks where nothing does."""

import math
from datetime import date, timedelta

import pytest
from django.core.management import CommandError, call_command

from apps.annotation.models import Assignment, Slot
from apps.annotators.models import Annotator, LinkOpening
from apps.desk.board import alarms_of, read_board
from apps.desk.board.forecast import Window, forecast, poisson_interval, window_of
from apps.generation.models import CandidateSet
from apps.quotas.models import Placement, Quota
from apps.studies.models import Study
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, seated_study
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory
from tests.quotas.sampling import quota

pytestmark = pytest.mark.django_db
WEEK = Window(since=NOW - timedelta(days=7), now=NOW)


def fieldwork(days=10, **fields) -> Study:
    """A study that opened `days` ago."""
    study = seated_study(opened_at=NOW - timedelta(days=days), **fields)
    study.refresh_from_db()
    return study


def finish(annotator: Annotator, at=NOW) -> None:
    assignment = claim(annotator)
    Assignment.objects.filter(pk=assignment.pk).update(state="COMPLETED", ended_at=at)
    Slot.objects.filter(pk=assignment.slot_id).update(state="FILLED", lease_expires_at=None)


def arrive(study: Study, locale=0, **fields) -> Annotator:
    defaults = {"study_locale": study.locales.all()[locale], "joined_at": NOW, "active_at": NOW, "admitted_at": NOW}
    return admitted_annotator(study, **defaults | fields)


def stages(study: Study) -> dict[str, str]:
    return {alarm.where: alarm.stage.value for alarm in alarms_of(study, NOW)}


# --- The formula ------------------------------------------------------------------------------------------------------


def test_the_expected_day_is_what_is_left_over_the_rate():
    when = forecast(remaining=20, events=14, window=WEEK)
    assert when.expected == (NOW + timedelta(days=10)).date()
    assert when.earliest < when.expected < when.latest


def test_the_interval_holds_80_percent_of_the_poisson_counts():
    def below(mean: float, count: int) -> float:
        return sum(math.exp(-mean) * mean**seen / math.factorial(seen) for seen in range(count + 1))

    for events in (1, 2, 5, 20, 100):
        low, high = poisson_interval(events)
        assert below(high, events) == pytest.approx(0.1, abs=0.005)
        assert 1 - below(low, events - 1) == pytest.approx(0.1, abs=0.01)


def test_without_an_event_no_day_is_made_up():
    when = forecast(remaining=3, events=0, window=WEEK)
    assert (when.is_silent, when.expected, when.latest) == (True, None, None)


def test_what_is_full_needs_no_day():
    when = forecast(remaining=0, events=5, window=WEEK)
    assert (when.is_full, when.is_silent, when.expected) == (True, False, None)


def test_a_day_far_away_is_still_a_date():
    assert forecast(remaining=2**31, events=1, window=WEEK).latest > date(2100, 1, 1)


def test_the_rate_is_taken_since_the_opening_but_over_24_hours_at_least():
    assert window_of(Study(opened_at=NOW - timedelta(days=3)), NOW).days == 3
    assert window_of(Study(opened_at=NOW - timedelta(hours=1)), NOW).days == 1
    assert window_of(Study(opened_at=NOW - timedelta(days=30)), NOW).days == 7


# --- Cells and prompts ------------------------------------------------------------------------------------------------


def test_a_cell_is_expected_at_the_rate_of_its_completed_people():
    study = fieldwork()
    everybody = quota(study, everybody=(4, {})).cells.get()
    ends = [NOW - timedelta(days=1), NOW - timedelta(days=6), NOW - timedelta(days=8)]
    for ended in ends:
        Placement.objects.create(
            annotator=AnnotatorFactory(study=study),
            quota=everybody.quota,
            cell=everybody,
            state="COMPLETED",
            reserved_at=ended,
            ended_at=ended,
        )
    cell = next(read_board(study, NOW).cells())
    assert (cell.forecast.remaining, cell.forecast.events) == (1, 2)
    assert cell.forecast.expected == (NOW + timedelta(days=3.5)).date()


def test_over_people_bring_no_cell_nearer_to_its_target():
    study = fieldwork()
    cell = quota(study, everybody=(4, {})).cells.get()
    Placement.objects.create(
        annotator=AnnotatorFactory(study=study), quota=cell.quota, cell=cell, state="COMPLETED", is_over=True, reserved_at=NOW, ended_at=NOW
    )
    when = next(read_board(study, NOW).cells()).forecast
    assert (when.remaining, when.events) == (4, 0)


def test_a_wave_waits_for_those_before_it():
    study = fieldwork(prompts=4, prompts_per_wave=2, overlap=1)
    finish(arrive(study))
    english, french = read_board(study, NOW).work
    assert [(wave.wave, wave.prompts, wave.open, wave.forecast.remaining) for wave in english.waves] == [(1, 1, 1, 1), (2, 2, 2, 3)]
    assert english.forecast.remaining == 3
    assert [wave.forecast.is_silent for wave in french.waves] == [True, True]


def test_the_slowest_prompts_are_those_begun_first_the_silent_ones():
    study = fieldwork(prompts=4, overlap=3)
    finish(arrive(study), at=NOW - timedelta(days=9))
    finish(arrive(study))
    slowest = read_board(study, NOW).slowest
    assert [(prompt.filled, prompt.seats, prompt.forecast.is_silent) for prompt in slowest] == [(1, 3, True), (1, 3, False)]


# --- Alarms -----------------------------------------------------------------------------------------------------------


def test_a_study_that_is_not_open_has_no_alarms():
    assert alarms_of(fieldwork(state="PAUSED"), NOW) == []


def test_silence_in_the_first_day_is_no_alarm():
    study = fieldwork(days=0.5)
    quota(study, everybody=(4, {}))
    assert alarms_of(study, NOW) == []


def test_candidates_that_are_not_ready_are_told_at_once_and_counted():
    study = fieldwork(days=0, prompts=3)
    CandidateSet.objects.filter(recipe__study=study, language="fr").update(state="PENDING")
    (alarm,) = alarms_of(study, NOW)
    assert (alarm.where, alarm.stage) == ("fr-FR", "no_candidates")
    assert "0 of 3 prompts that are not full" in alarm.text


def test_a_locale_without_seats_says_so():
    study = fieldwork(days=0)
    Slot.objects.filter(study_locale__study=study).delete()
    assert stages(study) == {"en-US": "no_seats", "fr-FR": "no_seats"}


def test_nobody_opens():
    assert stages(fieldwork()) == {"en-US": "not_opened", "fr-FR": "not_opened"}


def test_people_open_but_do_not_consent():
    study = fieldwork()
    link = RecruitmentLinkFactory(study=study)
    LinkOpening.objects.create(link=link, study_locale=study.locales.first(), submission_id="0" * 32, opened_at=NOW)
    assert stages(study)["en-US"] == "no_consent"


def test_everybody_is_screened_out():
    study = fieldwork()
    arrive(study, state="SCREENED_OUT", end_reason="NOT_ELIGIBLE", ended_at=NOW, admitted_at=None)
    assert stages(study)["en-US"] == "not_eligible"


def test_people_are_turned_away_and_the_full_cell_is_named():
    study = fieldwork()
    quota(study, "gender", women=(0, {"gender": ["female"]}), men=(5, {"gender": ["male"]}))
    arrive(study, state="QUOTA_FULL", end_reason="CELL_FULL", ended_at=NOW, admitted_at=None)
    alarm = alarms_of(study, NOW)[0]
    assert (alarm.where, alarm.stage) == ("en-US", "turned_away")
    assert "gender: women" in alarm.text
    assert "men" not in alarm.text.replace("women", "")


def test_people_consent_but_nobody_is_placed():
    study = fieldwork()
    arrive(study, admitted_at=None)
    assert stages(study)["en-US"] == "not_placed"


def test_people_are_placed_but_do_not_start():
    study = fieldwork()
    arrive(study)
    assert stages(study)["en-US"] == "not_started"


def test_people_start_but_do_not_finish():
    study = fieldwork()
    claim(arrive(study))
    assert stages(study)["en-US"] == "not_finished"


def test_no_open_seats():
    study = fieldwork(prompts=1, overlap=1)
    claim(arrive(study))
    assert stages(study)["en-US"] == "no_open_seats"


def test_a_rate_that_needs_more_than_two_months_is_too_slow():
    study = fieldwork(prompts=12, overlap=3)
    finish(arrive(study))
    assert stages(study)["en-US"] == "slow"
    assert "1 in 7 days, 35 left" in alarms_of(study, NOW)[0].text


def test_pilots_end_no_silence():
    study = fieldwork()
    arrive(study, recruitment_link=RecruitmentLinkFactory(study=study, purpose="PILOT"))
    assert stages(study)["en-US"] == "not_opened"


def test_a_cell_starves_where_its_locale_does_not():
    study = fieldwork(prompts=2)
    cells = {cell.key: cell for cell in quota(study, women=(5, {"gender": ["female"]}), men=(5, {"gender": ["male"]})).cells.all()}
    for locale in (0, 1):
        someone = arrive(study, locale)
        finish(someone)
        Placement.objects.create(
            annotator=someone, quota=cells["women"].quota, cell=cells["women"], state="COMPLETED", reserved_at=NOW, ended_at=NOW
        )
    assert stages(study) == {"en-US, fr-FR · everybody: men": "not_placed"}
    someone = arrive(study)
    Placement.objects.create(annotator=someone, quota=cells["men"].quota, cell=cells["men"], reserved_at=NOW)
    assert stages(study) == {"en-US, fr-FR · everybody: men": "not_started"}
    claim(someone)
    assert stages(study) == {"en-US, fr-FR · everybody: men": "not_finished"}


def test_monitoring_cells_and_people_outside_the_cells_never_starve():
    study = fieldwork(prompts=2)
    quota(study, kind=Quota.Kind.MONITOR, women=(5, {"gender": ["female"]}))
    for locale in (0, 1):
        finish(arrive(study, locale))
    assert alarms_of(study, NOW) == []


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_cells_waves_and_what_blocks(capsys):
    study = fieldwork(prompts=2)
    quota(study, women=(5, {"gender": ["female"]}))
    call_command("forecast", study.slug)
    out = capsys.readouterr().out
    assert "en-US, fr-FR · everybody: women" in out
    assert "5 left; no forecast: nothing happened in the last 7 days" in out
    assert "fr-FR, wave 1" in out
    assert "Nobody opens the link." in out


def test_the_command_prints_a_row_a_line_and_says_nothing_in_words(capsys):
    study = fieldwork(prompts=2, state=Study.State.PAUSED)
    quota(study, women=(5, {"gender": ["female"]}), men=(7, {"gender": ["male"]}))
    call_command("forecast", study.slug)
    _, blocks, cells, *_ = capsys.readouterr().out.split("\n\n")
    assert blocks.splitlines() == ["What blocks", "  nothing"]
    assert [line.split(";")[0] for line in cells.splitlines()] == [
        "Cells",
        "  en-US, fr-FR · everybody: women  5 left",
        "  en-US, fr-FR · everybody: men    7 left",
    ]


def test_the_command_names_the_studies_it_knows():
    study = fieldwork()
    with pytest.raises(CommandError, match=study.slug):
        call_command("forecast", "no-such-study")
