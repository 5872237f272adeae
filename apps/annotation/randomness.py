"""Seeds derived from stored seeds, so that every random order can be drawn again."""

import hashlib
import random


def derive_seed(*parts: object) -> int:
    """A 62-bit seed from SHA-256 of the parts; fits a signed 64-bit column."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def shuffled(items: list[int], seed: int) -> list[int]:
    """`items` in the order that `seed` draws (Fisher–Yates of Python's Mersenne Twister)."""
    order = list(items)
    random.Random(seed).shuffle(order)  # noqa: S311  (a stored, repeatable draw, not a secret)
    return order
