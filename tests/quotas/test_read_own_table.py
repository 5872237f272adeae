"""A researcher's own table from CSV, with clear errors."""

from decimal import Decimal

import pytest

from apps.quotas.population import TableRefused, overlaps, read_own_table

GOOD = "stratum,share,gender,birth_year\nyoung women,0.25,female,18_34|35_45\neverybody else,0.75,,46_54|55_plus\n"


def read(text):
    return read_own_table(text, key="mine", country="US")


def problems(text):
    with pytest.raises(TableRefused) as refused:
        read(text)
    return refused.value.extra["problems"]


def test_a_table_of_proportions_is_read_with_its_questions():
    table = read(GOOD)
    assert [(stratum.key, stratum.share) for stratum in table.strata] == [
        ("young women", Decimal("0.25")),
        ("everybody else", Decimal("0.75")),
    ]
    assert table.strata[0].strata == {"gender": ["female"], "birth_year": ["18_34", "35_45"]}
    assert table.strata[1].strata == {"birth_year": ["46_54", "55_plus"]}
    assert table.targets(10) == [3, 7]  # 2.5 and 7.5: the tie goes to the earlier line


@pytest.mark.parametrize(
    ("figure", "first", "second"),
    [("share", "33.3", "66.7"), ("share", "0.3334", "0.6671"), ("count", "333", "667"), ("share", "33.35", "66.7")],
)
def test_percentages_counts_and_small_slips_become_shares_that_sum_to_one(figure, first, second):
    table = read(f"stratum,{figure},gender\na,{first},female\nb,{second},male\n")
    assert sum(stratum.share for stratum in table.strata) == 1
    assert abs(table.strata[0].share - Decimal(1) / 3) < Decimal("0.001")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stratum,share,gender\na,0.5,female\nb,0.4,male\n", ["share: expected a sum of 1"]),
        ("stratum,share,gender\na,x,female\nb,-1,male\n", ["line 2, share", "line 3, share"]),
        ("stratum,share,gender\na,nan,female\n", ["line 2, share"]),
        ("stratum,count,gender\na,1.5,female\n", ["line 2, count"]),
        ("stratum,count,gender\na,0,female\n", ["found 0 in all lines"]),
        ("stratum,share,gender\na,0.5,female\na,0.5,male\n", ["line 3, stratum: “a” stands on line 2 already"]),
        (
            "stratum,share,gender\na,0.4,woman\nb,0.6,woman|man\n",
            ["line 3: expected strata that share nobody; this one overlaps with line 2"],
        ),
        ("stratum,share,gender,age\na,0.4,woman,\nb,0.3,man,\nc,0.3,,old\n", ["line 4: expected strata that share nobody", "line 2"]),
        ("stratum,share,gender\na,1,\n", ["line 2: expected options of at least one question"]),
        ("stratum,share,gender\na,1\n", ["line 2: expected as many values"]),
        ("stratum,share,gender\na,1,female,more\n", ["line 2: expected as many values"]),
        ("stratum,share\na,1\n", ["line 1: expected a column per question"]),
        ("name,share,gender\na,1,female\n", ["line 1: expected a column `stratum`"]),
        ("stratum,share,count,gender\na,1,1,female\n", ["line 1: expected one column `share` or `count`"]),
        ("stratum,share,gender,gender\na,1,female,male\n", ["line 1: expected each column once"]),
        ("stratum,share,gender\n", ["expected 1 to 5000 lines"]),
        ("", ["line 1: expected a column `stratum`"]),
        ('stratum,share,gender\n"a,1,female\n', ["expected a CSV table"]),
    ],
)
def test_every_mistake_is_named_with_its_line(text, expected):
    found = problems(text)
    for message in expected:
        assert any(message in problem for problem in found), found


def test_strata_that_one_question_tells_apart_do_not_overlap():
    read("stratum,share,gender,age\na,0.4,woman,young\nb,0.3,woman|man,old\nc,0.3,man,young\n")


def test_overlaps_are_found_among_thousands_of_lines_at_once():
    strata = [{"region": [f"r{number}"], "age": ["young", "old"]} for number in range(5000)]
    assert list(overlaps(strata)) == []
    assert list(overlaps([*strata, {"age": ["old"], "region": ["r7", "r9"]}])) == [(7, 5000)]
