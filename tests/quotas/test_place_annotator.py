"""Places: all that a person needs or none, and what becomes of them."""

from datetime import timedelta
from decimal import Decimal

import pytest

from apps.annotators.models import Annotator, RecruitmentLink
from apps.quotas.errors import AnswerMissing, NoCellFits, OutsideCellsFull, QuotaCellFull
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.selectors import quota_board
from apps.quotas.services import complete_placements, expire_places, move_placements, place_annotator, release_placements
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory, StudyFactory, StudyLocaleFactory, fill_locale
from tests.quotas.sampling import MEN, NOW, WOMEN, person, quota

pytestmark = pytest.mark.django_db
TIMEOUT = Placement.ReleaseReason.TIMEOUT


@pytest.fixture
def study():
    return StudyFactory()


def place(annotator, now=NOW, **options):
    place_annotator(annotator=annotator, now=now, **options)
    return annotator


def test_a_full_hard_cell_refuses_the_next_person(study):
    quota(study, all=(1, {}))
    place(AnnotatorFactory(study=study))
    with pytest.raises(QuotaCellFull):
        place(AnnotatorFactory(study=study))
    assert Placement.objects.count() == 1


def test_admission_takes_all_cells_or_none(study):
    quota(study, "everybody", all=(10, {}))
    quota(study, "gender", women=(0, WOMEN))
    with pytest.raises(QuotaCellFull):
        place(person(study, "woman"))
    assert not Placement.objects.exists()


def test_a_person_sits_in_one_cell_of_every_quota(study):
    interlocking = {"gender": ["female"], "birth_year": ["18_34", "35_45"]}
    quota(study, "age_gender", young_women=(1, interlocking), old_women=(1, {"gender": ["female"], "birth_year": ["55_plus"]}))
    quota(study, "gender", kind=Quota.Kind.SOFT, women=(1, WOMEN), men=(1, MEN))
    place(person(study, "woman", "35_45"))
    assert {row.cell.key for row in Placement.objects.select_related("cell")} == {"young_women", "women"}


@pytest.mark.parametrize("kind", [Quota.Kind.SOFT, Quota.Kind.MONITOR])
def test_soft_and_monitoring_quotas_never_refuse(study, kind):
    quota(study, kind=kind, no_cell="REFUSE", outside_share=0, women=(0, WOMEN))
    place(person(study, "woman"))
    place(person(study, "man"))
    assert [row.cell_id is None for row in Placement.objects.order_by("pk")] == [False, True]


def test_placing_twice_changes_nothing(study):
    quota(study, all=(1, {}))
    someone = place(AnnotatorFactory(study=study))
    place(someone)
    assert Placement.objects.count() == 1


@pytest.mark.parametrize("purpose", [RecruitmentLink.Purpose.PILOT, RecruitmentLink.Purpose.PREVIEW])
def test_pilot_and_preview_hold_no_places(study, purpose):
    quota(study, all=(0, {}))
    place(AnnotatorFactory(study=study, recruitment_link=RecruitmentLinkFactory(study=study, purpose=purpose)))
    assert not Placement.objects.exists()


# --- Outside the cells ---


def test_outside_the_cells_only_the_stated_share_is_admitted(study):
    quota(study, outside_share=Decimal("0.1"), women=(10, WOMEN), men=(9, MEN))
    place(person(study, "prefer_not_to_say"))
    with pytest.raises(OutsideCellsFull):
        place(AnnotatorFactory(study=study))  # a tenth of 19 is one person
    place(person(study, "woman"))
    assert Placement.objects.filter(cell__isnull=True).count() == 1


def test_sabotage_without_a_share_everybody_is_admitted_outside(study):
    quota(study, outside_share=None, women=(1, WOMEN))
    for _ in range(5):
        place(AnnotatorFactory(study=study))
    assert Placement.objects.filter(cell__isnull=True).count() == 5


def test_no_cell_may_mean_no_admission(study):
    quota(study, no_cell="REFUSE", women=(10, WOMEN))
    with pytest.raises(NoCellFits):
        place(person(study, "man"))
    assert not Placement.objects.exists()


def test_a_question_left_open_is_asked_once_more_and_then_counted_outside(study):
    quota(study, no_cell="ASK", outside_share=Decimal("0.5"), women=(2, WOMEN))
    someone = AnnotatorFactory(study=study)
    with pytest.raises(AnswerMissing) as missing:
        place(someone, askable=["gender", "birth_year"])
    assert missing.value.extra == {"questions": ["gender"]}
    assert not Placement.objects.exists()
    place(someone)
    assert Placement.objects.get().cell is None


