"""Fieldwork as it happened: seats, assignments and whole conversations. Nothing here can be edited."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from apps.annotation.models import Assignment, Comparison, Conversation, ShownCandidate, Slot, Turn
from apps.studies.permissions import OwnStudiesFilter, ReadOnlyAdmin, StudyScopedAdmin


@admin.register(Slot)
class SlotAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    study_path = "study_locale__study"
    list_display = ("__str__", "study", "locale", "prompt", "recipe", "ordinal", "state", "claims", "queue_position", "lease_expires_at")
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
    list_display = ("__str__", "study", "locale", "annotator", "prompt", "purpose", "state", "claimed_at", "ended_at")
    list_filter = (("annotator__study", OwnStudiesFilter), "state", "purpose", ("annotator__study_locale", OwnStudiesFilter))
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
