"""The statistics give the figures that their formulas give by hand, and stay in their bounds on any input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.generation.measures.agreement import agreement, correlation
from apps.generation.measures.coverage import POLES, Scores, reaches, wilson_interval
from apps.generation.measures.diversity import distinct_n, length_spread, quartiles


def test_distinct_n_counts_different_ngrams_over_all_of_them():
    assert distinct_n(["a b a", "b c"], 1) == pytest.approx(3 / 5)
    # (a b), (b a) and (b c): n-grams do not cross texts.
    assert distinct_n(["a b a", "b c"], 2) == 1.0
    assert distinct_n(["Same words.", "same WORDS!"], 2) == 0.5
    assert distinct_n(["किताब पढ़ो", "किताब लिखो"], 1) == pytest.approx(3 / 4)
    assert distinct_n(["one"], 2) is None
    assert distinct_n([], 1) is None


def test_length_spread_gives_deviation_and_ratio_in_words():
    assert length_spread(["a b c d", "a b"]) == (pytest.approx(1.41421, abs=1e-4), 2.0)
    assert length_spread(["a b"]) == (0.0, 1.0)
    assert length_spread(["a b", ""]) == (pytest.approx(1.41421, abs=1e-4), 2.0)


def test_quartiles_of_one_and_of_many():
    assert quartiles([0.5]) == (0.5,) * 5
    assert quartiles([5, 1, 3, 2, 4]) == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Computed with the closed form by hand; 0 of 10 and 10 of 10 mirror each other.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 100, 0.0931, 0.2328), (60, 100, 0.5020, 0.6906), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_matches_known_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_within_0_and_1(case):
    successes, trials = case
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1


def test_a_pole_is_reached_at_its_threshold_and_not_before():
    traditional, secular, survival, expression = POLES
    at, before = Scores(0.35, 0.65), Scores(0.36, 0.64)
    assert [reaches([at], pole) for pole in POLES] == [True, False, False, True]
    assert not any(reaches([before], pole) for pole in POLES)
    assert reaches([before, Scores(0.9, 0.1)], secular)
    assert reaches([before, Scores(0.9, 0.1)], survival)
    assert not reaches([], traditional)
    assert not reaches([], expression)


def test_agreement_gives_error_share_and_correlation():
    found = agreement("traditional_secular", [0.1, 0.5, 0.9], [0.1, 0.7, 0.5])
    assert found.count == 3
    assert found.mean_absolute_error == pytest.approx(0.2)
    assert found.share_close == pytest.approx(2 / 3)
    assert found.correlation == pytest.approx(0.6547, abs=1e-4)
    with pytest.raises(ValueError, match="at least one"):
        agreement("traditional_secular", [], [])


def test_correlation_is_undefined_where_a_side_does_not_vary():
    assert correlation([0.5, 0.5, 0.5], [0.1, 0.2, 0.3]) is None
    assert correlation([0.5], [0.5]) is None
    assert correlation([0, 1], [1, 0]) == pytest.approx(-1)
