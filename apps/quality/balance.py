"""The balance rule: the largest sample whose strata match a population table, and who is in it. Nothing here knows the database."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import ceil

from apps.quotas.population import rounded_targets

# The rule in words, as manifests and the codebook give it.
RULE = (
    "Candidates are people who came through a fieldwork link, have completed their participation, have not withdrawn and have a counted "
    "conversation; people over their quota are among them. In each set of locales they fall into the strata of the set's population "
    "table, into the first that fits; who fits none is not in the subset. n is the largest number for which, in every stratum, the "
    "largest-remainder rounding of n × share is at most the people there. That many are taken from each stratum, in ascending order of "
    "the SHA-256 of “seed/annotator_id”. A person's place in that order depends on nobody else: newcomers only slide in between, and a "
    "stratum that gets more people keeps those it had. in_balanced_subset: the annotator was taken. in_balanced_subset_10: moreover "
    "the conversation begins with a prompt of the study, and at least min_annotators people who were taken in the same set of "
    "locales have a counted conversation on this version of it."
)


def stratum_of(strata: Mapping[str, Mapping[str, Collection[str]]], answers: Mapping[str, Collection[str]]) -> str | None:
    """The first of `strata` (key → question → options) that `answers` (question → options and strata) fall in; None: in none.

    A stratum without questions can be told of nobody.
    """
    for key, questions in strata.items():
        if questions and all(not set(options).isdisjoint(answers.get(question, ())) for question, options in questions.items()):
            return key
    return None


def largest_sample(shares: Sequence[Decimal], available: Sequence[int]) -> list[int]:
    """People per stratum of the largest n whose largest-remainder rounding by `shares` needs no more than are `available`.

    All zero where even one person is too many. Raises `ValueError` where the shares sum to nothing.
    """
    whole = sum((Fraction(share) for share in shares), Fraction(0))
    if whole <= 0:
        raise ValueError("shares sum to nothing")
    # A stratum gets at least its whole people, so a larger n needs more than there are. Feasible sizes may have gaps below it,
    # since rounding by remainders can take a person away as n grows: hence one size after the other.
    most = min(ceil((people + 1) * whole / Fraction(share)) - 1 for share, people in zip(shares, available, strict=True) if share)
    for size in range(most, 0, -1):
        targets = rounded_targets(shares, size)
        if all(target <= people for target, people in zip(targets, available, strict=True)):
            return targets
    return [0] * len(shares)


def draw(names: Iterable[str], count: int, seed: int) -> list[str]:
    """The first `count` of `names` in the order of SHA-256 of “seed/name”.

    A name's place depends on nobody else: a larger draw holds the smaller one, and newcomers only slide in between.
    """
    return sorted(names, key=lambda name: (hashlib.sha256(f"{seed}/{name}".encode()).digest(), name))[:count]


def balanced_sample(strata: Mapping[str, str | None], shares: Mapping[str, Decimal], seed: int) -> dict[str, list[str]]:
    """Stratum → the people drawn from it. `strata` gives each person's stratum; those in none are never drawn."""
    people: dict[str, list[str]] = {key: [] for key in shares}
    for name, stratum in strata.items():
        if stratum is not None:
            people[stratum].append(name)
    counts = largest_sample(list(shares.values()), [len(names) for names in people.values()])
    return {key: draw(names, count, seed) for (key, names), count in zip(people.items(), counts, strict=True)}
