"""What every sampling method shares: the calls it makes, the messages it sends, and reading what comes back."""

import json
import re
from dataclasses import dataclass
from typing import Any

from apps.core.errors import DomainError
from apps.generation.acceptance import AnswerRefused, check_answers, clean_answer
from apps.generation.models import InstructionTemplate, ModelSpec, RecipePart

Messages = list[dict[str, str]]

# Characters that the instruction and the conversation may have together: about 8,000 tokens, half as many in Devanagari
# script. It fits the context of every model the documentation names, and few conversations ever reach it.
MAX_CONTEXT_CHARACTERS = 24_000

_MARKER = re.compile(r"^[ \t>*_#]*\[\[\s*answer(?:\s*\d+)?\s*\]\][*_:]*[ \t]*", re.IGNORECASE | re.MULTILINE)
_FENCE = re.compile(r"\A```[a-z]*\n(.*)\n```\Z", re.IGNORECASE | re.DOTALL)


class InstructionMissing(DomainError):
    """The instruction template of a call has no text in the set's language."""

    code = "instruction_missing"


class RecipeIncomplete(DomainError):
    """A part that goes by variants does not have exactly one for each answer."""

    code = "recipe_incomplete"


@dataclass(frozen=True)
class Call:
    """One request to an endpoint: `count` answers wanted from `model_spec`, told by `template`, at `temperature`."""

    count: int
    model_spec: ModelSpec
    template: InstructionTemplate
    temperature: float


class SamplingMethod:
    """`key` is stored with the part. `calls` says what is asked of whom; `parse` reads one call's output."""

    key: str

    def calls(self, part: RecipePart) -> list[Call]:
        """The calls for `part`, in order; their counts add up to `part.count`. Slots are numbered in this order."""
        raise NotImplementedError

    def messages(self, call: Call, *, language: str, conversation: Messages) -> Messages:
        """The instruction in the set's language, then the conversation. Raises `InstructionMissing`."""
        try:
            instruction = call.template.text_in(language)
        except LookupError as error:
            raise InstructionMissing(str(error)) from error
        instruction = instruction.replace("{count}", str(call.count))
        if self.response_format(call) is not None:
            # The same in every language; says the form to models that see the schema only as a constraint on their output.
            instruction += "\n\nJSON: " + json.dumps({"answers": ["…"] * call.count}, ensure_ascii=False)
        return [{"role": "system", "content": instruction}, *conversation]

    def response_format(self, call: Call) -> dict[str, Any] | None:
        """What `complete` passes to the endpoint; None: plain text, read by the method's own rule."""
        return None

    def parse(self, output: str, *, call: Call) -> list[str]:
        """The cleaned answers in `output`, `call.count` of them. Raises `AnswerRefused`."""
        raise NotImplementedError


class OneByOne(SamplingMethod):
    """Base of the methods that ask for one answer at a time: the whole output is the answer, so it needs no format."""

    def parse(self, output: str, *, call: Call) -> list[str]:
        answers = [clean_answer(output)]
        check_answers(answers, count=call.count)
        return answers


class OnePerVariant(OneByOne):
    """Base of the methods that ask once for each variant of the part; what a variant leaves open is the part's own."""

    def calls(self, part: RecipePart) -> list[Call]:
        """Raises `RecipeIncomplete`."""
        variants = list(part.variants.all())
        if len(variants) != part.count:
            raise RecipeIncomplete(f"{part} of recipe {part.recipe} has {len(variants)} variants instead of {part.count}.")
        return [
            Call(1, variant.model_spec or part.model_spec, variant.template or part.template, float(part.temperature))
            for variant in variants
        ]


def answers_format(count: int) -> dict[str, Any]:
    """The response format for an object whose `answers` are exactly `count` strings, as OpenAI-compatible endpoints take it."""
    answers = {"type": "array", "items": {"type": "string"}, "minItems": count, "maxItems": count}
    schema = {"type": "object", "properties": {"answers": answers}, "required": ["answers"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answers", "strict": True, "schema": schema}}


def parse_json(output: str, *, count: int) -> list[str]:
    """The answers of a structured output, cleaned and checked. Raises `AnswerRefused` (malformed_json, or as `check_answers`)."""
    fenced = _FENCE.match(output.strip())
    try:
        answers = json.loads(fenced[1] if fenced else output)["answers"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise AnswerRefused("malformed_json", "The model gave no JSON object with “answers”.") from error
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise AnswerRefused("malformed_json", "“answers” is not a list of texts.")
    # An instruction written for the marker format may have made the model open each text with a marker.
    cleaned = [clean_answer(_MARKER.sub("", answer.strip(), count=1) if _MARKER.match(answer.strip()) else answer) for answer in answers]
    check_answers(cleaned, count=count)
    return cleaned


def parse_marked(output: str, *, count: int) -> list[str]:
    """The answers that marker lines open, cleaned and checked. Raises `AnswerRefused`."""
    # What stands before the first marker is the model's talk about the task, not an answer.
    answers = [clean_answer(piece) for piece in _MARKER.split(output)[1:]]
    check_answers(answers, count=count)
    return answers


def fit_context(messages: Messages, *, max_characters: int = MAX_CONTEXT_CHARACTERS) -> tuple[Messages, int]:
    """`messages` cut to `max_characters` in all, and how many exchanges were dropped.

    The instruction (a system message at the start) and the last message always stay. Exchanges, a message of the
    person with the answer to it, are dropped from the oldest on until the rest fits, so that the conversation
    always opens with the person's words. What stays is never shortened: the two that stay whatever happens may
    together be longer than `max_characters`.
    """
    opening = 1 if messages and messages[0]["role"] == "system" else 0
    head, history, last = messages[:opening], messages[opening:-1], messages[max(opening, len(messages) - 1) :]
    exchanges: list[Messages] = []
    for message in history:
        if message["role"] == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    room = max_characters - _characters([*head, *last])
    dropped = 0
    while exchanges and _characters([message for exchange in exchanges for message in exchange]) > room:
        del exchanges[0]
        dropped += 1
    return [*head, *(message for exchange in exchanges for message in exchange), *last], dropped


def _characters(messages: Messages) -> int:
    return sum(len(message["content"]) for message in messages)
