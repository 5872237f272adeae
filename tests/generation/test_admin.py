"""Researchers see the candidates of their own studies, and what made candidates cannot be changed under them."""

import pytest
from django.urls import reverse

from apps.generation.models import CandidateSet
from apps.studies.models import StudyMembership
from tests.factories import CandidateSetFactory, RecipeFactory, UserFactory


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
