from apps.annotation.services.assignment import claim_next_assignment
from apps.annotation.services.conversation import (
    end_conversation,
    give_up_turn,
    retry_turn,
    rewrite_message,
    show_turn,
    submit_comparison,
    submit_message,
)
from apps.annotation.services.leases import release_offers, return_assignment, touch_annotator
from apps.annotation.services.participation import hand_in_questionnaire, read_guideline, submit_practice, withdraw
from apps.annotation.services.seating import change_overlap, preview_overlap, seat_study

__all__ = [
    "change_overlap",
    "claim_next_assignment",
    "end_conversation",
    "give_up_turn",
    "hand_in_questionnaire",
    "preview_overlap",
    "read_guideline",
    "release_offers",
    "retry_turn",
    "return_assignment",
    "rewrite_message",
    "seat_study",
    "show_turn",
    "submit_comparison",
    "submit_message",
    "submit_practice",
    "touch_annotator",
    "withdraw",
]
