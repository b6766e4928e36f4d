"""Pre-trade limits: positions, what is on its way to change them, and why an order may not leave.

`Book` knows, per instrument, the net position and the open orders of a whole node, strategies taken
together: that is what the venue sees. It is told of orders before they leave and of every fill, so
that each check sees the worst that can come of what is out already. Its cost does not depend on the
number of orders.

Amounts are in US dollars, where USD and the stablecoins of it count alike: `Mark.rate` turns an
instrument's quote currency into them.
"""

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

ZERO: Final = Decimal(0)
# US dollars, and the coins that stand for one: counted alike.
DOLLARS: Final = ("USDT", "USD", "USDC", "FDUSD", "TUSD", "USDE", "USDP", "DAI", "BUSD")
BUY: Final = 1
SELL: Final = -1


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force; `positions` by symbol, where one differs from `max_position`.

    Amounts in quote currency, the rate in orders and changes a second, the rest as fractions.
    """

    max_order_notional: Decimal
    max_position: Decimal
    max_position_total: Decimal
    max_daily_loss: Decimal
    max_order_rate: Decimal
    stop_loss_pct: Decimal
    max_drawdown: Decimal
    positions: Mapping[str, Decimal] = field(default_factory=dict)

    def position_of(self, symbol: str) -> Decimal:
        """Return the limit of a symbol's position."""
        return self.positions.get(symbol, self.max_position)


class Refusal(NamedTuple):
    """Why an order may not leave: the limit's name, a word of `CAUSES`, and a sentence."""

    cause: str
    reason: str


CAUSES: Final = (
    "HALTED", "DISABLED", "REDUCING", "max_order_notional", "max_position", "max_position_total",
    "max_order_rate", "self_trade", "no_price",
)  # fmt: skip


class Terms(NamedTuple):
    """What an instrument's quantities are worth. An inverse one is quoted in its own quantity."""

    symbol: str
    multiplier: Decimal = Decimal(1)
    is_inverse: bool = False


class Mark(NamedTuple):
    """Best bid and ask, and what one of the quote currency is worth in US dollars."""

    bid: Decimal
    ask: Decimal
    rate: Decimal = Decimal(1)

    @property
    def mid(self) -> Decimal:
        """The price that positions are valued at."""
        return (self.bid + self.ask) / 2


class Intent(NamedTuple):
    """An order as limits see it. `sign` is BUY or SELL, `qty` what is left of it.

    `price` is its limit price, `trigger` that of a stop, None where it has none. `rests`: it may
    stand in the venue's book with `price`. `reduces`: the venue takes it as reduce-only.
    """

    key: str
    sign: int
    qty: Decimal
    price: Decimal | None = None
    trigger: Decimal | None = None
    rests: bool = False
    reduces: bool = False


@dataclass(slots=True)
class Exposure:
    """One instrument: the net position, the open orders by side, and the money that moved.

    `cash` is what the fills brought in, in quote currency (inverse: in base currency).
    """

    terms: Terms
    mark: Mark | None = None
    qty: Decimal = ZERO
    cash: Decimal = ZERO
    # By sign: what open orders may add, and what those add that can only reduce.
    adding: dict[int, Decimal] = field(default_factory=lambda: {BUY: ZERO, SELL: ZERO})
    reducing: dict[int, Decimal] = field(default_factory=lambda: {BUY: ZERO, SELL: ZERO})
    # Own prices that stand in the book, sorted.
    resting: dict[int, list[Decimal]] = field(default_factory=lambda: {BUY: [], SELL: []})

    def worst(self, sign: int, adding: Decimal = ZERO, reducing: Decimal = ZERO) -> Decimal:
        """Return how far the position can get on one side, 0 when it cannot get there.

        What can only reduce may fill first: then there is less left for the others to close.
        """
        start = sign * self.qty
        if start < 0:
            start = min(ZERO, start + self.reducing[sign] + reducing)
        return max(ZERO, start + self.adding[sign] + adding)

    @property
    def worst_notional(self) -> Decimal:
        """The larger of what both sides can get to, in US dollars."""
        return self.notional(max(self.worst(BUY), self.worst(SELL)))

    def notional(self, qty: Decimal, price: Decimal | None = None) -> Decimal:
        """Return what `qty` is worth in US dollars, at the mark or at a price; 0 without a mark."""
        if self.mark is None:
            return ZERO
        worth = qty * self.terms.multiplier * self.mark.rate
        return worth if self.terms.is_inverse else worth * (price or self.mark.mid)

    def add(self, intent: Intent, factor: int = 1) -> None:
        """Count an order in, or out with `factor` -1."""
        side = self.reducing if intent.reduces else self.adding
        side[intent.sign] += factor * intent.qty
        if intent.rests and intent.price is not None:
            prices = self.resting[intent.sign]
            if factor == 1:
                bisect.insort(prices, intent.price)
            else:
                del prices[bisect.bisect_left(prices, intent.price)]

    def fill(self, sign: int, qty: Decimal, price: Decimal) -> None:
        """Take a fill."""
        signed = sign * qty
        self.qty += signed
        worth = signed * self.terms.multiplier
        self.cash += worth / price if self.terms.is_inverse else -worth * price

    @property
    def pnl(self) -> Decimal:
        """What fills and the open position brought, fees apart, in US dollars; 0 without a mark."""
        if self.mark is None:
            return ZERO
        mid, worth = self.mark.mid, self.qty * self.terms.multiplier
        if self.terms.is_inverse:
            return (self.cash - worth / mid) * mid * self.mark.rate
        return (self.cash + worth * mid) * self.mark.rate


