"""What a backtest did: plain values, every amount an exact decimal, times in ns UTC.

PnL is calculated here from fills and settlements alone; Nautilus's own (positions that net, float64
averages) is not asked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Final, NamedTuple

DAY_NS: Final = 86_400_000_000_000
EXACT: Final = Context(prec=80, rounding=ROUND_HALF_EVEN)
ZERO: Final = Decimal(0)
LEGS: Final = ("spot", "perp")


class Fill(NamedTuple):
    """An execution. `mid` is its own instrument's at that time, `reason` the order's first tag."""

    ts: int
    symbol: str
    leg: str
    side: str
    qty: Decimal
    px: Decimal
    fee: Decimal
    mid: Decimal
    reason: str


class Order(NamedTuple):
    """An order: sent at `ts`, when its instrument's mid was `mid`. `end_mid` is the mid when it was
    filled, canceled or refused, or at the end of the run."""

    ts: int
    symbol: str
    leg: str
    side: str
    qty: Decimal
    mid: Decimal
    end_mid: Decimal
    filled: Decimal


class Settlement(NamedTuple):
    """Funding on a position of the perpetual: `amount` is received, or paid when negative."""

    ts: int
    symbol: str
    position: Decimal
    rate: Decimal
    mark: Decimal
    amount: Decimal


class Sample(NamedTuple):
    """The mids behind the events of a time, by symbol and leg; 0 where there was no quote yet."""

    ts: int
    mids: Mapping[str, Mapping[str, Decimal]]


class Totals(NamedTuple):
    """What a symbol has brought and still holds, at mid. What a strategy takes for dust is part of
    `spot_position`; nothing here can tell it apart."""

    price_spot: Decimal
    price_perp: Decimal
    funding: Decimal
    fees: Decimal
    net: Decimal
    turnover: Decimal
    spot_position: Decimal
    perp_position: Decimal
    dust: None = None


@dataclass(slots=True)
class Books:
    """The books of a run. `events` are the quotes and funding rows that were processed, of `fed`.

    At each full minute and at the end there is the PnL of all symbols (`equity`), at each full day
    and at the end what every symbol had brought by then (`days`).
    """

    fed: int = 0
    events: int = 0
    last_ts: int | None = None
    fills: list[Fill] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    equity: list[tuple[int, Decimal]] = field(default_factory=list)
    days: list[tuple[int, dict[str, Totals]]] = field(default_factory=list)
    denied: int = 0
    rejected: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def symbols(self) -> dict[str, Totals]:
        """Return what every symbol brought in all."""
        return self.days[-1][1]

    @property
    def problems(self) -> list[str]:
        """Return why nothing can be concluded from this run; nothing when something can."""
        return [*self._problems()]

    def _problems(self) -> Iterator[str]:
        if not self.fed:
            yield "no quote and no funding row lies in the window"
        elif self.events != self.fed:
            yield f"the run stopped early: {self.events} of {self.fed} events were processed"
        if self.denied:
            yield f"{self.denied} orders were denied"
        if self.rejected:
            yield f"{self.rejected} orders were rejected"
        if self.fed and not self.fills:
            yield "nothing was traded"


class _Account:
    """One symbol while its fills and settlements are booked."""

    def __init__(self) -> None:
        self.held = dict.fromkeys(LEGS, ZERO)
        self.cash = dict.fromkeys(LEGS, ZERO)
        self.funding = self.fees = self.turnover = ZERO

    def fill(self, fill: Fill) -> None:
        sign = 1 if fill.side == "BUY" else -1
        value = fill.px * fill.qty
        self.held[fill.leg] += sign * fill.qty
        self.cash[fill.leg] -= sign * value
        self.fees += fill.fee
        self.turnover += value

    def pnl(self, leg: str, mid: Decimal) -> Decimal:
        held = self.held[leg]
        return self.cash[leg] + held * mid if held else self.cash[leg]

    def net(self, mids: Mapping[str, Decimal]) -> Decimal:
        pnls = [self.pnl(leg, mids[leg]) for leg in LEGS]
        return sum(pnls, self.funding - self.fees)

    def totals(self, mids: Mapping[str, Decimal]) -> Totals:
        return Totals(
            price_spot=self.pnl("spot", mids["spot"]),
            price_perp=self.pnl("perp", mids["perp"]),
            funding=self.funding,
            fees=self.fees,
            net=self.net(mids),
            turnover=self.turnover,
            spot_position=self.held["spot"],
            perp_position=self.held["perp"],
        )


type Equity = list[tuple[int, Decimal]]
type Days = list[tuple[int, dict[str, Totals]]]


def reckon(
    fills: Iterable[Fill],
    settlements: Iterable[Settlement],
    samples: Sequence[Sample],
    symbols: Sequence[str],
) -> tuple[Equity, Days]:
    """Return the PnL at every sample, and each symbol's totals at full days and the last sample.

    A sample counts all fills and settlements up to and at its time. All come in order of time.
    """
    accounts = {symbol: _Account() for symbol in symbols}
    events: list[Fill | Settlement] = [*fills, *settlements]
    booked = sorted(events, key=lambda event: event.ts)
    equity: Equity = []
    days: Days = []
    position = 0
    with localcontext(EXACT):
        for sample in samples:
            while position < len(booked) and booked[position].ts <= sample.ts:
                event = booked[position]
                account = accounts[event.symbol]
                if isinstance(event, Fill):
                    account.fill(event)
                else:
                    account.funding += event.amount
                position += 1
            nets = [each.net(sample.mids[name]) for name, each in accounts.items()]
            equity.append((sample.ts, sum(nets, ZERO)))
            if sample.ts % DAY_NS == 0 or sample is samples[-1]:
                totals = {name: each.totals(sample.mids[name]) for name, each in accounts.items()}
                days.append((sample.ts, totals))
    return equity, days
