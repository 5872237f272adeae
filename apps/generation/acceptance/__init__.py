"""What an answer has to be before a person sees it: cleaned, complete, in the right language, and unlike the others of its set.

`clean_answer` and `check_answers` read one output; `examine_answers` and `examine_set` judge texts by a study's policy and give
findings with figures. Nothing here touches the database or the network.
"""

from apps.generation.acceptance.answers import examine_answers
from apps.generation.acceptance.cleaning import MAX_CHARACTERS, answer_faults, check_answers, clean_answer
from apps.generation.acceptance.findings import AnswerRefused, Fault, Finding, SetReport
from apps.generation.acceptance.sets import examine_set

__all__ = [
    "MAX_CHARACTERS",
    "AnswerRefused",
    "Fault",
    "Finding",
    "SetReport",
    "answer_faults",
    "check_answers",
    "clean_answer",
    "examine_answers",
    "examine_set",
]
