"""Whether the wide schema can express a study: if not, the release is refused with every reason at once."""

from typing import Any

from django.db.models import QuerySet

from apps.annotation.models import Comparison, Conversation
from apps.annotators.models import Annotator
from apps.annotators.models.demographics import DemographicAnswer
from apps.exports.errors import ReleaseRefused
from apps.exports.schemas import community_alignment as wide
from apps.exports.selectors import Watermark, released_comparisons, released_conversations
from apps.studies.models import Question, Study, TaskDesign

K = len(wide.LETTERS)
MAX_TURNS = len(wide.TURNS)


def require_community_alignment(study: Study, watermark: Watermark) -> None:
    """Raise `ReleaseRefused` where design or data of `study` does not fit the 45 columns and their literals."""
    conversations = released_conversations(study, watermark)
    reasons = _design_reasons(study) + _comparison_reasons(conversations, watermark) + _annotator_reasons(conversations)
    if reasons:
        raise ReleaseRefused(
            f"The schema community_alignment cannot express the study “{study.slug}”: {'; '.join(reasons)}. Use the schema long instead.",
            reasons=reasons,
        )


def _design_reasons(study: Study) -> list[str]:
    design = TaskDesign.objects.filter(study=study).prefetch_related("turn_designs").first()
    if design is None:
        return ["it has no task design"]
    reasons = [
        f"its design shows {turns.k} candidates at turns {turns.first_turn}–{turns.last_turn}, the schema has {K}"
        for turns in design.turn_designs.all()
        if turns.k != K
    ]
    if design.max_turns > MAX_TURNS:
        reasons.append(f"its design has up to {design.max_turns} turns, the schema has {MAX_TURNS}")
    return reasons


def _comparison_reasons(conversations: QuerySet[Conversation], watermark: Watermark) -> list[str]:
    comparisons = released_comparisons(conversations, watermark)
    reasons = []
    if other_k := comparisons.exclude(turn__k=K).count():
        reasons.append(f"{other_k} comparisons showed another number of candidates than {K}")
    if late := comparisons.filter(turn__number__gt=MAX_TURNS).count():
        reasons.append(f"{late} comparisons are of a turn after the {MAX_TURNS}th")
    if undecided := comparisons.exclude(outcome=Comparison.Outcome.PREFERENCE).count():
        reasons.append(f"{undecided} comparisons are a tie or “none”, for which the schema has no value")
    return reasons


def _annotator_reasons(conversations: QuerySet[Conversation]) -> list[str]:
    annotators = Annotator.objects.filter(pk__in=conversations.values("annotator"))
    ages = DemographicAnswer.objects.filter(annotator__in=annotators, consent__granted=True, question__column=Question.Column.AGE)
    found: list[tuple[str, QuerySet[Annotator, Any] | QuerySet[DemographicAnswer, Any], tuple[Any, ...]]] = [
        ("language", annotators.values_list("study_locale__language", flat=True), wide.LANGUAGES),
        ("published country", annotators.values_list("study_locale__published_country", flat=True), wide.COUNTRIES),
        ("wave", annotators.values_list("wave", flat=True), wide.WAVES),
        ("published age", ages.exclude(option__published="").values_list("option__published", flat=True), wide.AGES),
    ]
    reasons = []
    for what, values, literals in found:
        unknown = sorted(set(values.distinct().order_by()) - set(literals))
        reasons += [f"the {what} “{value}” is not one of {', '.join(map(str, literals))}" for value in unknown]
    return reasons
