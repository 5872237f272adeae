"""Raking: weights under which a sample has the shares of several population tables at once.

Iterative proportional fitting (W. E. Deming and F. F. Stephan, “On a least squares adjustment of a sampled frequency table when
the expected marginal totals are known”, Annals of Mathematical Statistics 11, 1940), with weights cut at a multiple of
their mean. The effective sample size is Kish's (Survey Sampling, 1965).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Pattern = tuple[str | None, ...]

# The rule in words, as manifests and the codebook give it.
WEIGHT_RULE = (
    "All candidates of a set of locales are weighted, by raking (Deming and Stephan 1940) to its population table and its further "
    "tables. A person whose stratum in a table is not known keeps the weight that the other tables give. Weights have the mean 1 in "
    "each set; none is above max_weight."
)

TOLERANCE = 1e-6  # of a share
MAX_ROUNDS = 500


@dataclass(frozen=True)
class Margin:
    """Shares of the strata of one table, and each person's stratum. Who is not in `strata` gave no usable answer."""

    shares: Mapping[str, float]
    strata: Mapping[str, str]


@dataclass(frozen=True)
class Weights:
    """Weights by person, mean 1. `largest_gap` is what is left between a weighted share and its target, as a share."""

    by_person: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 0
    converged: bool = True
    largest_gap: float = 0.0

    @property
    def effective_size(self) -> float:
        return effective_size(self.by_person.values())

    @property
    def design_effect(self) -> float:
        """Sample size over effective sample size; 1 where all weights are equal, 0 where there is nobody."""
        return len(self.by_person) / self.effective_size if self.by_person else 0.0


def effective_size(weights: Iterable[float]) -> float:
    """Kish's (Σw)² / Σw²; 0 for nobody."""
    values = list(weights)
    squares = sum(weight * weight for weight in values)
    return sum(values) ** 2 / squares if squares else 0.0


def rake(people: Collection[str], margins: Sequence[Margin], *, max_weight: float = 5.0) -> Weights:
    """Weights of `people`, none above `max_weight` times the mean.

    In each round every margin in turn is brought to its shares among those whose stratum is known; a person without one keeps
    the weight that the other margins gave. A stratum without people takes no part: its share goes to the others in
    proportion. `converged` is false where the cut, or margins that contradict each other, keep a share from its target.
    """
    patterns = {name: tuple(margin.strata.get(name) for margin in margins) for name in people}
    # People alike in every margin have one weight. In a fixed order, so that no sum depends on the order of `people`.
    counts = dict(sorted(Counter(patterns.values()).items(), key=lambda item: [stratum or "" for stratum in item[0]]))
    targets = [_reachable(margin.shares, {pattern[place] for pattern in counts}) for place, margin in enumerate(margins)]
    weights = dict.fromkeys(counts, 1.0)
    rounds, gap = 0, _largest_gap(weights, counts, targets)
    while gap > TOLERANCE and rounds < MAX_ROUNDS:
        before = weights
        for place, target in enumerate(targets):
            weights = _fitted(weights, counts, place, target)
        weights = _cut(weights, counts, max_weight)
        rounds, gap = rounds + 1, _largest_gap(weights, counts, targets)
        if max(abs(weights[pattern] - before[pattern]) for pattern in weights) < TOLERANCE / 100:
            break  # more rounds would change nothing
    return Weights({name: weights[pattern] for name, pattern in patterns.items()}, rounds, gap <= TOLERANCE, gap)


def _reachable(shares: Mapping[str, float], present: Collection[str | None]) -> dict[str, float]:
    """The shares of the strata that have people, in proportion; empty where they sum to nothing."""
    found = {key: share for key, share in shares.items() if key in present}
    whole = sum(found.values())
    return {key: share / whole for key, share in found.items()} if whole else {}


def _totals(weights: Mapping[Pattern, float], counts: Mapping[Pattern, int], place: int, target: Mapping[str, float]) -> dict[str, float]:
    totals = dict.fromkeys(target, 0.0)
    for pattern, weight in weights.items():
        stratum = pattern[place]
        if stratum in totals:
            totals[stratum] += weight * counts[pattern]
    return totals


def _fitted(
    weights: Mapping[Pattern, float], counts: Mapping[Pattern, int], place: int, target: Mapping[str, float]
) -> dict[Pattern, float]:
    totals = _totals(weights, counts, place, target)
    known = sum(totals.values())
    reached = sum(share for key, share in target.items() if totals[key])
    factors = {key: share / reached * known / totals[key] for key, share in target.items() if totals[key] and reached}
    return {pattern: weight * factors.get(pattern[place] or "", 1.0) for pattern, weight in weights.items()}


def _cut(weights: Mapping[Pattern, float], counts: Mapping[Pattern, int], max_weight: float) -> dict[Pattern, float]:
    """Weights above the mean (which is 1) times `max_weight` come down to it; the others grow so that the mean stays."""
    result, cut = dict(weights), set[Pattern]()
    while above := {pattern for pattern, weight in result.items() if weight > max_weight * (1 + 1e-12)} - cut:
        cut |= above
        rest = sum(result[pattern] * counts[pattern] for pattern in result if pattern not in cut)
        left = sum(counts.values()) - max_weight * sum(counts[pattern] for pattern in cut)
        growth = left / rest if rest else 1.0
        result = {pattern: max_weight if pattern in cut else weight * growth for pattern, weight in result.items()}
    return result


def _largest_gap(weights: Mapping[Pattern, float], counts: Mapping[Pattern, int], targets: Sequence[Mapping[str, float]]) -> float:
    gap = 0.0
    for place, target in enumerate(targets):
        totals = _totals(weights, counts, place, target)
        known = sum(totals.values())
        if known:
            gap = max(gap, *(abs(totals[key] / known - share) for key, share in target.items()))
    return gap
