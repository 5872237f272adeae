"""Amounts of money as pages and commands of researchers show them."""

from decimal import ROUND_HALF_UP, Decimal

# Prices are settled to a millionth, and a whole study of a small model may cost less than a cent.
FEWEST_DECIMALS, MOST_DECIMALS = 4, 6


def amount_text(amount: Decimal) -> str:
    """`amount` with as many decimals as it has, from four to six: “12.5000”, “0.000031”."""
    shown = f"{Decimal(amount).quantize(Decimal(1).scaleb(-MOST_DECIMALS), rounding=ROUND_HALF_UP):,f}"
    whole, decimals = shown.split(".")
    return f"{whole}.{decimals.rstrip('0').ljust(FEWEST_DECIMALS, '0')}"


def budget_text(budget: Decimal | None) -> str:
    return "no ceiling" if budget is None else amount_text(budget)
