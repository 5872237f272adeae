"""Shares become whole people: exactly the total, each within one person of its share."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.quotas.population import rounded_targets

SHARES = st.lists(st.decimals(min_value=0, max_value=1, places=6), min_size=1, max_size=60).filter(lambda shares: sum(shares) > 0)


@given(shares=SHARES, total=st.integers(min_value=0, max_value=100_000))
def test_targets_sum_to_the_total_and_stay_within_one_person_of_their_share(shares, total):
    targets = rounded_targets(shares, total)
    assert sum(targets) == total
    whole = sum(Fraction(share) for share in shares)
    for share, target in zip(shares, targets, strict=True):
        assert abs(target - Fraction(share) * total / whole) < 1


@given(shares=SHARES, total=st.integers(min_value=0, max_value=1000))
def test_a_larger_share_never_gets_fewer_people(shares, total):
    pairs = sorted(zip(shares, rounded_targets(shares, total), strict=True))
    for (share, target), (next_share, next_target) in pairwise(pairs):
        assert share == next_share or target <= next_target


def test_ties_go_to_the_earlier_line():
    assert rounded_targets([Decimal("0.25")] * 4, 6) == [2, 2, 1, 1]


def test_sabotage_rounding_each_share_by_itself_misses_the_total():
    shares = [Decimal("0.25")] * 4
    assert sum(round(share * 6) for share in shares) != 6


def test_nothing_cannot_be_shared_out():
    with pytest.raises(ValueError, match="nothing"):
        rounded_targets([Decimal(0)], 5)
