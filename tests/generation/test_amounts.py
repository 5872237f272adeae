"""Small amounts of money stay visible, and counts agree with their nouns."""

from decimal import Decimal

import pytest

from apps.core.text import counted
from apps.generation.amounts import amount_text, budget_text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.0000"),
        ("0.000001", "0.000001"),
        ("0.00123", "0.00123"),
        ("0.0100", "0.0100"),
        ("12.5", "12.5000"),
        ("1234567.891", "1,234,567.8910"),
        ("0.0000005", "0.000001"),
    ],
)
def test_an_amount_has_four_to_six_decimals(amount, text):
    assert amount_text(Decimal(amount)) == text


def test_no_budget_is_no_ceiling():
    assert (budget_text(None), budget_text(Decimal(2))) == ("no ceiling", "2.0000")


@pytest.mark.parametrize(("count", "text"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (1200, "1,200 calls")])
def test_a_count_agrees_with_its_noun(count, text):
    assert counted(count, "call") == text