def test_who_prefers_not_to_say_has_answered_and_is_not_asked_again(study):
    quota(study, no_cell="ASK", women=(2, WOMEN))
    place(person(study, "prefer_not_to_say"), askable=["birth_year"])
    someone = AnnotatorFactory(study=study)
    place(someone, askable=["birth_year"])  # the quota does not want the year
    assert Placement.objects.filter(cell__isnull=True).count() == 2


# --- Coming back, finishing, leaving ---


def test_a_released_place_is_free_again(study):
    quota(study, all=(1, {}))
    first = place(AnnotatorFactory(study=study))
    release_placements(annotator=first, reason=TIMEOUT, now=NOW)
    place(AnnotatorFactory(study=study))
    row = quota_board(study)[0]
    assert (row.target, row.reserved, row.completed, row.released) == (1, 1, 0, 1)


def test_r8_a_late_finisher_is_kept_and_flagged_over(study):
    quota(study, all=(1, {}))
    late = place(AnnotatorFactory(study=study))
    release_placements(annotator=late, reason=TIMEOUT, now=NOW)
    successor = place(AnnotatorFactory(study=study))
    complete_placements(annotator=late, now=NOW)
    complete_placements(annotator=successor, now=NOW)
    row = quota_board(study)[0]
    assert (row.completed, row.over, row.taken) == (2, 1, 1)
    assert late.placements.get().is_over
    with pytest.raises(QuotaCellFull):
        place(AnnotatorFactory(study=study))


def test_r8_a_late_finisher_whose_place_is_still_free_completes_normally(study):
    quota(study, all=(1, {}))
    late = place(AnnotatorFactory(study=study))
    release_placements(annotator=late, reason=TIMEOUT, now=NOW)
    complete_placements(annotator=late, now=NOW)
    row = quota_board(study)[0]
    assert (row.completed, row.over, row.released) == (1, 0, 0)
    with pytest.raises(QuotaCellFull):
        place(AnnotatorFactory(study=study))


def test_a_late_finisher_outside_the_cells_is_counted_the_same_way(study):
    quota(study, outside_share=Decimal("0.5"), women=(2, WOMEN))
    late = place(AnnotatorFactory(study=study))
    release_placements(annotator=late, reason=TIMEOUT, now=NOW)
    place(AnnotatorFactory(study=study))
    complete_placements(annotator=late, now=NOW)
    assert late.placements.get().is_over


def test_a_place_that_was_left_for_another_locale_does_not_come_back_at_the_end(study):
    quota(study, all=(1, {}))
    someone = place(AnnotatorFactory(study=study))
    release_placements(annotator=someone, reason=Placement.ReleaseReason.LOCALE_SWITCH, now=NOW)
    complete_placements(annotator=someone, now=NOW)
    assert someone.placements.get().state == Placement.State.RELEASED


def test_a_lowered_target_expels_nobody_and_refuses_newcomers(study):
    quota(study, all=(2, {}))
    people = [place(AnnotatorFactory(study=study)) for _ in range(2)]
    QuotaCell.objects.update(target=1)
    with pytest.raises(QuotaCellFull):
        place(AnnotatorFactory(study=study))
    for someone in people:
        complete_placements(annotator=someone, now=NOW)
    row = quota_board(study)[0]
    assert (row.completed, row.over) == (2, 0)


# --- Idle people ---


def idle(annotator, hours):
    Annotator.objects.filter(pk=annotator.pk).update(active_at=NOW - timedelta(hours=hours))


def test_an_admission_takes_over_the_place_of_somebody_idle(study):
    quota(study, all=(1, {}))
    gone = place(AnnotatorFactory(study=study))
    idle(gone, study.place_hours + 1)
    place(AnnotatorFactory(study=study))
    left = gone.placements.get()
    assert (left.state, left.release_reason) == ("RELEASED", "TIMEOUT")


def test_somebody_at_work_keeps_their_place(study):
    quota(study, all=(1, {}))
    idle(place(AnnotatorFactory(study=study)), study.place_hours - 1)
    with pytest.raises(QuotaCellFull):
        place(AnnotatorFactory(study=study))


def test_a_completed_place_never_times_out(study):
    quota(study, all=(1, {}))
    done = place(AnnotatorFactory(study=study))
    complete_placements(annotator=done, now=NOW)
    idle(done, 1000)
    assert expire_places(study=study, now=NOW) == 0
    with pytest.raises(QuotaCellFull):
        place(AnnotatorFactory(study=study))


