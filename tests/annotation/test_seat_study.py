import pytest

from apps.annotation.models import Slot
from apps.annotation.services import seat_study
from apps.studies.models import Study
from tests.annotation.fieldwork import admitted_annotator, claim, seated_study
from tests.factories import PromptFactory

pytestmark = pytest.mark.django_db


def test_every_prompt_gets_its_overlap_in_every_locale():
    seated_study(prompts=3, overlap=4)
    assert Slot.objects.count() == 3 * 2 * 4


def test_seating_again_changes_nothing():
    study = seated_study()
    before = list(Slot.objects.order_by("pk").values())
    assert seat_study(study=study).added == 0
    assert list(Slot.objects.order_by("pk").values()) == before


def test_the_queue_order_of_a_seed_is_always_the_same():
    orders = []
    for _ in range(2):
        study = seated_study(prompts=6, seed=11)
        keys = list(study.prompts.order_by("pk").values_list("pk", flat=True))
        slots = Slot.objects.filter(prompt__study=study, ordinal=1, study_locale=study.locales.first()).order_by("queue_position")
        orders.append([keys.index(pk) for pk in slots.values_list("prompt_id", flat=True)])
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


def test_a_higher_overlap_adds_seats_and_a_lower_one_retires_those_nobody_holds():
    study = seated_study(prompts=1, overlap=3)
    held = claim(admitted_annotator(study)).slot
    Study.objects.update(overlap=5)
    study.refresh_from_db()
    assert seat_study(study=study).added == 2 * 2
    Study.objects.update(overlap=1)
    study.refresh_from_db()
    seat_study(study=study)
    states = Slot.objects.filter(study_locale=study.locales.first()).values_list("state", flat=True)
    assert sorted(states) == ["CLAIMED", "RETIRED", "RETIRED", "RETIRED", "RETIRED"]
    held.refresh_from_db()
    assert held.state == Slot.State.CLAIMED


def test_a_removed_prompt_is_retired_and_comes_back_with_its_seats():
    study = seated_study(prompts=2, overlap=2)
    prompt = study.prompts.first()
    prompt.is_current = False
    prompt.save()
    assert seat_study(study=study).retired == 4
    prompt.is_current = True
    prompt.save()
    assert seat_study(study=study).reopened == 4


def test_prompts_added_later_stand_behind_the_seated_ones():
    study = seated_study(prompts=2, overlap=2, prompts_per_wave=2)
    last = Slot.objects.order_by("queue_position").last().queue_position
    late = PromptFactory(study=study)
    seat_study(study=study)
    assert all(position > last for position in late.slots.values_list("queue_position", flat=True))


def test_a_prompt_without_a_translation_gets_no_seat_in_that_language():
    study = seated_study(prompts=1)
    PromptFactory(study=study, text_fr=None)
    seat_study(study=study)
    french = study.locales.get(language="fr")
    assert Slot.objects.filter(study_locale=french).values("prompt").distinct().count() == 1
