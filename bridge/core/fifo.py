"""First in, first out: trades of one instrument -> open lots, and what each closing one gained.

Exact: all is computed in `CONTEXT`, which raises where it would have to round. Only divisions are
rounded, to `QUANTUM`, and what rounding leaves stays with the remainder: the pieces of a whole
always add up to it.
"""

from collections import deque
from collections.abc import Iterable
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import Final, NamedTuple

ZERO: Final = Decimal(0)
QUANTUM: Final = Decimal("1e-24")
# Three factors of 18 digits on each side of the point, and sums of a million million of them.
CONTEXT: Final = Context(
    prec=120,
    rounding=ROUND_HALF_EVEN,
    traps=[Inexact, InvalidOperation, Overflow, DivisionByZero],
)
# Where a quotient is taken before it is rounded: a product of two numbers of CONTEXT fits.
_WIDE: Final = Context(
    prec=2 * CONTEXT.prec,
    rounding=ROUND_HALF_EVEN,
    traps=[InvalidOperation, Overflow, DivisionByZero],
)


def divided(dividend: Decimal, divisor: Decimal) -> Decimal:
    """Return a quotient, rounded to QUANTUM where it has more digits than that."""
    quotient = _WIDE.divide(dividend, divisor)
    rounded = _WIDE.quantize(quotient, QUANTUM)
    return quotient if quotient == rounded else rounded


def share(whole: Decimal, part_qty: Decimal, qty: Decimal) -> Decimal:
    """Return what falls to `part_qty` of a whole that is spread over `qty`."""
    return divided(_WIDE.multiply(whole, part_qty), qty) if whole else whole


class Terms(NamedTuple):
    """What an instrument's quantities are worth. An inverse one is settled in its base currency."""

    base: str
    quote: str
    multiplier: Decimal
    inverse: bool

    @property
    def settle(self) -> str:
        """The currency of values and PnL."""
        return self.base if self.inverse else self.quote

    def value(self, qty: Decimal, price: Decimal) -> Decimal:
        """Return what a quantity is worth in `settle`, signed as it is; inverse ones rounded."""
        if self.inverse:
            return divided(CONTEXT.multiply(qty, self.multiplier), price)
        return CONTEXT.multiply(CONTEXT.multiply(qty, price), self.multiplier)


class Trade(NamedTuple):
    """What changes a position: `qty` is signed, + bought. `fee` is in the currency it was charged.

    `is_payment`: currency that was spent as a fee, or received as a rebate, at what it was worth.
    """

    fill_id: str
    ts_ns: int
    qty: Decimal
    price: Decimal
    fee: Decimal = ZERO
    is_payment: bool = False


class Lot(NamedTuple):
    """What is left of the trade that opened it: `qty` (signed), its `value` and `fee`."""

    fill_id: str
    ts_ns: int
    qty: Decimal
    price: Decimal
    value: Decimal
    fee: Decimal


class Gain(NamedTuple):
    """One lot, or a piece of it, closed by one trade; no two have the same `lot` and `fill_id`.

    `lot` is the fill that opened it, `qty` is signed as the lot was. `pnl` is that of the price, in
    the currency of settlement, before fees. Fees are the shares of both fills, as charged.
    """

    lot: str
    fill_id: str
    opened_ns: int
    closed_ns: int
    qty: Decimal
    open_price: Decimal
    close_price: Decimal
    pnl: Decimal
    open_fee: Decimal
    close_fee: Decimal
    is_payment: bool


class Book:
    """The open lots of one instrument, oldest first; all of them are long, or all are short.

    `unlotted` is what was paid as fees without a lot to take it from: it has no PnL.
    """

    def __init__(self, terms: Terms, lots: Iterable[Lot] = (), unlotted: Decimal = ZERO) -> None:
        self.terms = terms
        self.lots = deque(lots)
        self.unlotted = unlotted
        with localcontext(CONTEXT):
            self.position = sum([lot.qty for lot in self.lots], start=ZERO)
            self.value = sum([lot.value for lot in self.lots], start=ZERO)

    def apply(self, trade: Trade) -> list[Gain]:
        """Take a trade; return what it closed, oldest lot first.

        What is left of it opens a lot. A payment never opens a short one: it takes lots as far as
        they reach. Raises decimal.Inexact when an amount needs more digits than CONTEXT has; the
        book is of no use then.
        """
        gains: list[Gain] = []
        if not trade.qty:
            return gains
        with localcontext(CONTEXT):
            fill_id, ts_ns, qty, price, fee, is_payment = trade
            left: Lot | None = Lot(fill_id, ts_ns, qty, price, self.terms.value(qty, price), fee)
            while left and self.lots and (self.lots[0].qty > 0) is not (qty > 0):
                opened, closing, left = self._match(left)
                worth = opened.value + closing.value
                self.position -= opened.qty
                self.value -= opened.value
                gains.append(
                    Gain(
                        opened.fill_id, fill_id, opened.ts_ns, ts_ns, opened.qty, opened.price,
                        price, worth if self.terms.inverse else -worth, opened.fee, closing.fee,
                        is_payment,
                    )
                )  # fmt: skip
            if left and is_payment and qty < 0:
                self.unlotted -= left.qty
            elif left:
                self.lots.append(left)
                self.position += left.qty
                self.value += left.value
        return gains

    def unrealized(self, mark: Decimal) -> Decimal:
        """Return what the open lots have gained at a price."""
        with localcontext(CONTEXT):
            gained = self.terms.value(self.position, mark) - self.value
            return -gained if self.terms.inverse else gained

    def _match(self, closing: Lot) -> tuple[Lot, Lot, Lot | None]:
        """Take from the oldest lot; return what of it closes, what closes it and what is left."""
        oldest = self.lots.popleft()
        if abs(oldest.qty) <= abs(closing.qty):
            piece, left = self._split(closing, -oldest.qty)
            return oldest, piece, left
        piece, rest = self._split(oldest, -closing.qty)
        if rest:
            self.lots.appendleft(rest)
        return piece, closing, None

    def _split(self, lot: Lot, qty: Decimal) -> tuple[Lot, Lot | None]:
        """Return `qty` of a lot, and what is left of it: what rounding leaves as well."""
        if qty == lot.qty:
            return lot, None
        fill_id, ts_ns, whole, price, value, fee = lot
        part, part_fee = self.terms.value(qty, price), share(fee, qty, whole)
        return (
            Lot(fill_id, ts_ns, qty, price, part, part_fee),
            Lot(fill_id, ts_ns, whole - qty, price, value - part, fee - part_fee),
        )
