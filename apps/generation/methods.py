"""Sampling methods: how the candidates of a recipe part are asked for and read. A new method is one class here and one test."""

import re

from apps.core.errors import DomainError
from apps.generation.acceptance import check_answers, clean_answer
from apps.generation.models import RecipePart

Messages = list[dict[str, str]]

_MARKER = re.compile(r"^[ \t>*_#]*\[\[\s*answer(?:\s*\d+)?\s*\]\][*_:]*[ \t]*", re.IGNORECASE | re.MULTILINE)


class InstructionMissing(DomainError):
    """The instruction template of the part has no text in the set's language."""

    code = "instruction_missing"


class SamplingMethod:
    """`key` is stored with the part. `calls` says how many answers each call has to give; `parse` reads one call's output."""

    key: str

    def calls(self, count: int) -> list[int]:
        """Answers wanted from each call, in order; their sum is `count`."""
        raise NotImplementedError

    def messages(self, part: RecipePart, *, language: str, conversation: Messages, count: int) -> Messages:
        """The instruction in the set's language, then the conversation. Raises `InstructionMissing`."""
        try:
            instruction = part.template.text_in(language)
        except LookupError as error:
            raise InstructionMissing(str(error)) from error
        return [{"role": "system", "content": instruction.replace("{count}", str(count))}, *conversation]

    def parse(self, output: str, *, count: int) -> list[str]:
        """The `count` cleaned answers in `output`. Raises `AnswerRefused`."""
        raise NotImplementedError


class NegativelyCorrelated(SamplingMethod):
    """One generation that writes all answers, so that each can differ from the others; a marker line opens each answer."""

    key = RecipePart.Method.NEGATIVELY_CORRELATED.value

    def calls(self, count: int) -> list[int]:
        return [count]

    def parse(self, output: str, *, count: int) -> list[str]:
        # What stands before the first marker is the model's talk about the task, not an answer.
        answers = [clean_answer(piece) for piece in _MARKER.split(output)[1:]]
        check_answers(answers, count=count)
        return answers


class Default(SamplingMethod):
    """Independent generations of one answer each."""

    key = RecipePart.Method.DEFAULT.value

    def calls(self, count: int) -> list[int]:
        return [1] * count

    def parse(self, output: str, *, count: int) -> list[str]:
        answers = [clean_answer(output)]
        check_answers(answers, count=count)
        return answers


METHODS: dict[str, SamplingMethod] = {method.key: method for method in (NegativelyCorrelated(), Default())}
