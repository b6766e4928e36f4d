"""The Nautilus port of basis carry against the legacy program: the same markets, the same fills."""

import random
from collections import Counter
from decimal import Decimal as D

import pytest

from strategies.basis_carry.legacy import Funding, Instrument, Quote, Result
from tests.strategies.basis_carry_engine import (
    feed,
    fills_of,
    fills_of_legacy,
    make_engine,
    run,
)
from tests.strategies.basis_carry_market import (
    BTC,
    END,
    FLAT,
    HELD,
    MINUTE,
    RICH,
    SECOND,
    START,
    basis,
    decision,
    pair,
    rate,
    show,
    steps,
    trade,
    wild,
)

STORM_MINUTES = 50
SIZES = ["0", "0.05", "0.5", "3.3", "30.017", "400"]


def storm(seed: int) -> tuple[list[Instrument], list[Quote | Funding], dict[str, object]]:
    """Return a market of three symbols, and parameters.

    Quotes come at any time and cease for minutes, prices jump, sizes vanish, rates of funding are
    settled every few minutes, and the legs have different lots.
    """
    chance = random.Random(seed)
    lots = {"BTC": ("0.001", "0.01"), "ETH": ("0.1", "0.01"), "SOL": ("0.005", "0.005")}
    table: list[Instrument] = []
    events: list[Quote | Funding] = []
    for symbol, (spot_lot, perp_lot) in lots.items():
        rows = pair(symbol, spot={"lot": spot_lot}, perp={"lot": perp_lot})
        table += rows
        events += _quotes(chance, symbol, rows)
        for minute in range(0, STORM_MINUTES, 7):
            hours = chance.choice([1, 8, 8, 8])
            value = chance.choice([-2, 2, 5, 9, 12, 20]) * 1e-5 * hours / 8
            mark = chance.randint(90_000, 110_000) / 1000
            events.append(rate(START + minute * MINUTE, value, symbol, hours=hours, mark=mark))
    changes: dict[str, object] = {
        "hedge_ratio": chance.choice(["1", "1", "0.7"]),
        "size_fraction": chance.choice([1, 0.1, 0.01]),
        "cooldown_seconds": chance.choice([0, 30, 60]),
        "funding_guard_seconds": chance.choice([0, 60]),
        "timeout_hours": chance.choice([0.1, 0.5]),
        "end_of_run_minutes": chance.choice([0, 10]),
        "offset_seconds": chance.choice([5, 0, 2.5]),
        "stop_loss_pct": chance.choice([0.006, 0.002]),
    }
    return table, events, changes


def _quotes(chance: random.Random, symbol: str, rows: list[Instrument]) -> list[Quote]:
    """Return what is quoted of a symbol; both legs at once, or one of them."""
    quotes: list[Quote] = []
    price, rise, silent_until = 100.0, 0.0, {"spot": 0, "perp": 0}
    for second in range(0, 60 * STORM_MINUTES, 2):
        price *= 1 + chance.gauss(0, 2e-5)
        rise = 0.98 * rise + chance.gauss(0, 1.2)
        if chance.random() < 0.002:
            rise += chance.choice([-70, 40, 70])
        for leg in silent_until:
            if chance.random() < 0.002:
                silent_until[leg] = second + chance.randint(20, 200)
        if chance.random() < 0.5:
            continue
        ts = START + second * SECOND + chance.choice([0, 0, 1, SECOND])
        spot = D(str(round(price, 2)))
        both = show(
            ts,
            symbol,
            spot=str(spot),
            perp=str((spot * (1 + D(round(rise)) / 10_000)).quantize(D("0.01"))),
            spread=chance.choice(["0", "0.01", "0.02"]),
            spot_size=chance.choice(SIZES),
            perp_size=chance.choice(SIZES),
            table=rows,
        )
        legs = zip(("spot", "perp"), both, strict=True)
        quotes += [quote for leg, quote in legs if second >= silent_until[leg]]
    return quotes


def counts_of(result: Result) -> Counter[str]:
    """Return what the legacy has counted, as the port does."""
    counts = Counter({"decisions": result.decisions, "round_trips": len(result.round_trips)})
    for name in ("skipped", "exits", "unfilled"):
        counts.update({f"{name}.{why}": n for why, n in getattr(result, name).items()})
    return +counts


