"""What an answer has to be before a person sees it: cleaned, of sane length, and distinct within its set."""

import re

from apps.core.errors import DomainError
from apps.core.text import clean_text, count_words, fingerprint

MAX_CHARACTERS = 8000

# What chat templates leave in a text: <|end_of_text|>, <|im_end|>, </s>, [/INST], <end_of_turn>, <eos>.
_END_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:eos|bos|pad)>", re.IGNORECASE)
# “Answer 1:”, “**Response B:**”, “# Réponse 2”. A mark or a line of its own ends a label, so that a sentence may open with the word.
_LABEL = re.compile(
    r"\A[#*_\s]*(?:answer|response|option|réponse|risposta|resposta|opzione|opção|उत्तर|जवाब)\s*(?:[0-9०-९]{1,2}|[A-F])?[*_]*"
    r"(?:\s?[:：.)\-–—][*_]*\s+|[*_]*[ \t]*\n\s*)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\A\(?[0-9०-९]{1,2}[.):]\s+")
_LATER_ITEM = re.compile(r"\n\s*\(?[0-9०-९]{1,2}[.):]\s")


class AnswerRefused(DomainError):
    """The model's output cannot be shown.

    `code`: wrong_count, empty_answer, answer_too_long, marker_in_answer, duplicate_answers.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def clean_answer(text: str) -> str:
    """The answer without control characters, end tokens and a leading label or number. A numbered list keeps its numbers."""
    text = clean_text(_END_TOKEN.sub("", text))
    text = _LABEL.sub("", text, count=1)
    if not _LATER_ITEM.search(text):
        text = _NUMBER.sub("", text, count=1)
    return text.strip()


def check_answers(answers: list[str], *, count: int) -> None:
    """Refuse answers that are not exactly `count` distinct texts of sane length. Raises `AnswerRefused`."""
    if len(answers) != count:
        raise AnswerRefused("wrong_count", f"The model gave {len(answers)} answers instead of {count}.")
    for number, answer in enumerate(answers, start=1):
        if count_words(answer) == 0:
            raise AnswerRefused("empty_answer", f"Answer {number} of {count} is empty.")
        if len(answer) > MAX_CHARACTERS:
            raise AnswerRefused("answer_too_long", f"Answer {number} of {count} is longer than {MAX_CHARACTERS} characters.")
        if "[[answer" in answer.casefold() or "[[/answer" in answer.casefold():
            raise AnswerRefused("marker_in_answer", f"Answer {number} of {count} holds the marker that separates answers.")
    if len({fingerprint(answer) for answer in answers}) < count:
        raise AnswerRefused("duplicate_answers", "Two answers are the same text.")
