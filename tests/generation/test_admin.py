"""Researchers see the candidates of their own studies, and what made candidates cannot be changed under them."""

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.generation.amounts import amount_text
from apps.generation.models import CandidateSet, GenerationPolicy, InstructionTemplate, ModelSpec, ValueScore
from apps.generation.policies import policy_of
from apps.generation.probe import probe_endpoint
from apps.generation.services import generate_set, request_candidate_set
from apps.studies.models import StudyMembership, TaskDesign, TurnDesign
from tests.factories import CandidateSetFactory, RecipeFactory, UserFactory
from tests.generation.conftest import PHONES_EN


@pytest.fixture
def member(study):
    user = UserFactory(is_staff=True)
    StudyMembership.objects.create(study=study, user=user, role=StudyMembership.Role.RESEARCHER)
    return user


@pytest.fixture
def desk(client, member):
    client.force_login(member)
    return client


@pytest.fixture
def made(recipe) -> CandidateSet:
    return CandidateSetFactory(recipe=recipe, text="Our own message")


@pytest.mark.parametrize("model", ["candidateset", "modelspec", "recipe", "instructiontemplate"])
def test_lists_show_rows_of_own_studies_only(desk, made, model):
    other = RecipeFactory(study__slug="not-mine")
    CandidateSetFactory(recipe=other)
    page = desk.get(reverse(f"admin:generation_{model}_changelist"))
    assert page.status_code == 200
    rows = page.context["cl"].queryset
    assert 0 < rows.count() < rows.model.objects.count()
    assert "not-mine" not in page.text


def test_a_set_shows_candidates_and_attempts_and_offers_no_change(desk, made):
    page = desk.get(reverse("admin:generation_candidateset_change", args=[made.pk]))
    assert page.status_code == 200
    assert f"Answer of slot 0 to set {made.pk}." in page.text
    assert 'name="_save"' not in page.text
    other = CandidateSetFactory()
    assert desk.get(reverse("admin:generation_candidateset_change", args=[other.pk])).status_code != 200


def test_the_list_of_sets_takes_the_same_queries_for_one_and_for_many(desk, made, django_assert_max_num_queries):
    for _ in range(10):
        CandidateSetFactory(recipe=made.recipe)
    with django_assert_max_num_queries(16):
        desk.get(reverse("admin:generation_candidateset_changelist"))


def test_failed_sets_are_tried_again_from_the_list_and_only_in_own_studies(desk, recipe):
    failed = CandidateSetFactory(recipe=recipe, state="FAILED", ready_at=None, failures=4, error_code="endpoint_timeout")
    foreign = CandidateSetFactory(state="FAILED", ready_at=None)
    url = reverse("admin:generation_candidateset_changelist")
    answer = desk.post(url, {"action": "retry_failed", "_selected_action": [failed.pk, foreign.pk]}, follow=True)
    assert "Tried again: 1 candidate set." in answer.text
    failed.refresh_from_db()
    foreign.refresh_from_db()
    assert (failed.state, failed.failures, failed.error_code) == ("PENDING", 0, "")
    assert foreign.state == "FAILED"


def test_a_used_recipe_can_be_retired_but_not_rewritten(desk, made):
    url = reverse("admin:generation_recipe_change", args=[made.recipe.pk])
    page = desk.get(url)
    assert 'name="is_current"' in page.text
    assert 'name="key"' not in page.text
    assert 'name="parts-0-count"' not in page.text


def test_a_model_of_another_study_cannot_be_chosen(desk, study):
    RecipeFactory(study__slug="not-mine")
    page = desk.get(reverse("admin:generation_recipe_add"))
    assert page.status_code == 200
    assert "not-mine" not in page.text


# --- Reviewing ----------------------------------------------------------------------------------------------------------


def act(desk, action, *rows, **fields):
    url = reverse("admin:generation_candidateset_changelist")
    return desk.post(url, {"action": action, "_selected_action": [row.pk for row in rows], **fields}, follow=True)


def test_candidates_stand_side_by_side_with_their_source_folded_away(desk, made):
    page = desk.get(reverse("admin:generation_candidateset_change", args=[made.pk])).text
    cards = page[page.index('<ol class="desk-cards">') : page.index("</ol>", page.index('<ol class="desk-cards">'))]
    assert [f"<strong>{letter}</strong>" in cards for letter in "ABCDE"] == [True] * 4 + [False]
    assert re.sub("<details.*?</details>", "", cards, flags=re.DOTALL).count("negatively_correlated") == 0
    assert cards.count("negatively_correlated") == 3


