"""Which candidate a synthetic annotator prefers. A policy sees what a person sees, never where a candidate came from."""

import random
from collections.abc import Callable, Sequence

from apps.desk.simulation.pages import Card

Policy = Callable[[Sequence[Card], random.Random], Card]


def _primacy(cards: Sequence[Card], rng: random.Random) -> Card:
    """The first card twice as likely as any other: the habit that a bias report should find."""
    return rng.choices(cards, weights=[2, *[1] * (len(cards) - 1)])[0]


POLICIES: dict[str, Policy] = {
    "random": lambda cards, rng: rng.choice(cards),
    "slot_a": lambda cards, rng: cards[0],
    "last": lambda cards, rng: cards[-1],
    "primacy": _primacy,
    "longest": lambda cards, rng: max(cards, key=lambda card: len(card.text)),
    "shortest": lambda cards, rng: min(cards, key=lambda card: len(card.text)),
}
