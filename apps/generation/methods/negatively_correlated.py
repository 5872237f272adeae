from typing import Any

from apps.generation.methods.base import Call, SamplingMethod, answers_format, parse_json, parse_marked
from apps.generation.models import RecipePart


class NegativelyCorrelated(SamplingMethod):
    """One generation that writes all answers, so that each can differ from the others.

    JSON by a schema where the model spec says that the endpoint supports it; otherwise a marker line opens each answer.
    """

    key = RecipePart.Method.NEGATIVELY_CORRELATED.value

    def calls(self, part: RecipePart) -> list[Call]:
        return [Call(part.count, part.model_spec, part.template, float(part.temperature))]

    def response_format(self, call: Call) -> dict[str, Any] | None:
        return answers_format(call.count) if call.model_spec.structured_output else None

    def parse(self, output: str, *, call: Call) -> list[str]:
        if call.model_spec.structured_output:
            return parse_json(output, count=call.count)
        return parse_marked(output, count=call.count)
