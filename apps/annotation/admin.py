"""How work is given out, and fieldwork as it happened: seats, assignments and whole conversations, which cannot be edited."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.safestring import SafeString

from apps.annotation.models import Assignment, AssignmentPlan, Comparison, Conversation, ShownCandidate, Slot, Turn
from apps.annotation.policies import DEFAULT, POLICIES
from apps.annotation.services import change_overlap, preview_overlap
from apps.studies.models import Study
from apps.studies.permissions import OwnStudiesFilter, ReadOnlyAdmin, StudyScopedAdmin, limit_to_writable

MOST_MIXED_IN = 0.5


class AssignmentPlanForm(forms.ModelForm):
    policy = forms.ChoiceField(
        choices=[(policy.key, policy.label) for policy in POLICIES.values()],
        initial=DEFAULT,
        help_text="Work that is under way stays as it is; the next task of each person follows the new policy.",
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        study: Study | None = values.get("study") or getattr(self.instance, "study", None)
        quota, size = values.get("balance_quota"), values.get("set_size")
        policy = POLICIES.get(values.get("policy", ""))
        for field in policy.needs if policy else ():
            if not values.get(field) and field not in self.errors:
                self.add_error(field, "This policy needs it.")
        if quota is not None and study is not None and quota.study_id != study.pk:
            self.add_error("balance_quota", f"Choose a quota of {study}.")
        if size and study is not None and size > study.conversations_per_annotator:
            self.add_error("set_size", f"A person of {study} has {study.conversations_per_annotator} conversations at most.")
        if (values.get("repeat_share") or 0) + (values.get("gold_share") or 0) > MOST_MIXED_IN:
            self.add_error("gold_share", "Repeated and gold items may be half of all tasks at most.")
        return values


class OverlapForm(forms.Form):
    study: "forms.ModelChoiceField[Study]" = forms.ModelChoiceField(Study.objects.none())
    overlap = forms.IntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(32767)], help_text="Conversations that each prompt gets in each locale."
    )

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["study"].queryset = limit_to_writable(Study.objects.order_by("slug"), "", request.user)  # type: ignore[attr-defined]


@admin.register(AssignmentPlan)
class AssignmentPlanAdmin(StudyScopedAdmin):
    """A study without a plan fills to the overlap and mixes nothing in."""

    form = AssignmentPlanForm
    list_display = ("study", "policy", "overlap", "repeat_share", "gold_share")
    list_filter = (("study", OwnStudiesFilter),)
    list_select_related = ("study",)
    fieldsets = (
        (None, {"fields": ("study", "policy")}),
        ("Balance within each prompt", {"fields": ("balance_quota", "max_stratum_share")}),
        ("Fixed sets", {"fields": ("set_size",)}),
        (
            "Mixed in",
            {
                "fields": ("repeat_share", "repeat_after_tasks", "repeat_after_hours", "gold_share"),
                "description": "One comparison each, beside a person's own number of conversations: never counted towards the overlap, "
                "paid like a conversation.",
            },
        ),
    )
    change_list_template = "admin/annotation/assignmentplan/change_list.html"
    change_form_template = "admin/annotation/assignmentplan/change_form.html"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("study",) if obj else ()

    @admin.display(description="overlap", ordering="study__overlap")
    def overlap(self, plan: AssignmentPlan) -> int:
        return plan.study.overlap

    def get_urls(self) -> list[Any]:
        page = self.admin_site.admin_view(self.overlap_page)
        return [path("overlap/", page, name="annotation_assignmentplan_overlap"), *super().get_urls()]

    def overlap_page(self, request: HttpRequest) -> HttpResponse:
        """Change the overlap of a study in two steps: see what will happen, then do it."""
        chosen = request.GET.get("study", "")
        study = limit_to_writable(Study.objects.all(), "", request.user).filter(pk=chosen if chosen.isdecimal() else 0).first()
        initial = {"study": study.pk, "overlap": study.overlap} if study else {}
        form = OverlapForm(request.POST or None, request=request, initial=initial)
        preview = None
        if request.method == "POST" and form.is_valid():
            study, overlap = form.cleaned_data["study"], form.cleaned_data["overlap"]
            if request.POST.get("step") == "change":
                done = change_overlap(study=study, overlap=overlap)
                told = f"{done.added} seats added, {done.reopened} brought back, {done.retired} taken away, {done.excess} in excess."
                self.message_user(request, f"The overlap of {study} is {overlap}: {told}", messages.SUCCESS)
                return redirect("admin:annotation_assignmentplan_changelist")
            preview = preview_overlap(study=study, overlap=overlap)
        context = {
            **self.admin_site.each_context(request),
            "title": "Change overlap",
            "opts": self.opts,
            "form": form,
            "preview": preview,
        }
        return TemplateResponse(request, "admin/annotation/assignmentplan/overlap.html", context)


@admin.register(Slot)
class SlotAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    study_path = "study_locale__study"
    list_display = (
        "__str__",
        "study",
        "locale",
        "prompt",
        "recipe",
        "ordinal",
        "state",
        "is_excess",
        "claims",
        "queue_position",
        "lease_expires_at",
    )
    list_filter = (("study_locale__study", OwnStudiesFilter), "state", ("study_locale", OwnStudiesFilter))
    list_select_related = ("study_locale__study", "prompt", "recipe")
    ordering = ("study_locale", "queue_position")

    @admin.display(description="study", ordering="study_locale__study__slug")
    def study(self, slot: Slot) -> str:
        return slot.study_locale.study.slug

    @admin.display(description="locale", ordering="study_locale")
    def locale(self, slot: Slot) -> str:
        return slot.study_locale.tag

    @admin.display(description="claims", ordering="fencing_token")
    def claims(self, slot: Slot) -> int:
        return slot.fencing_token


@admin.register(Assignment)
class AssignmentAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    study_path = "annotator__study"
    list_display = ("__str__", "study", "locale", "annotator", "prompt", "purpose", "state", "policy", "reason", "claimed_at", "ended_at")
    list_filter = (("annotator__study", OwnStudiesFilter), "state", "purpose", "policy", ("annotator__study_locale", OwnStudiesFilter))
    list_select_related = ("annotator__study", "annotator__study_locale", "prompt")
    ordering = ("-pk",)
    exclude = ("submission_id",)

    @admin.display(description="study", ordering="annotator__study__slug")
    def study(self, assignment: Assignment) -> str:
        return assignment.annotator.study.slug

    @admin.display(description="locale", ordering="annotator__study_locale")
    def locale(self, assignment: Assignment) -> str:
        return assignment.annotator.study_locale.tag


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    """The list counts turns; the page replays the conversation with what was shown, chosen and written."""

    study_path = "annotator__study"
    list_display = (
        "__str__",
        "study",
        "locale",
        "annotator",
        "prompt",
        "purpose",
        "state",
        "turn_count",
        "answered_count",
        "started_at",
        "ended_at",
    )
    list_filter = (
        ("annotator__study", OwnStudiesFilter),
        "assignment__state",
        "assignment__purpose",
        ("annotator__study_locale", OwnStudiesFilter),
    )
    list_select_related = ("annotator__study", "annotator__study_locale", "assignment__prompt")
    ordering = ("-pk",)
    fields = ("annotator", "assignment", "started_at", "ended_at", "record")
    readonly_fields = ("record",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super()
            .get_queryset(request)
            .annotate(turn_total=Count("turns"), answered_total=Count("turns", filter=Q(turns__state=Turn.State.ANSWERED)))
        )

    @admin.display(description="study", ordering="annotator__study__slug")
    def study(self, conversation: Conversation) -> str:
        return conversation.annotator.study.slug

    @admin.display(description="locale", ordering="annotator__study_locale")
    def locale(self, conversation: Conversation) -> str:
        return conversation.annotator.study_locale.tag

    @admin.display(description="prompt", empty_value="own message")
    def prompt(self, conversation: Conversation) -> str | None:
        prompt = conversation.assignment.prompt
        return str(prompt) if prompt else None

    @admin.display(description="purpose", ordering="assignment__purpose")
    def purpose(self, conversation: Conversation) -> str:
        return conversation.assignment.get_purpose_display()

    @admin.display(description="state", ordering="assignment__state")
    def state(self, conversation: Conversation) -> str:
        return conversation.assignment.get_state_display()

    @admin.display(description="turns", ordering="turn_total")
    def turn_count(self, conversation: Any) -> int:
        return conversation.turn_total

    @admin.display(description="answered", ordering="answered_total")
    def answered_count(self, conversation: Any) -> int:
        return conversation.answered_total

    @admin.display(description="as the annotator saw it")
    def record(self, conversation: Conversation) -> SafeString:
        locale = conversation.annotator.study_locale
        return render_to_string(
            "admin/annotation/conversation/record.html",
            {"turns": recorded_turns(conversation), "lang": locale.tag, "direction": locale.text_direction},
        )


def recorded_turns(conversation: Conversation) -> list[dict[str, Any]]:
    """Each turn with its shown candidates in their positions and, once answered, the current comparison."""
    shown = ShownCandidate.objects.select_related("candidate__model_spec").order_by("position")
    comparisons = Comparison.objects.current().prefetch_related("items")
    turns = conversation.turns.order_by("number").prefetch_related(
        Prefetch("shown_candidates", queryset=shown), Prefetch("comparisons", queryset=comparisons)
    )
    record = []
    for turn in turns:
        comparison = next(iter(turn.comparisons.all()), None)
        best = {item.shown_candidate_id for item in comparison.items.all() if item.rank == 1} if comparison else set()
        candidates = [{"shown": shown, "chosen": shown.pk in best} for shown in turn.shown_candidates.all()]
        record.append({"turn": turn, "candidates": candidates, "comparison": comparison})
    return record
