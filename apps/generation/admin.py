"""Candidates and how they are made, for researchers: sets and attempts to look at, models and recipes to edit, generation to steer."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.safestring import SafeString
from modeltranslation.admin import TranslationAdmin

from apps.core.text import counted
from apps.generation.amounts import amount_text, budget_text
from apps.generation.models import (
    CandidateSet,
    GenerationAttempt,
    GenerationPolicy,
    InstructionTemplate,
    ModelSpec,
    Recipe,
    RecipePart,
    RecipePartVariant,
)
from apps.generation.policies import policy_of
from apps.generation.probe import probe_endpoint
from apps.generation.recipe_forms import RecipePartFormSet, RecipePartVariantFormSet
from apps.generation.report_views import ReportUrls
from apps.generation.selectors import generation_progress, resting_endpoints, spend_by_purpose
from apps.generation.services import cancel_generation, pause_generation, resume_generation, retry_failed_sets
from apps.generation.services.reviewing import accept_sets, drafted
from apps.studies.models import Study
from apps.studies.permissions import (
    OwnStudiesFilter,
    ReadOnlyAdmin,
    StudyScopedAdmin,
    StudyScopedInline,
    StudyScopedStackedInline,
    limit_to_visible,
    limit_to_writable,
)

LETTERS = "ABCDEF"


class GenerationAttemptInline(ReadOnlyAdmin, StudyScopedStackedInline):
    model = GenerationAttempt
    classes = ["collapse"]
    fields = [
        ("recipe_part", "number", "state"),
        ("error_code", "error_detail"),
        ("model_spec", "model_answered", "template_hash"),
        ("input_tokens", "output_tokens", "reserved", "cost", "latency_ms"),
        ("started_at", "finished_at"),
        "parameters",
        "raw_output",
    ]


class ReasonForm(ActionForm):
    """The form of the actions on sets, with a place for why."""

    reason = forms.CharField(required=False, max_length=300, label="Reason, to reject:")


class CandidateSetAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    """Looking at sets, accepting them, and steering generation. The desk registers it, with rejecting and editing on top:

    whether people have seen a set is known only there.
    """

    study_path = "recipe__study"
    list_display = [
        "__str__",
        "study",
        "first_words",
        "language",
        "state",
        "diversity_shown",
        "failures",
        "error_code",
        "reviewed",
        "is_live",
    ]
    list_filter = ["state", "language", "is_live", "error_code", ("recipe__study", OwnStudiesFilter), ("recipe", OwnStudiesFilter)]
    list_select_related = ["recipe__study", "reviewed_by"]
    search_fields = ["text_hash", "candidates__text"]
    ordering = ["-pk"]
    list_per_page = 50
    show_full_result_count = False
    inlines = [GenerationAttemptInline]
    actions = ["accept", "retry_failed"]
    change_list_template = "admin/generation/candidateset/change_list.html"
    fields = [
        ("recipe", "language", "state"),
        ("error_code", "failures", "regenerations"),
        ("reviewed_at", "reviewed_by", "review_note"),
        "side_by_side",
        "similarity_table",
        "verdict_table",
        "other_sets",
        ("created_at", "ready_at", "seed"),
        "moderation",
    ]
    readonly_fields = ["side_by_side", "similarity_table", "verdict_table", "other_sets"]

    # --- The list ---

    @admin.display(ordering="recipe__study__slug")
    def study(self, row: CandidateSet) -> str:
        return row.recipe.study.slug

    @admin.display(description="message")
    def first_words(self, row: CandidateSet) -> str:
        text: str = row.messages[-1]["content"] if row.messages else "[erased]"
        return text if len(text) <= 60 else f"{text[:59]}…"

    @admin.display(description="diversity", ordering="diversity", empty_value="–")
    def diversity_shown(self, row: CandidateSet) -> str | None:
        return None if row.diversity is None else f"{row.diversity:.2f}"

    @admin.display(description="accepted", ordering="reviewed_at", boolean=True)
    def reviewed(self, row: CandidateSet) -> bool:
        return row.reviewed_at is not None and row.state == CandidateSet.State.READY

    @admin.action(description="Accept", permissions=["review"])
    def accept(self, request: HttpRequest, queryset: QuerySet[CandidateSet]) -> None:
        ids = self._writable_ids(request, queryset)
        count = accept_sets(candidate_set_ids=ids, reviewer=request.user, now=timezone.now())  # type: ignore[arg-type]
        if count:
            self.message_user(request, f"Accepted: {counted(count, 'candidate set')}.", messages.SUCCESS)
        else:
            self.message_user(request, "None of these sets is ready or held in a study that you may change.", messages.WARNING)

    @admin.action(description="Try the failed ones again", permissions=["review"])
    def retry_failed(self, request: HttpRequest, queryset: QuerySet[CandidateSet]) -> None:
        count = retry_failed_sets(candidate_set_ids=self._writable_ids(request, queryset))
        if count:
            self.message_user(request, f"Tried again: {counted(count, 'candidate set')}.", messages.SUCCESS)
        else:
            self.message_user(
                request, "None of these sets has failed in a study that you may change, so nothing is tried again.", messages.WARNING
            )

    def _writable_ids(self, request: HttpRequest, queryset: QuerySet[CandidateSet]) -> list[int]:
        return list(limit_to_writable(queryset, self.study_path, request.user).values_list("pk", flat=True))

    def has_review_permission(self, request: HttpRequest) -> bool:
        return self.may_write(request)

    # --- One set ---

    @admin.display(description="as an annotator sees them")
    def side_by_side(self, row: CandidateSet) -> SafeString:
        """The candidates by slot; where each comes from only when unfolded."""
        stored = list(row.candidates.select_related("model_spec", "attempt"))
        candidates = stored or (drafted(row) if row.state != CandidateSet.State.GENERATING else [])
        context = {"set": row, "is_draft": not stored, "cards": zip(LETTERS, candidates, strict=False)}
        return render_to_string("admin/generation/candidateset/side_by_side.html", context)

    @admin.display(description="similarity")
    def similarity_table(self, row: CandidateSet) -> SafeString:
        similarity = row.similarity or {}
        rows = [(LETTERS[slot], figures) for slot, figures in enumerate(similarity.get("matrix", [])[: len(LETTERS)])]
        context = {"set": row, "measure": similarity.get("measure", ""), "rows": rows, "letters": LETTERS[: len(rows)]}
        return render_to_string("admin/generation/candidateset/similarity.html", context)

    @admin.display(description="checks")
    def verdict_table(self, row: CandidateSet) -> SafeString:
        verdicts = row.verdicts.select_related("attempt").order_by("-pk")[:200]
        return render_to_string("admin/generation/candidateset/verdicts.html", {"verdicts": verdicts})

    @admin.display(description="other sets for this text")
    def other_sets(self, row: CandidateSet) -> SafeString:
        others = CandidateSet.objects.filter(recipe__study=row.recipe.study, language=row.language, text_hash=row.text_hash, is_live=False)
        context = {"sets": [] if row.is_live else others.exclude(pk=row.pk).select_related("recipe").order_by("-pk")[:50]}
        return render_to_string("admin/generation/candidateset/other_sets.html", context)

    # --- Steering the generation of a study ---

    def get_urls(self) -> list[Any]:
        return [path("running/", self.admin_site.admin_view(self.running), name="generation_running"), *super().get_urls()]

    def running(self, request: HttpRequest) -> HttpResponse:
        """Progress, spend and endpoints of each study, with buttons to pause, resume, cancel and retry."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._steer(request)
        now = timezone.now()
        writable = set(limit_to_writable(Study.objects.all(), "", request.user).values_list("pk", flat=True))
        studies = limit_to_visible(Study.objects.all(), "", request.user).order_by("-pk")[:100]
        rows = [{**_standing(study, now), "may_steer": study.pk in writable} for study in studies]
        context = {**self.admin_site.each_context(request), "title": "Generation", "opts": self.opts, "rows": rows, "now": now}
        return TemplateResponse(request, "admin/generation/running.html", context)

    def _steer(self, request: HttpRequest) -> HttpResponse:
        pk = request.POST.get("study", "")
        study = limit_to_writable(Study.objects.all(), "", request.user).filter(pk=int(pk) if pk.isdecimal() else None).first()
        if study is None:
            raise Http404("No such study, or you may not change it.")
        verb = request.POST.get("verb")
        if verb == "pause":
            pause_generation(study=study)
            told = f"{study} rests: sets being made are finished, no other is begun. Live turns go on."
        elif verb == "resume":
            told = f"{study} goes on. Enqueued: {counted(resume_generation(study=study), 'candidate set')}."
        elif verb == "cancel":
            count = cancel_generation(study=study)
            told = f"{study}: {counted(count, 'candidate set')} cancelled. “Retry failed” brings them back."
        elif verb == "retry":
            told = f"{study}: {counted(retry_failed_sets(study=study), 'candidate set')} tried again."
        else:
            raise Http404("Choose pause, resume, cancel or retry.")
        self.message_user(request, told, messages.SUCCESS)
        return redirect("admin:generation_running")


