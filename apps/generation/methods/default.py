from apps.generation.methods.base import Call, OneByOne
from apps.generation.models import RecipePart


class Default(OneByOne):
    """What the model says when nothing asks it to differ: the slot that the others are compared with."""

    key = RecipePart.Method.DEFAULT.value

    def calls(self, part: RecipePart) -> list[Call]:
        return [Call(1, part.model_spec, part.template, float(part.temperature))] * part.count
