"""Hand-made markets for the legacy basis carry: events by the second, and runs over them."""

import random
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from strategies.basis_carry import legacy
from strategies.basis_carry.legacy import Funding, Instrument, Quote, Result
from strategies.basis_carry.params import BasisCarryParams

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
MIDNIGHT = 1_751_328_000 * SECOND  # 1 July 2025, UTC
START = MIDNIGHT + HOUR  # far from the settlements, which are due every eight hours
END = START + 2 * HOUR
D = Decimal


def pair(symbol: str = "BTC", **changes: dict[str, str]) -> list[Instrument]:
    """Return a spot and a perp for prices about 100; `spot` and `perp` say what else differs."""
    values: dict[str, dict[str, str]] = {
        "spot": {"tick": "0.001", "lot": "0.001", "min_notional": "5", "fee": "0.001"},
        "perp": {"tick": "0.001", "lot": "0.01", "min_notional": "20", "fee": "0.0005"},
    }
    return [
        Instrument(
            f"{symbol}-{leg}",
            symbol,
            leg,
            **{name: D(text) for name, text in (numbers | changes.get(leg, {})).items()},
        )
        for leg, numbers in values.items()
    ]


BTC = pair()


def decision(number: int) -> int:
    """Return when the decision takes place; the first is number 0."""
    return START + (5 + 10 * number) * SECOND


def show(
    ts: int,
    symbol: str = "BTC",
    *,
    spot: str = "100",
    perp: str = "100",
    spread: str = "0",
    spot_size: str = "1000",
    perp_size: str = "1000",
    table: Sequence[Instrument] = (),
) -> list[Quote]:
    """Return a quote of each leg around these mids; both sides show the same size."""
    quotes = []
    for instrument, mid, size in zip(
        table or pair(symbol), (spot, perp), (spot_size, perp_size), strict=True
    ):
        bid, ask = D(mid) - D(spread) / 2, D(mid) + D(spread) / 2
        price, lot = decimals(instrument.tick), decimals(instrument.lot)
        units = [int(each.scaleb(price)) for each in (bid, ask)]
        shown = int(D(size).scaleb(lot))
        quotes.append(Quote(ts, instrument.id, *units, shown, shown))
    return quotes


def decimals(number: Decimal) -> int:
    """Return the decimals that a number is written with."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent


def basis(bps: str, **more: Any) -> dict[str, Any]:
    """Return a market with the perp this much above a spot at 100."""
    return {"perp": str(100 + D(bps) / 100), **more}


FLAT, RICH, HELD = basis("0"), basis("5"), basis("3")


def steps(*markets: dict[str, Any] | None, first: int = 0, symbol: str = "BTC") -> list[Quote]:
    """Return what is quoted a second before each decision from number `first` on."""
    return [
        quote
        for number, market in enumerate(markets, first)
        if market is not None
        for quote in show(decision(number) - SECOND, symbol, **market)
    ]


def rate(
    ts: int, value: float, symbol: str = "BTC", hours: int = 8, mark: float = 100.0
) -> Funding:
    """Return a settlement."""
    return Funding(ts, symbol, value, hours, mark)


def merged(*parts: Iterable[Quote | Funding]) -> list[Quote | Funding]:
    """Return the events by time; of the same time, settlements first, then spot, then perp."""

    def order(event: Quote | Funding) -> tuple[int, int]:
        if isinstance(event, Funding):
            return event.ts, 0
        return event.ts, 1 if event.instrument.endswith("spot") else 2

    return sorted((event for part in parts for event in part), key=order)


def trade(
    *parts: Iterable[Quote | Funding],
    table: Sequence[Instrument] = BTC,
    start: int = START,
    end: int = END,
    **params: object,
) -> Result:
    """Run the strategy over the events with these parameters; the last minutes are as any other."""
    return legacy.run(
        merged(*parts),
        table,
        params=BasisCarryParams.from_mapping({"end_of_run_minutes": 0} | params),
        start_ns=start,
        end_ns=end,
    )


def fills(result: Result, leg: str = "spot") -> list[tuple[int, str, Decimal, str]]:
    """Return the fills of one leg: number of the decision, side, quantity, reason."""
    return [
        ((fill.ts - decision(0)) // (10 * SECOND), fill.side, fill.qty, fill.reason)
        for fill in result.fills
        if fill.leg == leg
    ]


def exits(result: Result) -> list[tuple[int, str]]:
    """Return the round trips' exits: number of the decision, reason."""
    return [
        ((trip.exit_ts - decision(0)) // (10 * SECOND), trip.exit_reason)
        for trip in result.round_trips
    ]


def walk(
    market: dict[str, Any], until: int, first: int = 0, symbol: str = "BTC"
) -> Iterator[Quote]:
    """Yield the same market before each decision from number `first` to before `until`."""
    yield from steps(*[market] * (until - first), first=first, symbol=symbol)


def wild(seed: int) -> tuple[list[Instrument], list[Quote], dict[str, object]]:
    """Return a market of two symbols that jumps about, and parameters."""
    chance = random.Random(seed)
    table = BTC + pair("ETH")
    quotes: list[Quote] = []
    for number in range(300):
        for symbol in ("BTC", "ETH"):
            spot = D(chance.randint(90_000, 110_000)).scaleb(-3)
            quotes += show(
                decision(number) - SECOND,
                symbol,
                spot=str(spot),
                perp=str((spot * (10_000 + chance.randint(-30, 60)) / 10_000).quantize(D("0.001"))),
                spread=chance.choice(["0", "0.02", "0.04"]),
                spot_size=chance.choice(["0", "0.05", "0.5", "30.017", "1000"]),
                perp_size=chance.choice(["0", "0.07", "0.4", "30.01", "1000"]),
            )
    changes: dict[str, object] = {
        "hedge_ratio": chance.choice(["1", "1", "0.7", "0.25"]),
        "size_fraction": chance.choice([1, 0.1, 0.003]),
        "cooldown_seconds": chance.choice([0, 60]),
        "hedge_divergence_bps": 40,
    }
    return table, sorted(quotes, key=lambda quote: quote.ts), changes
