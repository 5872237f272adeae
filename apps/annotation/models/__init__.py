from apps.annotation.models.comparisons import Change, Comparison, ComparisonItem
from apps.annotation.models.conversations import Conversation, Draft, ShownCandidate, Turn
from apps.annotation.models.work import Assignment, AssignmentPlan, Slot

__all__ = [
    "Assignment",
    "AssignmentPlan",
    "Change",
    "Comparison",
    "ComparisonItem",
    "Conversation",
    "Draft",
    "ShownCandidate",
    "Slot",
    "Turn",
]
