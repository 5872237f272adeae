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
from apps.annotation.services.participation import hand_in_questionnaire, read_guideline, submit_practice, withdraw
from apps.annotation.services.seating import seat_study

__all__ = [
    "claim_next_assignment",
    "end_conversation",
    "give_up_turn",
    "hand_in_questionnaire",
    "read_guideline",
    "retry_turn",
    "rewrite_message",
    "seat_study",
    "show_turn",
    "submit_comparison",
    "submit_message",
    "submit_practice",
    "withdraw",
]
