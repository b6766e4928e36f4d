"""Nautilus's values -> the strings of the contract. Every number exact, none through a float.

Prices, quantities and money are 128-bit integers in units of 10**-FIXED_PRECISION; `text` writes
them digit by digit. `str` of them would not do: it divides in the thread's decimal context, which
keeps 28 of up to 30 digits, or whatever a strategy has set.
"""

import functools
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any, Final

from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import FIXED_PRECISION, Money, Price, Quantity

# Products and sums of numbers of 30 digits: Python's default of 28 would round.
EXACT: Final = Context(prec=80)

# Digits behind the tick's own that an average price keeps.
AVERAGE_DIGITS: Final = 8


def exactly[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in a decimal context that never rounds a product of ours."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return function(*args, **kwargs)

    return wrapper


def text(number: Price | Quantity) -> str:
    """Return a price or a quantity with its own digits, zeros at the end included."""
    return _digits(number.raw, number.precision)


def money(amount: Money) -> str:
    """Return the money with its currency's digits, without the currency."""
    return _digits(amount.raw, amount.currency.precision)


def _digits(raw: int, precision: int) -> str:
    units = abs(raw) // 10 ** (FIXED_PRECISION - precision)
    sign = "-" if raw < 0 and units else ""
    if not precision:
        return f"{sign}{units}"
    digits = str(units).zfill(precision + 1)
    return f"{sign}{digits[:-precision]}.{digits[-precision:]}"


def plain(value: Decimal) -> str:
    """Return the decimal without an exponent, and without changing its digits.

    Raises ValueError for infinity and for what is not a number.
    """
    if not value.is_finite():
        raise ValueError(f"{value} is not a finite number")
    return format(value, "f")


def average_text(price: Decimal, *, precision: int) -> str:
    """Return an average price: the tick's digits and at most eight more, no idle zeros behind."""
    rounded = price.quantize(Decimal(1).scaleb(-precision - AVERAGE_DIGITS), ROUND_HALF_EVEN)
    digits = plain(rounded)
    idle = len(digits) - len(digits.rstrip("0"))
    return digits[: len(digits) - min(idle, AVERAGE_DIGITS)].rstrip(".")


def place(instrument_id: InstrumentId, venue_alias: Mapping[str, str]) -> dict[str, str]:
    """Return the fields venue, in the stack's words, and symbol."""
    venue = instrument_id.venue.value
    return {"venue": venue_alias.get(venue, venue), "symbol": instrument_id.symbol.value}


def value(identifier: Any) -> str:
    """Return an identifier's text, empty when there is none."""
    return "" if identifier is None else identifier.value


def code(currency: Currency | None) -> str:
    """Return a currency's code, empty when there is none."""
    return "" if currency is None else currency.code


def flag(condition: Any) -> str:
    """Return 1 or 0."""
    return "1" if condition else "0"
