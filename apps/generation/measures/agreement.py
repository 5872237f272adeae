"""How well a judge's scores agree with labels that people gave."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Within this distance a judge cannot take one pole of a dimension for the other: they are 0.3 apart (see `coverage`).
CLOSE = 0.2


@dataclass(frozen=True)
class Agreement:
    """On one dimension, over `count` texts: mean absolute error, share within `CLOSE`, and Pearson's r (None where it is undefined)."""

    dimension: str
    count: int
    mean_absolute_error: float
    share_close: float
    correlation: float | None


def agreement(dimension: str, scores: Sequence[float], labels: Sequence[float]) -> Agreement:
    """Compare `scores` with `labels`, pair by pair. Raises `ValueError` without a pair."""
    errors = [abs(score - label) for score, label in zip(scores, labels, strict=True)]
    if not errors:
        raise ValueError("agreement needs at least one labelled text")
    close = sum(1 for error in errors if error <= CLOSE + 1e-9)
    return Agreement(dimension, len(errors), sum(errors) / len(errors), close / len(errors), correlation(scores, labels))


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's r; None for fewer than two pairs or where one side does not vary."""
    count = len(first)
    if count < 2:
        return None
    mean_first, mean_second = sum(first) / count, sum(second) / count
    square_first = sum((value - mean_first) ** 2 for value in first)
    square_second = sum((value - mean_second) ** 2 for value in second)
    # Rounding leaves a constant column with a trace of variance.
    if square_first < 1e-12 or square_second < 1e-12:
        return None
    together = sum((one - mean_first) * (other - mean_second) for one, other in zip(first, second, strict=True))
    return max(-1.0, min(1.0, together / math.sqrt(square_first * square_second)))
