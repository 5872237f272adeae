"""Candidates and how they are made, for researchers: sets and attempts to look at, models and recipes to edit."""

from typing import Any

from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from modeltranslation.admin import TranslationAdmin

from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, InstructionTemplate, ModelSpec, Recipe, RecipePart
from apps.generation.services import retry_failed_sets
from apps.studies.permissions import (
    OwnStudiesFilter,
    ReadOnlyAdmin,
    StudyScopedAdmin,
    StudyScopedInline,
    StudyScopedStackedInline,
    limit_to_writable,
)


class CandidateInline(ReadOnlyAdmin, StudyScopedInline):
    model = Candidate
    fields = ["slot", "text", "source", "model_spec"]


class GenerationAttemptInline(ReadOnlyAdmin, StudyScopedStackedInline):
    model = GenerationAttempt
    fields = [
        ("recipe_part", "number", "state"),
        ("error_code", "error_detail"),
        ("model_answered", "input_tokens", "output_tokens", "cost"),
        ("started_at", "finished_at"),
        "parameters",
        "raw_output",
    ]


@admin.register(CandidateSet)
class CandidateSetAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    study_path = "recipe__study"
    list_display = ["__str__", "study", "first_words", "language", "state", "failures", "error_code", "is_live", "ready_at"]
    list_filter = ["state", "language", "is_live", "error_code", ("recipe__study", OwnStudiesFilter)]
    list_select_related = ["recipe__study"]
    search_fields = ["text_hash", "candidates__text"]
    ordering = ["-pk"]
    list_per_page = 50
    show_full_result_count = False
    inlines = [CandidateInline, GenerationAttemptInline]
    actions = ["retry_failed"]

    @admin.display(ordering="recipe__study__slug")
    def study(self, row: CandidateSet) -> str:
        return row.recipe.study.slug

    @admin.display(description="message")
    def first_words(self, row: CandidateSet) -> str:
        text: str = row.messages[-1]["content"] if row.messages else "[erased]"
        return text if len(text) <= 60 else f"{text[:59]}…"

    @admin.action(description="Try the failed ones again", permissions=["retry"])
    def retry_failed(self, request: HttpRequest, queryset: QuerySet[CandidateSet]) -> None:
        writable = limit_to_writable(queryset, self.study_path, request.user)
        count = retry_failed_sets(candidate_set_ids=writable.values_list("pk", flat=True))
        if count:
            self.message_user(request, f"{count} candidate sets are tried again.", messages.SUCCESS)
        else:
            self.message_user(
                request, "None of these sets has failed in a study that you may change, so nothing is tried again.", messages.WARNING
            )

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return self.may_write(request)


@admin.register(ModelSpec)
class ModelSpecAdmin(StudyScopedAdmin):
    list_display = ["key", "study", "model", "base_url", "max_tokens", "timeout_seconds"]
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}
    list_filter = [("study", OwnStudiesFilter)]
    list_select_related = ["study"]


@admin.register(InstructionTemplate)
class InstructionTemplateAdmin(StudyScopedAdmin, TranslationAdmin):
    list_display = ["__str__", "study"]
    list_filter = [("study", OwnStudiesFilter)]
    list_select_related = ["study"]

    def has_change_permission(self, request: HttpRequest, obj: InstructionTemplate | None = None) -> bool:
        """A text that made candidates is history: a change is a new version."""
        return not self._is_used(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: InstructionTemplate | None = None) -> bool:
        return not self._is_used(obj) and super().has_delete_permission(request, obj)

    def _is_used(self, obj: InstructionTemplate | None) -> bool:
        return obj is not None and GenerationAttempt.objects.filter(recipe_part__template=obj).exists()


class RecipePartInline(StudyScopedInline):
    """The parts; those of a recipe that made sets are history and can only be looked at."""

    model = RecipePart

    def has_add_permission(self, request: HttpRequest, obj: Recipe | None = None) -> bool:
        return not _is_used(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Recipe | None = None) -> bool:
        return not _is_used(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Recipe | None = None) -> bool:
        return not _is_used(obj) and super().has_delete_permission(request, obj)


def _is_used(recipe: Recipe | None) -> bool:
    return recipe is not None and recipe.candidate_sets.exists()


@admin.register(Recipe)
class RecipeAdmin(StudyScopedAdmin):
    list_display = ["__str__", "study", "composition", "is_current"]
    list_filter = ["is_current", ("study", OwnStudiesFilter)]
    list_select_related = ["study"]
    inlines = [RecipePartInline]

    @admin.display(description="parts")
    def composition(self, row: Recipe) -> str:
        return " + ".join(str(part) for part in row.parts.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("parts")

    def get_readonly_fields(self, request: HttpRequest, obj: Recipe | None = None) -> tuple[str, ...]:
        """A recipe that made sets is changed by a new version; only whether it is current stays open."""
        return ("study", "key", "version") if _is_used(obj) else ()

    def has_delete_permission(self, request: HttpRequest, obj: Recipe | None = None) -> bool:
        return not _is_used(obj) and super().has_delete_permission(request, obj)