def _standing(study: Study, now: datetime) -> dict[str, Any]:
    """Where the generation of one study stands, in the words of its page."""
    progress, policy = generation_progress(study), policy_of(study)
    return {
        "study": study,
        "progress": progress,
        "policy": policy,
        "spent": amount_text(policy.committed),
        "budget": budget_text(policy.budget),
        "lines": [{**asdict(line), "cost": amount_text(line.cost)} for line in spend_by_purpose(policy, progress)],
        "resting": resting_endpoints(study, now),
    }


@admin.register(ModelSpec)
class ModelSpecAdmin(StudyScopedAdmin):
    list_display = ["key", "study", "model", "base_url", "breaker", "spent", "tested"]
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}
    list_filter = [("study", OwnStudiesFilter)]
    list_select_related = ["study"]
    readonly_fields = ["breaker", "spent", "probe_report"]
    actions = ["test_endpoint"]

    @admin.display(description="calls")
    def breaker(self, row: ModelSpec) -> str:
        """The state of the circuit breaker in words."""
        if row.paused_until is not None and row.paused_until > timezone.now():
            return f"rests until {row.paused_until:%Y-%m-%d %H:%M:%S} UTC after {counted(row.failures_in_row, 'failure')} in a row"
        return f"goes on after {counted(row.failures_in_row, 'failure')} in a row" if row.failures_in_row else "well"

    @admin.display(description="spent of budget", ordering="committed")
    def spent(self, row: ModelSpec) -> str:
        return f"{amount_text(row.committed)} of {budget_text(row.budget)}"

    @admin.display(description="last test", ordering="probed_at", empty_value="never")
    def tested(self, row: ModelSpec) -> str | None:
        if row.probed_at is None:
            return None
        return f"{row.probed_at:%Y-%m-%d %H:%M} UTC: {'well' if row.probe.get('ok') else 'not well'}"

    @admin.display(description="last test")
    def probe_report(self, row: ModelSpec) -> SafeString:
        return render_to_string("admin/generation/probe.html", {"spec": row, "probe": row.probe})

    @admin.action(description="Test this endpoint", permissions=["change"])
    def test_endpoint(self, request: HttpRequest, queryset: QuerySet[ModelSpec]) -> None:
        """Ask each chosen endpoint a little and tell what it can do; the calls are paid."""
        for spec in limit_to_writable(queryset, self.study_path, request.user).select_related("study"):
            probe = probe_endpoint(model_spec=spec, now=timezone.now())
            structured = probe["structured_output"]
            if probe["ok"]:
                supported = {True: "supported", False: "not supported"}.get(structured["supported"], "not known")
                told = (
                    f"{spec.key}: latency {probe['latency_ms']} ms; structured output: {supported} ({structured['detail']}); "
                    f"samples in {', '.join(probe['samples'])}."
                )
                self.message_user(request, told, messages.SUCCESS)
            else:
                self.message_user(request, f"{spec.key}: {' '.join(probe['errors'])}", messages.ERROR)