class Book:
    """All instruments and open orders of a node."""

    def __init__(self) -> None:
        self.exposures: dict[str, Exposure] = {}
        self.orders: dict[str, tuple[Exposure, Intent]] = {}

    def exposure(self, instrument: str, terms: Terms) -> Exposure:
        """Return the exposure to an instrument, a new one where there is none."""
        known = self.exposures.get(instrument)
        if known is None:
            known = self.exposures[instrument] = Exposure(terms)
        return known

    def put(self, exposure: Exposure, intent: Intent) -> None:
        """Count an order in, or as it stands now: it keeps its place among them."""
        known = self.orders.get(intent.key)
        if known is not None:
            known[0].add(known[1], -1)
        exposure.add(intent)
        self.orders[intent.key] = (exposure, intent)

    def end(self, key: str) -> None:
        """Forget an order; harmless when it is not known."""
        known = self.orders.pop(key, None)
        if known is not None:
            known[0].add(known[1], -1)

    def refusal(self, exposure: Exposure, intent: Intent, limits: Limits) -> Refusal | None:
        """Return why an order may not leave; it, or what it was before, counts as not there yet."""
        known = self.orders.get(intent.key)
        if known is None:
            return self._refusal(exposure, intent, limits)
        exposure.add(known[1], -1)
        try:
            return self._refusal(exposure, intent, limits)
        finally:
            exposure.add(known[1])

    def _refusal(self, exposure: Exposure, intent: Intent, limits: Limits) -> Refusal | None:
        mark = exposure.mark
        if mark is None:
            symbol = exposure.terms.symbol
            return Refusal("no_price", f"no price of {symbol} in US dollars to check limits by")
        if crossed := _crossed(exposure, intent, mark):
            return crossed
        notional = exposure.notional(intent.qty, _worst_price(intent, mark))
        if notional > limits.max_order_notional:
            return _over("max_order_notional", notional, limits.max_order_notional)
        more = {"reducing": intent.qty} if intent.reduces else {"adding": intent.qty}
        farthest = exposure.worst(intent.sign, **more)
        if farthest <= exposure.worst(intent.sign):
            return None  # it only brings the position closer to zero
        symbol, worst = exposure.terms.symbol, exposure.notional(farthest)
        if worst > (most := limits.position_of(symbol)):
            return _over("max_position", worst, most, symbol)
        more_of_total = worst - exposure.worst_notional
        total = sum([each.worst_notional for each in self.exposures.values()])
        if more_of_total > 0 and total + more_of_total > limits.max_position_total:
            return _over("max_position_total", total + more_of_total, limits.max_position_total)
        return None

    def reducing_refusal(self, exposure: Exposure, intent: Intent) -> Refusal | None:
        """Return why an order may not leave while positions may only shrink."""
        known = self.orders.get(intent.key)
        out = exposure.adding[intent.sign] + exposure.reducing[intent.sign]
        if known is not None:
            out -= known[1].qty
        room = -intent.sign * exposure.qty - out
        if intent.qty <= room:
            return None
        what = f"{exposure.terms.symbol} may be reduced by {max(ZERO, room)}"
        return Refusal("REDUCING", f"{what}, not by {intent.qty}")

    def excess(self) -> Iterator[str]:
        """Yield the orders that must go when positions may only shrink, newest first."""
        room: dict[tuple[int, int], Decimal] = {}
        gone: list[str] = []
        for key, (exposure, intent) in self.orders.items():
            side = (id(exposure), intent.sign)
            left = room.get(side, -intent.sign * exposure.qty) - intent.qty
            if left < 0:
                gone.append(key)
            else:
                room[side] = left
        yield from reversed(gone)

    @property
    def pnl(self) -> Decimal:
        """What all fills and open positions brought, fees apart, in US dollars."""
        return sum([each.pnl for each in self.exposures.values()], start=ZERO)


class Bucket:
    """How many orders may leave now: `rate` a second, as many at once, and at least one."""

    def __init__(self) -> None:
        self._left: Decimal | None = None
        self._at_ns = 0

    def take(self, rate: Decimal, now_ns: int) -> Refusal | None:
        """Take one; return why there is none."""
        most = max(rate, Decimal(1))
        left = most if self._left is None else self._left
        left = min(most, left + rate * max(0, now_ns - self._at_ns) / 1_000_000_000)
        self._at_ns = now_ns
        self._left = left
        if left < 1 or not rate:
            return Refusal("max_order_rate", f"more than {rate} orders and changes a second")
        self._left = left - 1
        return None


def _crossed(exposure: Exposure, intent: Intent, mark: Mark) -> Refusal | None:
    """Return the refusal of an order that could meet an own one in the venue's book."""
    if intent.trigger is not None:
        return None  # it waits; whatever stands there then, the venue decides
    own = exposure.resting[-intent.sign]
    if not own:
        return None
    if intent.sign == BUY:
        reach, nearest = (mark.ask if intent.price is None else intent.price), own[0]
        meets = nearest <= reach
    else:
        reach, nearest = (mark.bid if intent.price is None else intent.price), own[-1]
        meets = nearest >= reach
    if not meets:
        return None
    return Refusal("self_trade", f"an own order stands at {nearest}")


def _worst_price(intent: Intent, mark: Mark) -> Decimal:
    """Return the most that one may cost: a sale at a limit may bring more than its price."""
    if intent.sign == BUY and intent.price is not None:
        return intent.price
    market = mark.ask if intent.sign == BUY else mark.bid
    return max(market, intent.price or ZERO, intent.trigger or ZERO)


def _over(cause: str, amount: Decimal, most: Decimal, symbol: str = "") -> Refusal:
    where = f" of {symbol}" if symbol else ""
    return Refusal(cause, f"{amount:.2f}{where} is more than {most}")
