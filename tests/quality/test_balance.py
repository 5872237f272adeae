"""The pure rule: who is drawn, and that no larger sample would fit."""

from collections import Counter
from decimal import Decimal
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.quality.balance import balanced_sample, draw, largest_sample, stratum_of
from apps.quotas.population import rounded_targets

STRATA = {
    "young women": {"age": ["18-34"], "gender": ["female"]},
    "others": {"age": ["18-34", "35+"], "gender": ["female", "male"]},
    "untold": {},
}

tables = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any)
seeds = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("answers", "stratum"),
    [
        ({"age": {"18-34", "18_34"}, "gender": {"female"}}, "young women"),
        ({"age": {"35+"}, "gender": {"female"}}, "others"),
        ({"age": {"35+"}}, None),
        ({"age": {"35+"}, "gender": {"prefer_not_to_say"}}, None),
        ({}, None),
    ],
)
def test_a_person_falls_in_the_first_stratum_that_fits_all_questions(answers, stratum):
    assert stratum_of(STRATA, answers) == stratum


@pytest.mark.parametrize(
    ("shares", "available", "sample"),
    [
        (["0.5", "0.5"], [7, 3], [4, 3]),  # 7 → 3.5 and 3.5, the tie to the earlier line
        (["0.5", "0.5"], [7, 0], [1, 0]),
        (["0.6", "0.4"], [60, 10], [16, 10]),  # 26 → 15.6, 10.4
        (["0.9", "0.1"], [0, 100], [0, 0]),
        (["0", "1"], [5, 4], [0, 4]),
    ],
)
def test_the_largest_sample_is_the_one_worked_out_by_hand(shares, available, sample):
    assert largest_sample([Decimal(share) for share in shares], available) == sample


def test_shares_that_sum_to_nothing_are_refused():
    with pytest.raises(ValueError, match="nothing"):
        largest_sample([Decimal(0)], [3])


@given(tables, st.data())
def test_no_larger_sample_fits_and_cells_are_the_rounded_shares(weights, data):
    whole = sum(weights)
    shares = [Decimal(weight) / whole for weight in weights]
    available = data.draw(st.lists(st.integers(0, 40), min_size=len(shares), max_size=len(shares)))
    sample = largest_sample(shares, available)
    assert all(taken <= people for taken, people in zip(sample, available, strict=True))
    assert sample == rounded_targets(shares, sum(sample))
    # Beyond this size the whole people of some stratum alone are too many.
    beyond = min(ceil((people + 1) / share) for share, people in zip(shares, available, strict=True) if share)
    for size in range(sum(sample) + 1, beyond + 2):
        assert any(target > people for target, people in zip(rounded_targets(shares, size), available, strict=True))


@given(st.sets(st.text(max_size=6), max_size=30), seeds, st.integers(0, 30), st.integers(0, 30))
def test_a_larger_draw_holds_the_smaller_one_whatever_the_order(names, seed, first, second):
    small, large = sorted([first, second])
    assert draw(names, large, seed)[:small] == draw(sorted(names, reverse=True), small, seed)


@given(st.sets(st.text(max_size=6), max_size=20), st.text(max_size=6), seeds, st.integers(0, 20))
def test_a_newcomer_displaces_one_person_at_most(names, newcomer, seed, count):
    before, after = set(draw(names, count, seed)), set(draw(names | {newcomer}, count, seed))
    assert after - before <= {newcomer}
    assert len(before - after) <= 1


@given(st.dictionaries(st.text(max_size=5), st.sampled_from(["a", "b", None]), max_size=40), seeds, st.randoms(use_true_random=False))
def test_the_sample_depends_on_people_and_seed_only(strata, seed, random):
    shares = {"a": Decimal("0.7"), "b": Decimal("0.3")}
    shuffled = list(strata.items())
    random.shuffle(shuffled)
    sample = balanced_sample(strata, shares, seed)
    assert sample == balanced_sample(dict(shuffled), shares, seed)
    available = Counter(strata.values())
    assert [len(names) for names in sample.values()] == largest_sample(list(shares.values()), [available["a"], available["b"]])
    assert all(strata[name] == key for key, names in sample.items() for name in names)


def test_another_seed_draws_other_people():
    names = [f"a_{number}" for number in range(50)]
    assert draw(names, 10, 1) != draw(names, 10, 2)