@admin.register(GenerationPolicy)
class GenerationPolicyAdmin(StudyScopedAdmin):
    list_display = ["study", "spent", "is_paused", "diversity_floor", "max_regenerations"]
    list_select_related = ["study"]
    readonly_fields = ["spent", "is_paused"]

    @admin.display(description="spent of budget", ordering="committed")
    def spent(self, row: GenerationPolicy) -> str:
        return f"{amount_text(row.committed)} of {budget_text(row.budget)}"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, "study"] if obj else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It holds what was spent."""
        return False


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
        if obj is None:
            return False
        asked = models.Q(recipe_part__template=obj) | models.Q(recipe_part__variants__template=obj)
        return GenerationAttempt.objects.filter(asked).exists() or obj.value_scores.exists()


class RecipePartInline(StudyScopedInline):
    """The parts; those of a recipe that made sets are history and can only be looked at."""

    model = RecipePart
    formset = RecipePartFormSet
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Recipe | None = None) -> bool:
        return not _is_used(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Recipe | None = None) -> bool:
        return not _is_used(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Recipe | None = None) -> bool:
        return not _is_used(obj) and super().has_delete_permission(request, obj)


def _is_used(recipe: Recipe | None) -> bool:
    return recipe is not None and recipe.candidate_sets.exists()


@admin.register(Recipe)
class RecipeAdmin(ReportUrls, StudyScopedAdmin):
    list_display = ["__str__", "study", "composition", "is_current", "reports"]
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


class RecipePartVariantInline(StudyScopedInline):
    model = RecipePartVariant
    formset = RecipePartVariantFormSet

    def has_add_permission(self, request: HttpRequest, obj: RecipePart | None = None) -> bool:
        return obj is not None and not _is_used(obj.recipe) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: RecipePart | None = None) -> bool:
        return not (obj and _is_used(obj.recipe)) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: RecipePart | None = None) -> bool:
        return not (obj and _is_used(obj.recipe)) and super().has_delete_permission(request, obj)


@admin.register(RecipePart)
class RecipePartAdmin(StudyScopedAdmin):
    """The variants of a part, reached from its recipe: a model each (several models) or an instruction each (personas)."""

    study_path = "recipe__study"
    list_display = ["__str__", "recipe", "order", "model_spec", "template", "temperature"]
    list_filter = [("recipe__study", OwnStudiesFilter)]
    list_select_related = ["recipe", "model_spec", "template"]
    inlines = [RecipePartVariantInline]

    def has_add_permission(self, request: HttpRequest, obj: RecipePart | None = None) -> bool:
        return False  # parts are added on the page of their recipe

    def has_change_permission(self, request: HttpRequest, obj: RecipePart | None = None) -> bool:
        return not (obj and _is_used(obj.recipe)) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: RecipePart | None = None) -> bool:
        return not (obj and _is_used(obj.recipe)) and super().has_delete_permission(request, obj)
