"""Amounts as texts: balances of SIMs and their thresholds are decimals in a currency that nobody names."""

from decimal import Decimal, InvalidOperation


def decimal_of(text: str | None) -> Decimal | None:
    """The amount; None where the text is none. Neither `NaN` nor `Infinity` is one: what cannot be compared would break the comparing."""
    try:
        amount = None if text is None else Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() else None


def is_below(amount: str, threshold: str) -> bool:
    """Whether an amount is below a threshold; False where either is no amount."""
    left, limit = decimal_of(amount), decimal_of(threshold)
    return left is not None and limit is not None and left < limit
