"""Basis carry as the desk runs it: plain Python, one pass over the market, exact books.

Per symbol it buys spot and sells the perpetual when the perpetual is rich (`rich_basis`) or its
funding pays (`high_funding`), and closes both when that is over or goes wrong. It looks at the
market every few seconds and trades at the touch, never more than is shown there.

Signals are float64; prices, sizes, money and PnL are exact decimals; times are integer ns UTC.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Final, NamedTuple

from strategies.basis_carry.params import HOUR_NS, MINUTE_NS, BasisCarryParams

SYMBOLS_FIRST: Final = ("BTC", "ETH", "SOL")  # these decide first, the others by the alphabet
HOURS_A_YEAR: Final = 8760
DAY_NS: Final = 24 * HOUR_NS
NEVER: Final = -(2**63)  # longer ago than any duration
DIGITS: Final = 9  # to which signals are rounded before they are compared
MONEY: Final = Decimal("1e-8")  # to which fees and funding are rounded
EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)  # so wide that no sum or product rounds
ZERO: Final = Decimal(0)

RICH_BASIS, HIGH_FUNDING = "rich_basis", "high_funding"
STOP_LOSS, HEDGE_DIVERGENCE = "stop_loss", "hedge_divergence"
BASIS_REVERTED, FUNDING_FADED = "basis_reverted", "funding_faded"
TIMEOUT, END_OF_RUN = "timeout", "end_of_run"
ENTRIES: Final = frozenset({RICH_BASIS, HIGH_FUNDING})
DISARMING: Final = frozenset({STOP_LOSS, HEDGE_DIVERGENCE, TIMEOUT})


class Instrument(NamedTuple):
    """A row of the instruments table. `leg` is spot or perp, `fee` the taker's fraction."""

    id: str
    symbol: str
    leg: str
    tick: Decimal
    lot: Decimal
    min_notional: Decimal
    fee: Decimal


class Quote(NamedTuple):
    """Best bid and ask of the instrument with this id, in integers: prices in units of the last
    decimal that its tick is written with, sizes in those of its lot (tick 0.10: 123.45 is 12345).
    """

    ts: int
    instrument: str
    bid: int
    ask: int
    bid_size: int
    ask_size: int


class Funding(NamedTuple):
    """A settlement, at the time it is due and published: `rate` per `interval_hours`, on `mark`."""

    ts: int
    symbol: str
    rate: float
    interval_hours: int
    mark: float


class Fill(NamedTuple):
    """One order, filled whole at `ts`, for the `reason` of the entry or exit. `mid` is its own
    instrument's at that time."""

    ts: int
    symbol: str
    leg: str
    side: str
    qty: Decimal
    px: Decimal
    fee: Decimal
    mid: Decimal
    reason: str


class Settlement(NamedTuple):
    """Funding on a position of the perpetual: `amount` is received, or paid when negative."""

    ts: int
    symbol: str
    position: Decimal
    rate: Decimal
    mark: Decimal
    amount: Decimal


class RoundTrip(NamedTuple):
    """A position that was closed: decided on at `entry_ts`, given up at `exit_ts`, found flat at
    `flat_ts`. `quantity` is the spot bought, `price` what all fills brought, before fees."""

    symbol: str
    entry_ts: int
    entry_reason: str
    exit_ts: int
    exit_reason: str
    flat_ts: int
    quantity: Decimal
    price: Decimal
    funding: Decimal
    fees: Decimal


class Totals(NamedTuple):
    """What a symbol brought and still holds, at mid. `dust` is spot too small to be sold; it is in
    `spot_position`, too."""

    price_spot: Decimal
    price_perp: Decimal
    funding: Decimal
    fees: Decimal
    net: Decimal
    turnover: Decimal
    spot_position: Decimal
    perp_position: Decimal
    dust: Decimal


