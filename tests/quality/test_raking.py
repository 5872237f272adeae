"""Weights that bring several margins to their shares at once."""

import math
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.quality.raking import Margin, effective_size, rake


def table(**cells: int) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """People in the cells of a 2 × 2 table: `wo=10` stands for ten old women."""
    people, gender, age = [], {}, {}
    for cell, count in cells.items():
        for number in range(count):
            name = f"{cell}{number}"
            people.append(name)
            gender[name], age[name] = cell[0], cell[1]
    return people, gender, age


def share(weights, strata, stratum):
    return sum(weights[name] for name in strata if strata[name] == stratum) / sum(weights[name] for name in strata)


def test_one_margin_is_the_ratio_of_target_to_sample():
    people, gender, _ = table(wo=30, mo=10)
    weights = rake(people, [Margin({"w": 0.5, "m": 0.5}, gender)])
    assert weights.by_person["wo0"] == pytest.approx(2 / 3)
    assert weights.by_person["mo0"] == pytest.approx(2)
    # n_eff = 40² / (30 · 4/9 + 10 · 4) = 1600 / (160/3) = 30
    assert weights.effective_size == pytest.approx(30)
    assert weights.design_effect == pytest.approx(4 / 3)


def test_a_two_by_two_table_is_the_one_solved_by_hand():
    """Cells 40 10 / 20 30, both margins to one half. Raking keeps the odds ratio: 40 · 30 / (10 · 20) = 6, so that a cell x of
    100 people with x² / (50 − x)² = 6 is x = 50 √6 / (1 + √6)."""
    people, gender, age = table(wo=40, wy=10, mo=20, my=30)
    weights = rake(people, [Margin({"w": 0.5, "m": 0.5}, gender), Margin({"o": 0.5, "y": 0.5}, age)])
    x = 50 * math.sqrt(6) / (1 + math.sqrt(6))
    assert weights.converged
    expected = {"wo0": x / 40, "wy0": (50 - x) / 10, "mo0": (50 - x) / 20, "my0": x / 30}
    assert {name: weights.by_person[name] for name in expected} == pytest.approx(expected, abs=1e-4)


def test_a_balanced_sample_keeps_weights_of_one():
    people, gender, age = table(wo=5, wy=5, mo=5, my=5)
    weights = rake(people, [Margin({"w": 0.5, "m": 0.5}, gender), Margin({"o": 0.5, "y": 0.5}, age)])
    assert set(weights.by_person.values()) == {1.0}
    assert (weights.rounds, weights.effective_size, weights.design_effect) == (0, 20, 1)


def test_a_person_without_an_answer_keeps_the_weight_of_the_other_margins():
    people, gender, age = table(wo=30, mo=10, wy=30, my=10)
    del age["wo0"]
    weights = rake(people, [Margin({"w": 0.5, "m": 0.5}, gender), Margin({"o": 0.5, "y": 0.5}, age)])
    assert weights.converged
    assert weights.by_person["wo0"] == pytest.approx(2 / 3, abs=0.02)
    nobody_knows = rake(["x", *people], [Margin({"w": 0.5, "m": 0.5}, gender)])
    assert nobody_knows.by_person["x"] == pytest.approx(1)


def test_no_weight_is_above_the_limit_and_the_gap_is_told():
    people, gender, _ = table(wo=99, mo=1)
    weights = rake(people, [Margin({"w": 0.5, "m": 0.5}, gender)], max_weight=5)
    assert max(weights.by_person.values()) == pytest.approx(5)
    assert sum(weights.by_person.values()) == pytest.approx(100)
    assert not weights.converged
    assert weights.largest_gap == pytest.approx(0.45)


def test_a_stratum_without_people_leaves_its_share_to_the_others():
    people, gender, _ = table(wo=30, mo=10)
    weights = rake(people, [Margin({"w": 0.4, "m": 0.4, "x": 0.2}, gender)])
    assert weights.converged
    assert share(weights.by_person, gender, "w") == pytest.approx(0.5)


def test_margins_that_contradict_each_other_are_told():
    people, gender, age = table(wo=10, my=10)  # gender and age are one and the same here
    weights = rake(people, [Margin({"w": 0.5, "m": 0.5}, gender), Margin({"o": 0.8, "y": 0.2}, age)])
    assert not weights.converged


def test_nobody_has_no_weights():
    weights = rake([], [Margin({"w": 1.0}, {})])
    assert (dict(weights.by_person), weights.effective_size, weights.design_effect) == ({}, 0, 0)
    assert effective_size([]) == 0


shares = st.lists(st.floats(0.1, 1), min_size=2, max_size=3)


@settings(deadline=None)
@given(shares, shares, st.lists(st.integers(3, 12), min_size=9, max_size=9), st.randoms(use_true_random=False))
def test_margins_are_reached_whatever_the_order_of_people(first, second, counts, shuffler):
    rows = {f"r{place}": value / sum(first) for place, value in enumerate(first)}
    columns = {f"c{place}": value / sum(second) for place, value in enumerate(second)}
    row_of, column_of = {}, {}
    for row in rows:
        for column in columns:
            for number in range(counts[3 * int(row[1]) + int(column[1])]):
                row_of[f"{row}{column}{number}"], column_of[f"{row}{column}{number}"] = row, column
    margins = [Margin(rows, row_of), Margin(columns, column_of)]
    people = list(row_of)
    weights = rake(people, margins, max_weight=100)
    assert weights.converged
    for margin in margins:
        totals = defaultdict(float)
        for name, stratum in margin.strata.items():
            totals[stratum] += weights.by_person[name] / len(people)
        assert dict(totals) == pytest.approx(dict(margin.shares), abs=2e-6)
    shuffler.shuffle(people)
    assert rake(people, margins, max_weight=100).by_person == weights.by_person


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(1, 8))
def test_the_limit_and_the_mean_always_hold(seed, limit):
    generator = random.Random(seed)
    people = [f"p{number}" for number in range(generator.randint(1, 60))]
    margins = [
        Margin(
            {key: generator.random() for key in "abc"},
            {name: generator.choice("abc") for name in people if generator.random() < 0.8},
        )
        for _ in range(3)
    ]
    weights = rake(people, margins, max_weight=limit).by_person.values()
    assert sum(weights) == pytest.approx(len(people))
    assert min(weights) >= 0
    assert max(weights) <= limit * (1 + 1e-9)
    assert effective_size(weights) <= len(people) * (1 + 1e-9)
