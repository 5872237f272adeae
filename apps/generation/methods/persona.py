from apps.generation.methods.base import OnePerVariant
from apps.generation.models import RecipePart


class Persona(OnePerVariant):
    """One answer for the instruction of each variant, all from the part's model unless a variant names its own."""

    key = RecipePart.Method.PERSONA.value
