from apps.generation.methods.base import Call, OneByOne
from apps.generation.models import RecipePart


class Temperature(OneByOne):
    """Independent draws of one answer each from one model, apart from each other only by the temperature and the seed."""

    key = RecipePart.Method.TEMPERATURE.value

    def calls(self, part: RecipePart) -> list[Call]:
        return [Call(1, part.model_spec, part.template, float(part.temperature))] * part.count
