"""How different the answers of one set are in wording and length."""

import re
import statistics
from collections.abc import Sequence

from apps.core.text import count_words

_WORD = re.compile(r"[^\W_][\w\u0900-\u097f\u200c\u200d'’-]*")


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams of words by all n-grams of words in `texts`, 0 to 1; None where no text has n words.

    Li, Galley, Brockett, Gao & Dolan (2016), “A Diversity-Promoting Objective Function for Neural Conversation Models”, NAACL,
    section 5.1. Words are compared without case and punctuation; n-grams do not cross from one text to the next. Longer texts
    repeat more, so compare recipes whose answers are of like length.
    """
    grams: list[tuple[str, ...]] = []
    for text in texts:
        words = _WORD.findall(text.casefold())
        grams += [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def length_spread(texts: Sequence[str]) -> tuple[float, float]:
    """Sample standard deviation of the words per text (0 for fewer than two), and words of the longest by those of the shortest."""
    words = [count_words(text) for text in texts]
    deviation = statistics.stdev(words) if len(words) > 1 else 0.0
    return deviation, max(words, default=0) / max(1, min(words, default=0))


def quartiles(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Least, lower quartile, median, upper quartile and greatest of `values` (at least one), quartiles by linear interpolation."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return (ordered[0],) * 5
    lower, median, upper = statistics.quantiles(ordered, n=4, method="inclusive")
    return ordered[0], lower, median, upper, ordered[-1]
