"""Researchers see the candidates of their own studies, and what made candidates cannot be changed under them."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.generation.models import CandidateSet, GenerationPolicy, ModelSpec
from apps.generation.policies import policy_of
from apps.generation.services import generate_set, request_candidate_set
from apps.studies.models import StudyMembership
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
    assert "1 candidate sets are tried again" in answer.text
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
    assert "1 candidate sets are accepted" in act(desk, "accept", made, foreign).text
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
    assert "0 of 1 candidate sets ready" in " ".join(desk.get(url).text.split())
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
    assert "1.250000 of 10.000000" in page


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
