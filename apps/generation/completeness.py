"""What a recipe needs to be whole, wherever it is written: in a study file or in the admin."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

# Methods that go by variants → what each variant has to name.
VARIED = {"multi_model": "model", "persona": "template"}
NEGATIVELY_CORRELATED = "negatively_correlated"


@dataclass(frozen=True)
class PlannedPart:
    """A part as somebody wrote it. `count` is None where that is no number; `variants`: for each, which of model and template it names."""

    method: str
    count: int | None
    variants: Sequence[Collection[str]] = field(default_factory=tuple)


@dataclass(frozen=True)
class Gap:
    """What is missing: in one part (its index), in one variant of it, or in the recipe as a whole (None)."""

    message: str
    part: int | None = None
    variant: int | None = None


def recipe_gaps(parts: Sequence[PlannedPart], *, shown: Collection[int]) -> Iterator[Gap]:
    """Everything that keeps a recipe from making sets of the sizes that the turns of its study show (`shown`)."""
    counts = [part.count for part in parts]
    made = sum(count or 0 for count in counts)
    if all(counts):
        for k in sorted(set(shown) - {made}):
            yield Gap(f"expected {k} candidates, as many as the turns show (k), found {made}")
    for place, part in enumerate(parts):
        yield from part_gaps(part, place)


def part_gaps(part: PlannedPart, place: int = 0) -> Iterator[Gap]:
    """What a part lacks by itself; `place` is its index in the recipe."""
    differs = VARIED.get(part.method)
    if differs is None:
        if part.variants:
            yield Gap(f"expected only where `method` is one of {', '.join(VARIED)}", place)
        return
    found = len(part.variants)
    if part.count and found != part.count:
        yield Gap(f"expected {part.count} variant{'' if part.count == 1 else 's'}, as many as `count`, found {found}", place)
    for number, named in enumerate(part.variants):
        if differs not in named:
            yield Gap(f"expected `{differs}`, which is what a {part.method} part varies", place, number)


def missing_markers(method: str, instruction: str, *, structured_output: bool) -> list[str]:
    """What the instruction of a part by `method` has to hold and does not."""
    if method != NEGATIVELY_CORRELATED:
        return []
    markers = ["{count}"] if structured_output else ["{count}", "[[answer]]"]
    return [marker for marker in markers if marker not in instruction]