def test_the_sweep_releases_all_places_of_the_idle_and_no_other(study):
    quota(study, "hard", women=(5, WOMEN), men=(5, MEN))
    quota(study, "soft", kind=Quota.Kind.SOFT, women=(5, WOMEN))
    gone, here = place(person(study, "woman")), place(person(study, "woman"))
    idle(gone, study.place_hours + 1)
    assert expire_places(study=study, now=NOW) == 2
    assert set(gone.placements.values_list("state", flat=True)) == {"RELEASED"}
    assert set(here.placements.values_list("state", flat=True)) == {"RESERVED"}
    assert expire_places(study=study, now=NOW) == 0


def test_who_comes_back_for_a_place_gets_it_again_while_it_is_free(study):
    quota(study, all=(1, {}))
    someone = place(AnnotatorFactory(study=study))
    release_placements(annotator=someone, reason=TIMEOUT, now=NOW)
    place(someone)
    assert someone.placements.get().state == "RESERVED"


# --- Several locales ---


@pytest.fixture
def india():
    study = StudyFactory()
    for language in ("en", "hi"):
        fill_locale(StudyLocaleFactory(study=study, country="IN", language=language, name=language, published_country="india"))
    return study


def test_indias_quota_spans_english_and_hindi(india):
    english, hindi = india.locales.filter(country="IN").order_by("language")
    quota(india, "IN", locales=[english, hindi], all=(2, {}))
    place(AnnotatorFactory(study=india, study_locale=english))
    place(AnnotatorFactory(study=india, study_locale=hindi))
    for locale in (english, hindi):
        with pytest.raises(QuotaCellFull):
            place(AnnotatorFactory(study=india, study_locale=locale))
    place(AnnotatorFactory(study=india))  # an American needs no place in it
    assert Placement.objects.count() == 2


def test_a_locale_switch_keeps_shared_places_and_moves_the_others(india):
    english, hindi = india.locales.filter(country="IN").order_by("language")
    quota(india, "IN", locales=[english, hindi], all=(1, {}))
    quota(india, "en", locales=[english], all=(1, {}))
    quota(india, "hi", locales=[hindi], all=(1, {}))
    someone = place(AnnotatorFactory(study=india, study_locale=english))
    someone.study_locale = hindi
    someone.save(update_fields=["study_locale"])
    move_placements(annotator=someone, now=NOW)
    states = {row.quota.key: (row.state, row.release_reason) for row in someone.placements.select_related("quota")}
    assert states == {"IN": ("RESERVED", ""), "en": ("RELEASED", "LOCALE_SWITCH"), "hi": ("RESERVED", "")}
    someone.study_locale = english
    someone.save(update_fields=["study_locale"])
    move_placements(annotator=someone, now=NOW)
    states = {row.quota.key: row.state for row in someone.placements.select_related("quota")}
    assert states == {"IN": "RESERVED", "en": "RESERVED", "hi": "RELEASED"}


def test_a_locale_switch_into_a_full_cell_is_refused_and_keeps_the_old_places(india):
    english, hindi = india.locales.filter(country="IN").order_by("language")
    quota(india, "en", locales=[english], all=(1, {}))
    quota(india, "hi", locales=[hindi], all=(0, {}))
    someone = place(AnnotatorFactory(study=india, study_locale=english))
    someone.study_locale = hindi
    with pytest.raises(QuotaCellFull):
        move_placements(annotator=someone, now=NOW)
    assert [(row.quota.key, row.state) for row in someone.placements.select_related("quota")] == [("en", "RESERVED")]


# --- Cost ---


def test_admission_asks_as_many_queries_with_many_cells_as_with_few(study, django_assert_num_queries):
    quota(study, "gender", women=(9, WOMEN), men=(9, MEN))
    someone = person(study, "woman", "18_34")
    assert someone.recruitment_link.counts
    with django_assert_num_queries(10):
        place(someone)
    many = {f"cell-{number}": (9, {"birth_year": ["18_34"], "gender": [f"g{number}"]}) for number in range(200)}
    quota(study, "many", kind=Quota.Kind.HARD, **many, women=(9, WOMEN))
    other = person(study, "woman", "18_34")
    assert other.recruitment_link.counts
    with django_assert_num_queries(10):
        place(other)
    assert other.placements.count() == 2