@dataclass(slots=True)
class Result:
    """The books of a run. A decision is one symbol's at one time; those `skipped` count by cause
    and are not in `decisions`. Exits count by reason when they fire, `unfilled` where nothing had
    been bought. At each full minute and at the end there is the PnL of all symbols (`equity`), at
    each full day and at the end what every symbol had brought by then (`days`)."""

    events: int = 0
    last_ts: int | None = None
    decisions: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    fills: list[Fill] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    round_trips: list[RoundTrip] = field(default_factory=list)
    exits: Counter[str] = field(default_factory=Counter)
    unfilled: Counter[str] = field(default_factory=Counter)
    equity: list[tuple[int, Decimal]] = field(default_factory=list)
    days: list[tuple[int, dict[str, Totals]]] = field(default_factory=list)

    @property
    def symbols(self) -> dict[str, Totals]:
        """Return what every symbol brought in all."""
        return self.days[-1][1]


def run(
    events: Iterable[Quote | Funding],
    instruments: Sequence[Instrument],
    *,
    params: BasisCarryParams,
    start_ns: int,
    end_ns: int,
) -> Result:
    """Trade the events of `[start_ns, end_ns)`, which come in order of time; ignore the others.

    Raises ValueError for instruments that are not one spot and one perp per symbol, for lots that
    do not fit, and for an event that goes back in time; KeyError for one of an unknown instrument.
    """
    with localcontext(EXACT):
        desk = Desk(instruments, params, start_ns, end_ns)
        legs, count, last, due = desk.legs, 0, start_ns, desk.advance(start_ns)
        for event in events:
            ts = event.ts
            if not last <= ts <= due:
                if ts < start_ns and not count:
                    continue
                if ts < last:
                    raise ValueError(f"{event} goes back in time, behind {last}")
                if ts >= end_ns:
                    break
                due = desk.advance(ts)
            last = ts
            count += 1
            if isinstance(event, Quote):
                legs[event.instrument].quote = event
            else:
                desk.settle(event)
        return desk.finish(count, last)


