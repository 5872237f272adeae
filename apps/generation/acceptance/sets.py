"""Judging a set as a whole: near duplicates, lengths that give a text away, diversity."""

from itertools import combinations

from apps.core.text import count_words, fingerprint
from apps.generation.acceptance.findings import Finding, SetReport
from apps.generation.models import GenerationPolicy
from apps.generation.similarity import diversity, similarity_matrix


def examine_set(texts: list[str], *, language: str, policy: GenerationPolicy) -> SetReport:
    """Findings `duplicate`, `near_duplicate`, `length_ratio` and `diversity` of a complete set, with its similarity matrix.

    Figures: pairs of equal texts; the highest pairwise similarity; words of the longest by words of the shortest; and
    1 − mean pairwise similarity, which refuses below `policy.diversity_floor`.
    """
    measure, similarity = similarity_matrix(texts, language=language)
    pairs = list(combinations(range(len(texts)), 2))
    prints = [fingerprint(text) for text in texts]
    same = [(i, j) for i, j in pairs if prints[i] == prints[j]]
    limit = float(policy.near_duplicate_similarity)
    near = [(i, j) for i, j in pairs if similarity[i][j] >= limit]
    highest = max((similarity[i][j] for i, j in pairs), default=0.0)
    words = [count_words(text) for text in texts]
    ratio = max(words, default=0) / max(1, min(words, default=0))
    longest = float(policy.max_length_ratio)
    spread, floor = diversity(similarity), float(policy.diversity_floor)
    return SetReport(
        findings=[
            _finding("duplicate", float(len(same)), not same, f"Answers {_names(same)} are the same text."),
            _finding(
                "near_duplicate", highest, not near, f"Answers {_names(near)} are nearly the same; {limit:g} is the limit ({measure})."
            ),
            _finding("length_ratio", round(ratio, 3), ratio <= longest, f"The answers have {words} words; {longest:g} times is the limit."),
            _finding("diversity", spread, spread >= floor, f"The study's diversity floor is {floor:g} ({measure})."),
        ],
        measure=measure,
        similarity=similarity,
        diversity=spread,
    )


def _finding(name: str, figure: float, passed: bool, problem: str) -> Finding:
    return Finding(name, passed, figure, "" if passed else problem[:300], None, refuses=not passed)


def _names(pairs: list[tuple[int, int]]) -> str:
    """Pairs of slots counted from 1, as in “1 and 3”."""
    return "; ".join(f"{i + 1} and {j + 1}" for i, j in pairs[:6])