def test_a_set_shows_its_figures_and_its_attempts(desk, study, recipe, offline_endpoint):
    candidate_set = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    generate_set(candidate_set_id=candidate_set.pk, now=timezone.now())
    candidate_set.refresh_from_db()
    page = desk.get(reverse("admin:generation_candidateset_change", args=[candidate_set.pk])).text
    assert f"Diversity of the set (1 − mean): {candidate_set.diversity:.2f}" in page
    assert f"{candidate_set.verdicts.count()} verdicts" in page
    assert candidate_set.attempts.first().template_hash in page


def test_sets_are_accepted_in_bulk_in_own_studies_only(desk, made, member):
    foreign = CandidateSetFactory()
    assert "Accepted: 1 candidate set." in act(desk, "accept", made, foreign).text
    made.refresh_from_db()
    foreign.refresh_from_db()
    assert (made.reviewed_by, foreign.reviewed_by) == (member, None)


def test_an_auditor_looks_and_decides_nothing(client, study, made):
    auditor = UserFactory(is_staff=True)
    role = next(role for role in StudyMembership.Role if role not in ("OWNER", "RESEARCHER"))
    StudyMembership.objects.create(study=study, user=auditor, role=role)
    client.force_login(auditor)
    act(client, "accept", made)
    made.refresh_from_db()
    assert made.reviewed_at is None
    assert client.get(reverse("admin:generation_running")).status_code == 200
    assert client.post(reverse("admin:generation_running"), {"study": study.pk, "verb": "pause"}).status_code == 404
    assert not GenerationPolicy.objects.filter(is_paused=True).exists()


# --- Steering -------------------------------------------------------------------------------------------------------------


def test_generation_is_paused_resumed_cancelled_and_retried_from_its_page(desk, study, recipe):
    waiting = CandidateSetFactory(recipe=recipe, state="PENDING", ready_at=None)
    url = reverse("admin:generation_running")
    assert "0 of 1 candidate set ready" in " ".join(desk.get(url).text.split())
    assert "rests" in desk.post(url, {"study": study.pk, "verb": "pause"}, follow=True).text
    assert policy_of(study).is_paused
    assert "goes on" in desk.post(url, {"study": study.pk, "verb": "resume"}, follow=True).text
    assert not policy_of(study).is_paused
    desk.post(url, {"study": study.pk, "verb": "cancel"})
    waiting.refresh_from_db()
    assert waiting.state == "FAILED"
    desk.post(url, {"study": study.pk, "verb": "retry"})
    waiting.refresh_from_db()
    assert waiting.state == "PENDING"
    assert desk.post(url, {"study": study.pk, "verb": "explode"}).status_code == 404


def test_looking_at_the_generation_page_writes_nothing(desk, study, made):
    with CaptureQueriesContext(connection) as queries:
        assert desk.get(reverse("admin:generation_running")).status_code == 200
    assert not [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]


def spend_table(page: str) -> dict[str, list[str]]:
    """The cells of the first table of spend, by the name of the row."""
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', page, re.DOTALL)
    return {name: re.findall(r'<td class="number">(.*?)</td>', cells) for name, cells in rows}


def test_what_was_spent_is_split_by_purpose_and_adds_up(desk, study, recipe, offline_endpoint):
    candidate_set = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    generate_set(candidate_set_id=candidate_set.pk, now=timezone.now())
    spec = ModelSpec.objects.get(study=study)
    probe_endpoint(model_spec=spec, now=timezone.now())
    rubric = recipe.parts.first().template
    candidate = candidate_set.candidates.first()
    ValueScore.objects.create(
        candidate=candidate, judge=spec, rubric=rubric, traditional_secular=0, survival_self_expression=1, cost=Decimal("0.000031")
    )
    verdicts = {"message": {"cost": "0.000002"}, "refused": [{"cost": "0.000003"}], "answers": [{"cost": "0.000004"}]}
    CandidateSetFactory(recipe=recipe, is_live=True, moderation=verdicts)
    policy = policy_of(study)
    GenerationPolicy.objects.filter(pk=policy.pk).update(committed=policy.committed + Decimal("0.000040") + Decimal("0.000005"))
    policy.refresh_from_db()
    page = desk.get(reverse("admin:generation_running")).text
    table = spend_table(page)
    attempts = list(candidate_set.attempts.all())
    generation = [sum(attempt.input_tokens for attempt in attempts), sum(attempt.output_tokens for attempt in attempts)]
    assert table["Candidates"][:3] == [str(len(attempts)), *map(str, generation)]
    assert (table["Judge"][0], table["Judge"][3]) == ("1", "0.000031")
    assert (table["Moderation"][0], table["Moderation"][3]) == ("3", "0.000009")
    assert table["Other calls to judge, moderation and for tests"][3] == "0.000005"
    assert Decimal(table["Last test of each endpoint"][3]) > 0
    assert sum(Decimal(cells[3]) for cells in table.values()) == policy.committed
    assert f"Spent {amount_text(policy.committed)} of no ceiling" in page