class Leg:
    """One instrument: its last quote, what is held of it, and what its fills brought."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.price_unit = _last_decimal(instrument.tick)
        self.size_unit = _last_decimal(instrument.lot)
        self.scale = int(1 / self.price_unit)
        self.quote = Quote(NEVER, instrument.id, 0, 0, 0, 0)
        self.position = self.dust = self.cash = self.fees = self.turnover = ZERO

    def bid(self) -> Decimal:
        return self.quote.bid * self.price_unit

    def ask(self) -> Decimal:
        return self.quote.ask * self.price_unit

    def mid(self) -> Decimal:
        return (self.quote.bid + self.quote.ask) * self.price_unit / 2

    def signal_mid(self) -> float:
        """Return the mid of the float64 prices; a quotient of integers is the nearest float64."""
        return (self.quote.bid / self.scale + self.quote.ask / self.scale) / 2

    def pnl(self) -> Decimal:
        """Return what the fills brought, before fees, and what is held at mid."""
        held = self.position + self.dust
        return self.cash + held * self.mid() if held else self.cash


@dataclass(slots=True)
class Record:
    """A position from the decision to enter until it is found flat."""

    ts: int
    reason: str
    basis: float  # bp, not rounded
    quantity: Decimal  # to buy in all
    notional: Decimal
    complete: bool = False  # nothing more is bought
    exit_ts: int = 0
    exit_reason: str = ""
    bought: Decimal = ZERO
    cost: Decimal = ZERO  # of what was bought
    cash: Decimal = ZERO  # that the fills of both legs brought
    funding: Decimal = ZERO
    fees: Decimal = ZERO


class Pair:
    """One symbol: its two legs, its signals, and where its trade stands."""

    def __init__(self, spot: Leg, perp: Leg, params: BasisCarryParams) -> None:
        self.spot, self.perp, self.symbol = spot, perp, spot.instrument.symbol
        small, self.lot = sorted((spot.instrument.lot, perp.instrument.lot))
        if self.lot % small:
            raise ValueError(f"{self.symbol}: lot {self.lot} is not a multiple of lot {small}")
        self.entry_min = 2 * max(spot.instrument.min_notional, perp.instrument.min_notional)
        self.exact_basis = self.basis = 0.0  # bp, at the present decision; `basis` is rounded
        self.publish(params.initial_rate, params.initial_interval_hours)
        self.armed = set(ENTRIES)
        self.record: Record | None = None
        self.flat_ts = NEVER  # when the last record was found flat
        self.funding = ZERO

    def publish(self, rate: float, interval_hours: int) -> None:
        self.interval_ns = interval_hours * HOUR_NS
        self.funding_annual = round(rate * HOURS_A_YEAR / interval_hours, DIGITS)

    def is_flat(self) -> bool:
        held, spot = self.spot.position, self.spot.instrument
        dust = held < spot.lot or held * self.spot.bid() < spot.min_notional
        return dust and not self.perp.position

    def net(self) -> Decimal:
        fees = self.spot.fees + self.perp.fees
        return self.spot.pnl() + self.perp.pnl() + self.funding - fees

    def totals(self) -> Totals:
        """Return what the symbol has brought so far, and still holds, at mid."""
        spot, perp = self.spot, self.perp
        return Totals(
            price_spot=spot.pnl(),
            price_perp=perp.pnl(),
            funding=self.funding,
            fees=spot.fees + perp.fees,
            net=self.net(),
            turnover=spot.turnover + perp.turnover,
            spot_position=spot.position + spot.dust,
            perp_position=perp.position,
            dust=spot.dust,
        )


class Desk:
    """All symbols, the clock, and the books."""

    def __init__(
        self, instruments: Sequence[Instrument], params: BasisCarryParams, start: int, end: int
    ) -> None:
        self.params, self.end, self.books = params, end, Result()
        self.legs = {instrument.id: Leg(instrument) for instrument in instruments}
        self.pairs = {pair.symbol: pair for pair in self._pairs()}
        self.next_decision = start + params.offset_ns
        self.next_sample = -(-start // MINUTE_NS) * MINUTE_NS
        self.exit_only_from = end - params.end_of_run_ns
        self.interval, self.max_age = params.interval_ns, params.max_quote_age_ns
        self.guard, self.cooldown = params.funding_guard_ns, params.cooldown_ns
        self.timeout = params.timeout_ns

    def _pairs(self) -> Iterator[Pair]:
        """Yield the pairs in the order in which they decide."""
        legs = {(leg.instrument.symbol, leg.instrument.leg): leg for leg in self.legs.values()}
        symbols = {symbol for symbol, _ in legs}
        expected = {(symbol, leg) for symbol in symbols for leg in ("spot", "perp")}
        if legs.keys() != expected or len(legs) < len(self.legs):
            raise ValueError(f"not one spot and one perp per symbol: {', '.join(self.legs)}")
        first = [symbol for symbol in SYMBOLS_FIRST if symbol in symbols]
        for symbol in first + sorted(symbols.difference(first)):
            yield Pair(legs[symbol, "spot"], legs[symbol, "perp"], self.params)

    # The clock. What is due at a time comes after all events of that time.

    def advance(self, ts: int) -> int:
        """Decide, and note the equity, wherever that is due before `ts`.

        Return the time up to which events may come without another call.
        """
        while (now := min(self.next_decision, self.next_sample)) < ts:
            if now == self.next_decision:
                for pair in self.pairs.values():
                    self._decide(pair, now)
                self.next_decision += self.interval
            if now == self.next_sample:
                self._sample(now)
                self.next_sample += MINUTE_NS
        return min(now, self.end - 1)

    def settle(self, event: Funding) -> None:
        """Pay or receive a rate on what is held of the perpetual, and publish it."""
        pair = self.pairs[event.symbol]
        position, record = pair.perp.position, pair.record
        if position and record:
            rate, mark = Decimal(repr(float(event.rate))), Decimal(repr(float(event.mark)))
            amount = (-position * mark * rate).quantize(MONEY)
            pair.funding += amount
            record.funding += amount
            settlement = Settlement(event.ts, event.symbol, position, rate, mark, amount)
            self.books.settlements.append(settlement)
        pair.publish(event.rate, event.interval_hours)

    def _sample(self, ts: int) -> None:
        self.books.equity.append((ts, sum((pair.net() for pair in self.pairs.values()), ZERO)))
        if ts % DAY_NS == 0 or ts == self.end:
            self.books.days.append((ts, {name: p.totals() for name, p in self.pairs.items()}))

    # One decision of one symbol.

    def _decide(self, pair: Pair, ts: int) -> None:
        if ts - min(pair.spot.quote.ts, pair.perp.quote.ts) > self.max_age:
            self.books.skipped["stale_quote"] += 1
            return
        since_funding = ts % pair.interval_ns
        if min(since_funding, pair.interval_ns - since_funding) < self.guard:
            self.books.skipped["funding_guard"] += 1
            return
        self.books.decisions += 1
        pair.exact_basis = (pair.perp.signal_mid() / pair.spot.signal_mid() - 1) * 1e4
        pair.basis = round(pair.exact_basis, DIGITS)
        if pair.record and pair.record.exit_reason and pair.is_flat():
            self._drop(pair, pair.record, ts)
        self._arm(pair)
        if not pair.record:
            self._enter(pair, ts)
        elif not pair.record.exit_reason:
            self._exit(pair, pair.record, ts)
        if pair.record and pair.record.exit_reason:
            self._sell_clip(pair, pair.record, ts)
        elif pair.record:
            self._buy_clip(pair, pair.record, ts)

    def _drop(self, pair: Pair, record: Record, ts: int) -> None:
        """Book a position that was found flat; the cooldown starts."""
        pair.record, pair.flat_ts = None, ts
        pair.spot.dust += pair.spot.position
        pair.spot.position = ZERO
        if record.bought:
            self.books.round_trips.append(
                RoundTrip(
                    pair.symbol, record.ts, record.reason, record.exit_ts, record.exit_reason, ts,
                    record.bought, record.cash, record.funding, record.fees,
                )
            )  # fmt: skip

    def _arm(self, pair: Pair) -> None:
        """Allow an entry again once its signal has been down at its exit."""
        if pair.basis <= self.params.exit_basis_bps:
            pair.armed.add(RICH_BASIS)
        if pair.funding_annual <= self.params.exit_funding_annual:
            pair.armed.add(HIGH_FUNDING)

    def _enter(self, pair: Pair, ts: int) -> None:
        params = self.params
        if RICH_BASIS in pair.armed and pair.basis >= params.entry_basis_bps:
            reason = RICH_BASIS
        elif HIGH_FUNDING in pair.armed and pair.funding_annual >= params.entry_funding_annual:
            reason = HIGH_FUNDING
        else:
            return
        if ts - pair.flat_ts < self.cooldown or ts >= self.exit_only_from:
            return
        ask = pair.spot.ask()
        quantity = _floor(self._notional() / ask, pair.lot)
        if quantity and quantity * min(ask, pair.perp.bid()) >= pair.entry_min:
            pair.record = Record(ts, reason, pair.exact_basis, quantity, quantity * ask)

    def _notional(self) -> Decimal:
        """Return what a new position may cost; 0 when that is too little."""
        params = self.params
        taken = sum((pair.record.notional for pair in self.pairs.values() if pair.record), ZERO)
        free = params.size_fraction * params.max_gross * params.equity - taken
        notional = min(free / 2, params.size_fraction * params.max_notional)
        return notional if notional >= params.min_notional * params.size_fraction else ZERO

    def _exit(self, pair: Pair, record: Record, ts: int) -> None:
        """Fire the first exit that holds, if one does."""
        params, spot, perp = self.params, pair.spot, pair.perp
        held = spot.position * spot.mid() + perp.position * perp.mid()
        gain = held + record.cash + record.funding
        rise = round(pair.exact_basis - record.basis, DIGITS)
        rich = record.reason == RICH_BASIS
        exits = (
            (STOP_LOSS, record.cost and round(gain / record.cost, DIGITS) <= -params.stop_loss_pct),
            (HEDGE_DIVERGENCE, rise >= params.hedge_divergence_bps),
            (BASIS_REVERTED, rich and pair.basis <= params.exit_basis_bps),
            (FUNDING_FADED, not rich and pair.funding_annual <= params.exit_funding_annual),
            (TIMEOUT, ts - record.ts >= self.timeout),
            (END_OF_RUN, ts >= self.exit_only_from),
        )
        reason = next((reason for reason, holds in exits if holds), None)
        if reason:
            record.exit_ts, record.exit_reason = ts, reason
            (self.books.exits if record.bought else self.books.unfilled)[reason] += 1
            if reason in DISARMING:
                pair.armed.clear()

    # Orders. Each fills whole at the touch, so the perp never has to catch up with the spot.

    def _buy_clip(self, pair: Pair, record: Record, ts: int) -> None:
        """Buy what is missing of the spot, no more than both legs show, and sell the perp."""
        if record.complete:
            return
        spot, perp = pair.spot, pair.perp
        px = min(spot.ask(), perp.bid())
        left = record.quantity - spot.position
        record.complete = left * px < pair.entry_min
        shown = min(spot.quote.ask_size * spot.size_unit, perp.quote.bid_size * perp.size_unit)
        clip = min(left, _floor(shown, pair.lot))
        if record.complete or clip * px < pair.entry_min:
            return
        hedge = perp.position - self._perp_target(pair, spot.position + clip)
        if hedge * perp.bid() >= perp.instrument.min_notional:  # else less would not help either
            self._trade(spot, record, ts, clip)
            self._trade(perp, record, ts, -hedge)

    def _sell_clip(self, pair: Pair, record: Record, ts: int) -> None:
        """Sell spot, no more than both legs show, and buy the perp back."""
        spot, perp = pair.spot, pair.perp
        bid, least = spot.bid(), spot.instrument.min_notional
        shown = min(spot.quote.bid_size * spot.size_unit, perp.quote.ask_size * perp.size_unit)
        clip = min(spot.position, _floor(shown, pair.lot))
        if 0 < (spot.position - clip) * bid < least:  # too little would be left to be sold alone
            lots, rest = divmod(least, bid * pair.lot)
            smaller = spot.position - (lots + bool(rest)) * pair.lot
            clip = min(clip, _floor(smaller, pair.lot)) if smaller >= pair.lot else clip
        if clip * bid >= least:
            self._trade(spot, record, ts, -clip)
            self._trade(perp, record, ts, self._perp_target(pair, spot.position) - perp.position)

    def _perp_target(self, pair: Pair, spot_position: Decimal) -> Decimal:
        return -_floor(self.params.hedge_ratio * spot_position, pair.perp.instrument.lot)

    def _trade(self, leg: Leg, record: Record, ts: int, qty: Decimal) -> None:
        """Buy `qty` at the ask, or sell as much at the bid when it is negative."""
        if not qty:
            return
        _, symbol, kind, _, _, _, rate = leg.instrument
        side, px = ("BUY", leg.ask()) if qty > 0 else ("SELL", leg.bid())
        value = px * qty
        fee = (abs(value) * rate).quantize(MONEY)
        leg.position += qty
        leg.cash -= value
        leg.fees += fee
        leg.turnover += abs(value)
        record.cash -= value
        record.fees += fee
        if kind == "spot" and qty > 0:
            record.bought += qty
            record.cost += value
        reason = record.exit_reason or record.reason
        fill = Fill(ts, symbol, kind, side, abs(qty), px, fee, leg.mid(), reason)
        self.books.fills.append(fill)

    def finish(self, events: int, last_ts: int) -> Result:
        """Let the clock run to the end, where what is left is marked to mid; return the books."""
        self.advance(self.end)
        self._sample(self.end)
        self.books.events, self.books.last_ts = events, last_ts if events else None
        return self.books


def _floor(value: Decimal, step: Decimal) -> Decimal:
    """Return the greatest multiple of `step` that is not above `value`, which is not negative."""
    return value // step * step


def _last_decimal(number: Decimal) -> Decimal:
    """Return the unit of the last decimal that a number is written with; 1 when it has none."""
    exponent = number.as_tuple().exponent
    return Decimal(1).scaleb(min(0, int(exponent)))
