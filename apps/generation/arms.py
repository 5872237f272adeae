"""Experiment arms: which of a study's current recipes makes the candidates of a prompt or of a person's own message."""

import hashlib
import random
from collections.abc import Iterable

from apps.content.models import Prompt
from apps.generation.models import Recipe
from apps.studies.models import Study


def arms_of_study(study: Study) -> dict[str, Recipe]:
    """The recipe of each prompt key of `study`, retired prompts included; empty for a study without a current recipe."""
    keys = Prompt.objects.filter(study=study).order_by("pk").values_list("key", flat=True)
    return deal_arms(keys, current_recipes(study), study.seed)


def current_recipes(study: Study) -> list[Recipe]:
    """The arms of `study`, by key, with their parts."""
    return list(study.recipes.filter(is_current=True).select_related("study").prefetch_related("parts").order_by("key"))


def deal_arms(keys: Iterable[str], recipes: list[Recipe], seed: int) -> dict[str, Recipe]:
    """Deal the prompts `keys`, in the order in which they joined the study, to `recipes`: permuted blocks drawn from `seed`.

    Each block of as many prompts as there are recipes holds every recipe once, in an order of its own. So arms differ by one
    prompt at most, a prompt keeps its arm when others join behind it, and versions of a prompt share the arm of their key.
    """
    if not recipes:
        return {}
    ordered = sorted(recipes, key=lambda recipe: recipe.key)
    arms: dict[str, Recipe] = {}
    for place, key in enumerate(dict.fromkeys(keys)):
        block, column = divmod(place, len(ordered))
        draw = random.Random(_number(seed, "arms", block))  # noqa: S311  (a stored, repeatable draw)
        arms[key] = draw.sample(ordered, len(ordered))[column]
    return arms


def draw_arm(recipes: list[Recipe], seed: int) -> Recipe:
    """One of `recipes` (at least one), each as likely, as `seed` draws it."""
    ordered = sorted(recipes, key=lambda recipe: recipe.key)
    return ordered[_number(seed, "arm") % len(ordered)]


def _number(*parts: object) -> int:
    """A whole number below 2**64 that the parts determine."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big")