def test_sets_without_budget_are_counted_apart_with_the_way_on(desk, recipe):
    CandidateSetFactory(recipe=recipe, state="PENDING", ready_at=None, error_code="budget_exhausted")
    CandidateSetFactory(recipe=recipe, state="PENDING", ready_at=None)
    page = " ".join(desk.get(reverse("admin:generation_running")).text.split())
    assert "1 waiting, 1 without budget," in page
    assert "1 candidate set cannot be paid for. Raise the budget" in page


@pytest.mark.parametrize("data", [{"verb": "pause"}, {"study": "x", "verb": "pause"}, {"study": "999999999", "verb": "pause"}])
def test_only_own_studies_are_steered(desk, data):
    other = RecipeFactory(study__slug="not-mine").study
    assert "not-mine" not in desk.get(reverse("admin:generation_running")).text
    assert desk.post(reverse("admin:generation_running"), {"study": other.pk, **data}).status_code == 404
    assert not policy_of(other).is_paused


def test_endpoints_show_their_breaker_and_what_they_spent(desk, study):
    later = timezone.now() + timedelta(minutes=5)
    ModelSpec.objects.filter(study=study).update(paused_until=later, failures_in_row=7, committed="1.25", budget=10)
    page = desk.get(reverse("admin:generation_modelspec_changelist")).text
    assert f"rests until {later:%Y-%m-%d %H:%M:%S} UTC after 7 failures in a row" in page
    assert "1.2500 of 10.0000" in page


def test_an_endpoint_is_tested_from_the_list(desk, study, offline_endpoint):
    spec = ModelSpec.objects.get(study=study)
    foreign = RecipeFactory(study__slug="not-mine").study.model_specs.get()
    url = reverse("admin:generation_modelspec_changelist")
    page = desk.post(url, {"action": "test_endpoint", "_selected_action": [spec.pk, foreign.pk]}, follow=True)
    assert "samples in en, fr" in page.text
    spec.refresh_from_db()
    foreign.refresh_from_db()
    assert spec.probe["ok"]
    assert foreign.probed_at is None
    assert spec.probe["samples"]["fr"]["text"][:20] in unescape(desk.get(reverse("admin:generation_modelspec_change", args=[spec.pk])).text)


def test_a_dead_endpoint_is_told_apart(desk, study, offline_endpoint):
    offline_endpoint.set(status=500)
    spec = ModelSpec.objects.get(study=study)
    page = desk.post(
        reverse("admin:generation_modelspec_changelist"), {"action": "test_endpoint", "_selected_action": [spec.pk]}, follow=True
    )
    spec.refresh_from_db()
    assert not spec.probe["ok"]
    assert 'class="error"' in page.text


# --- Variants -------------------------------------------------------------------------------------------------------------


def test_variants_are_edited_on_the_page_of_their_part_until_it_made_candidates(desk, recipe):
    url = reverse("admin:generation_recipepart_change", args=[recipe.parts.first().pk])
    assert 'name="variants-TOTAL_FORMS"' in desk.get(url).text
    assert 'name="_save"' in desk.get(url).text
    CandidateSetFactory(recipe=recipe)
    assert 'name="_save"' not in desk.get(url).text


# --- Recipes are whole ----------------------------------------------------------------------------------------------------


@pytest.fixture
def four_wide(study) -> None:
    """The turns of the study show four candidates."""
    design = TaskDesign.objects.create(study=study, min_turns=1, max_turns=2)
    TurnDesign.objects.create(task_design=design, first_turn=1, last_turn=2, k=4)


def save_recipe(desk, study, *parts, key="mine", **fields) -> str:
    """The page after a new recipe with `parts` (method, count) was posted."""
    template, spec = InstructionTemplate.objects.get(study=study, key="default"), ModelSpec.objects.get(study=study)
    data = {"study": study.pk, "key": key, "version": 1, "is_current": "on", **fields}
    data |= {"parts-TOTAL_FORMS": len(parts), "parts-INITIAL_FORMS": 0}
    for place, (method, count) in enumerate(parts):
        row = {"order": place + 1, "method": method, "count": count, "model_spec": spec.pk, "template": template.pk, "temperature": 1}
        data |= {f"parts-{place}-{name}": value for name, value in row.items()}
    data = {name: value for name, value in data.items() if value is not None}
    return unescape(desk.post(reverse("admin:generation_recipe_add"), data, follow=True).text)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([("default", 3)], "The recipe: expected 4 candidates, as many as the turns show (k), found 3."),
        ([("default", 1), ("default", 4)], "found 5."),
        ([("persona", 4)], "Part 1: expected 4 variants, as many as `count`, found 0."),
        ([("default", 2), ("multi_model", 2)], "Part 2: expected 2 variants"),
        ([("default", 0)], "greater than or equal to 1"),
        ([("negatively_correlated", 4)], "The instruction default v1 lacks {count}"),
        ([], "A current recipe has at least one part."),
    ],
)
def test_a_current_recipe_that_is_not_whole_is_not_saved(desk, study, four_wide, parts, told):
    assert told in save_recipe(desk, study, *parts)
    assert not study.recipes.filter(key="mine").exists()


