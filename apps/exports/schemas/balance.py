"""Columns that both schemas take from the study's balance rule."""

from apps.exports.schemas.base import Column

IN_BALANCED_SUBSET = Column(
    "in_balanced_subset", "bool", "Whether the annotator is in the subset that the study's balance rule draws. False without a rule."
)
BALANCE_COLUMNS = (
    IN_BALANCED_SUBSET,
    Column(
        "in_balanced_subset_10",
        "bool",
        "Whether moreover the conversation begins with a prompt of the study on which enough annotators of the subset (the rule's "
        "min_annotators, 10 unless stated) from the same set of locales have a conversation. False for an own first message.",
    ),
)
