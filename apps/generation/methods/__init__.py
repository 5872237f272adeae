"""Sampling methods: how the candidates of a recipe part are asked for and read. A new method is one file here and one test.

`RecipePart.Method` names every method; this package finds the class for each in the module of the same name.
"""

from importlib import import_module
from pkgutil import iter_modules

from apps.generation.methods.base import (
    MAX_CONTEXT_CHARACTERS,
    Call,
    InstructionMissing,
    Messages,
    RecipeIncomplete,
    SamplingMethod,
    fit_context,
)

__all__ = [
    "MAX_CONTEXT_CHARACTERS",
    "METHODS",
    "Call",
    "InstructionMissing",
    "Messages",
    "RecipeIncomplete",
    "SamplingMethod",
    "fit_context",
]


def _found() -> dict[str, SamplingMethod]:
    """An instance of every sampling method in this package, by key."""
    methods: dict[str, SamplingMethod] = {}
    for module in iter_modules(__path__, prefix=f"{__name__}."):
        for item in vars(import_module(module.name)).values():
            if isinstance(item, type) and issubclass(item, SamplingMethod) and item.__module__ == module.name and hasattr(item, "key"):
                methods[item.key] = item()
    return methods


METHODS: dict[str, SamplingMethod] = _found()
