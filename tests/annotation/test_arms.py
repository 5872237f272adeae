"""Several recipes in one study: each prompt belongs to one of them, everywhere, for good."""

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.annotation.models import Assignment, Slot
from apps.annotation.services import seat_study
from apps.generation.arms import arms_of_study, deal_arms, draw_arm
from apps.generation.models import CandidateSet, Recipe
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, make_ready
from tests.factories import PromptFactory, RecipeFactory, StudyFactory


def recipes(*keys: str) -> list:
    return [SimpleNamespace(key=key) for key in keys]


@given(st.integers(0, 40), st.integers(1, 5), st.integers())
def test_arms_differ_by_one_prompt_at_most_and_stay_when_prompts_join(prompts, arms, seed):
    dealt = recipes(*"abcde"[:arms])
    keys = [f"prompt-{number}" for number in range(prompts)]
    first = deal_arms(keys, dealt, seed)
    counts = Counter(recipe.key for recipe in first.values())
    sizes = [counts[recipe.key] for recipe in dealt]
    assert max(sizes) - min(sizes) <= 1
    later = deal_arms([*keys, "late"], dealt, seed)
    assert {key: later[key] for key in keys} == first
    assert deal_arms(keys, dealt[::-1], seed) == first


def test_the_seed_decides_the_arms():
    keys = [f"prompt-{number}" for number in range(20)]
    dealt = [tuple(recipe.key for recipe in deal_arms(keys, recipes("a", "b"), seed).values()) for seed in (1, 1, 2)]
    assert dealt[0] == dealt[1] != dealt[2]


def test_own_tasks_draw_every_arm():
    drawn = Counter(draw_arm(recipes("b", "a"), seed).key for seed in range(400))
    assert 150 < drawn["a"] < 250
    assert draw_arm(recipes("a", "b"), 3).key == draw_arm(recipes("b", "a"), 3).key


@pytest.fixture
def study(db):
    """Six prompts, two locales, overlap 2, and the arms nc3 and plain."""
    study = StudyFactory(overlap=2)
    RecipeFactory(study=study, key="plain")
    PromptFactory.create_batch(6, study=study)
    seat_study(study=study)
    return study


def test_a_prompt_has_seats_and_candidates_in_its_arm_only(study):
    arms = arms_of_study(study)
    assert Counter(recipe.key for recipe in arms.values()) == {"nc3": 3, "plain": 3}
    assert Slot.objects.count() == 6 * 2 * 2
    for slot in Slot.objects.select_related("prompt", "recipe", "candidate_set"):
        assert slot.recipe == slot.candidate_set.recipe == arms[slot.prompt.key]
    assert CandidateSet.objects.count() == 6 * 2


def test_seats_of_all_arms_are_served_in_turn(study):
    firsts = Slot.objects.filter(ordinal=1, study_locale=study.locales.first()).order_by("queue_position")
    assert {slot.recipe.key for slot in firsts.select_related("recipe")[:2]} == {"nc3", "plain"}


def test_seating_again_changes_nothing_and_a_new_prompt_moves_nobody(study):
    before = dict(Slot.objects.values_list("pk", "recipe_id"))
    assert seat_study(study=study).added == 0
    PromptFactory(study=study)
    assert seat_study(study=study).added == 2 * 2
    assert dict(Slot.objects.filter(pk__in=before).exclude(state="RETIRED").values_list("pk", "recipe_id")) == before


def test_an_arm_that_is_taken_out_gives_its_prompts_to_the_others(study):
    Recipe.objects.filter(key="plain").update(is_current=False)
    seating = seat_study(study=study)
    assert (seating.added, seating.retired) == (3 * 2 * 2, 3 * 2 * 2)
    assert set(Slot.objects.filter(state="OPEN").values_list("recipe__key", flat=True)) == {"nc3"}


def test_an_own_task_and_its_turns_stay_in_one_arm_that_the_persons_seed_draws(study):
    study.own_prompt_share = 1
    study.save()
    arms = {claim(admitted_annotator(study, seed=seed)).recipe.key for seed in range(12)}
    assert arms == {"nc3", "plain"}
    assert not Assignment.objects.exclude(purpose="OWN").exists()


def test_people_are_given_prompts_of_every_arm(study):
    for candidate_set in CandidateSet.objects.all():
        make_ready(candidate_set)
    claimed = [claim(admitted_annotator(study), now=NOW) for _ in range(4)]
    assert {assignment.recipe.key for assignment in claimed} == {"nc3", "plain"}
    assert all(assignment.recipe == assignment.slot.recipe for assignment in claimed)