@pytest.mark.parametrize("market", [wild, storm], ids=lambda market: market.__name__)
@pytest.mark.parametrize("seed", range(11))
def test_the_same_fills_as_the_legacy(market, seed):
    """Time, leg, side, size, price and reason of every fill are the legacy's, in any market."""
    table, events, changes = market(seed)
    params = {"end_of_run_minutes": 0} | changes
    end = START + STORM_MINUTES * MINUTE
    legacy = trade(events, table=table, end=end, **params)
    engine, strategy = make_engine(table, params=params, end_ns=end)

    feed(engine, table, events)
    run(engine, end=end)

    assert len(legacy.fills) > 40
    assert fills_of(engine) == fills_of_legacy(legacy)
    assert +strategy.counts == counts_of(legacy)
    engine.dispose()


def after_timeout(*markets):
    """Return an entry, its timeout, and then these markets."""
    return [*steps(RICH, *[HELD] * 9), *steps(*markets, first=10)]


TIMEOUT = {"timeout_hours": 0.01, "cooldown_seconds": 0}
# Where thresholds are met exactly, or something is left over: the market, parameters, what counts.
EDGES = {
    "leaves at the threshold": (steps(RICH, basis("1")), {}, "exits.basis_reverted"),
    "holds above it": (steps(RICH, basis("1.1")), {}, "decisions"),
    "diverges by 15 bp": (steps(basis("5.1"), basis("20.1")), {}, "exits.hedge_divergence"),
    "diverges by 14.9 bp": (steps(basis("5.1"), basis("20")), {}, "decisions"),
    "is worth the minimum": (steps(RICH), {"max_notional": 40, "min_notional": 0}, "decisions"),
    "is worth less": (steps(RICH, FLAT), {"max_notional": 39.9, "min_notional": 0}, "decisions"),
    "pays funding": (
        [*steps(RICH, HELD, HELD), rate(decision(1), -0.01)],
        {},
        "exits.stop_loss",
    ),
    "earns funding": ([*steps(RICH, HELD, HELD), rate(decision(1), 0.01)], {}, "decisions"),
    "ends at a decision": (
        steps(RICH, HELD, HELD, HELD),
        {"end_of_run_minutes": (END - decision(3)) / MINUTE},
        "exits.end_of_run",
    ),
    "enters at the end": (
        steps(FLAT, FLAT, FLAT, RICH),
        {"end_of_run_minutes": (END - decision(3)) / MINUTE},
        "decisions",
    ),
    "is disarmed": (after_timeout(RICH, RICH), TIMEOUT, "exits.timeout"),
    "is armed at the threshold": (after_timeout(basis("1"), RICH), TIMEOUT, "exits.timeout"),
    "is armed below it only": (after_timeout(basis("1.1"), RICH), TIMEOUT, "exits.timeout"),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_same_at_the_edges(name):
    """What happens exactly at a threshold is what happens in the legacy."""
    events, changes, counted = EDGES[name]
    both_agree(BTC, events, {"cooldown_seconds": 0} | changes, counted)


def test_dust_is_left_out():
    """What could not be sold is no part of the next position."""
    table = pair(perp={"lot": "0.1"})
    fallen = {"spot": "45", "perp": "45.01", "spot_size": "9.9"}
    events = steps(RICH, FLAT | {"spot_size": "9.9"}, fallen, RICH, RICH, FLAT, FLAT)
    params = {"hedge_ratio": "0.5", "max_notional": 1000, "cooldown_seconds": 0}
    both_agree(table, events, params, "round_trips")


def both_agree(table, events, params, counted):
    """Check that fills and counts are the same, and that `counted` has happened."""
    params = {"end_of_run_minutes": 0} | params
    legacy = trade(events, table=table, **params)
    engine, strategy = make_engine(table, params=params)
    feed(engine, table, events)
    run(engine)

    assert fills_of(engine) == fills_of_legacy(legacy)
    assert +strategy.counts == counts_of(legacy)
    assert strategy.counts[counted] > 0
    engine.dispose()
