from apps.generation.methods.base import OnePerVariant
from apps.generation.models import RecipePart


class MultiModel(OnePerVariant):
    """One answer from the model of each variant, all told the same unless a variant has an instruction of its own."""

    key = RecipePart.Method.MULTI_MODEL.value