def test_a_whole_recipe_is_saved_and_an_unfinished_one_as_not_current(desk, study, four_wide):
    save_recipe(desk, study, ("default", 4))
    save_recipe(desk, study, ("persona", 4), key="draft", is_current=None)
    assert dict(study.recipes.exclude(key="nc3").values_list("key", "is_current")) == {"mine": True, "draft": False}


def test_an_instruction_without_a_language_of_the_study_is_named(desk, study, four_wide):
    InstructionTemplate.objects.filter(study=study, key="default").update(text_fr=None)
    assert "The instruction default v1 has no text in fr." in save_recipe(desk, study, ("default", 4))
    assert not study.recipes.filter(key="mine").exists()


def save_variants(desk, part, *variants, **fields) -> str:
    """The page after the part was posted with these new `variants` (their values)."""
    row = {"order": part.order, "method": part.method, "count": part.count, "temperature": 1, **fields}
    data = {**row, "recipe": part.recipe_id, "model_spec": part.model_spec_id, "template": part.template_id}
    data |= {"variants-TOTAL_FORMS": len(variants), "variants-INITIAL_FORMS": 0}
    for place, variant in enumerate(variants):
        data |= {f"variants-{place}-{name}": value for name, value in {"order": place + 1, **variant}.items()}
    return unescape(desk.post(reverse("admin:generation_recipepart_change", args=[part.pk]), data, follow=True).text)


def test_variants_of_a_part_have_to_be_whole(desk, study, four_wide):
    save_recipe(desk, study, ("persona", 4), is_current=None)
    part = study.recipes.get(key="mine").parts.get()
    persona, model = {"template": part.template_id}, {"model_spec": part.model_spec_id}
    assert "This part: expected 4 variants, as many as `count`, found 3." in save_variants(desk, part, *[persona] * 3)
    page = save_variants(desk, part, *[persona] * 3, model)
    assert "Variant 4: expected `template`, which is what a persona part varies." in page
    assert part.variants.count() == 0
    save_variants(desk, part, *[persona] * 4)
    assert part.variants.count() == 4


def test_a_part_of_a_current_recipe_keeps_the_number_that_the_turns_show(desk, recipe, four_wide):
    part = recipe.parts.get(method="default")
    assert "The recipe: expected 4 candidates, as many as the turns show (k), found 5." in save_variants(desk, part, count=2)
    part.refresh_from_db()
    assert part.count == 1
    save_variants(desk, part, temperature="0.5")
    part.refresh_from_db()
    assert part.temperature == Decimal("0.5")


def test_a_used_recipe_can_be_made_current_again_only_while_it_is_whole(desk, recipe, made, four_wide):
    """Its parts are frozen, so the form has none; they are read from the table."""
    url = reverse("admin:generation_recipe_change", args=[recipe.pk])
    frozen = {"parts-TOTAL_FORMS": 2, "parts-INITIAL_FORMS": 2}
    desk.post(url, frozen)
    recipe.refresh_from_db()
    assert not recipe.is_current
    desk.post(url, {**frozen, "is_current": "on"})
    recipe.refresh_from_db()
    assert recipe.is_current
    TurnDesign.objects.update(k=2)
    assert "found 4." in unescape(desk.post(url, {**frozen, "is_current": "on"}).text)


@pytest.mark.parametrize("tokens", ["", "0"])
def test_a_model_without_max_tokens_is_not_saved(desk, study, tokens):
    data = {"study": study.pk, "key": "spare", "model": "m", "max_tokens": tokens, "timeout_seconds": 9, "concurrency": 1}
    data |= {"input_price": 0, "output_price": 0}
    url = reverse("admin:generation_modelspec_add")
    assert "max_tokens" in desk.post(url, data).context["adminform"].form.errors
    assert not study.model_specs.filter(key="spare").exists()
    desk.post(url, data | {"max_tokens": 100})
    assert study.model_specs.filter(key="spare").exists()
