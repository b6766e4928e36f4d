"""The market of the acceptance week: fair prices, quotes, and the planted cases in them.

All arithmetic is on integers and all randomness comes from `PCG64.random_raw`, see `week`.
"""

from typing import NamedTuple

import numpy as np

from integrations.binance import planted, planted_scripts
from integrations.binance import sample_market as market
from integrations.binance.dataset import Integers
from integrations.binance.generated import IntegerColumns
from integrations.binance.manifest import Instrument
from integrations.binance.planted import DAY, HOUR, MINUTE, Shape
from integrations.binance.planted_scripts import DECISION, PLENTY, Script
from integrations.binance.sample_market import FIRST_PRICES, PPB, RATES, STEP_US, Octaves

SEED = 1
SPAN_US = 7 * DAY
STEPS = SPAN_US // STEP_US + 2
QUOTE_GAPS = {"spot": (15, 24), "perp": (14, 24)}  # octaves of us: a quote in 2.8 s, in 2.5 s
HUNDREDTH_PPB = 1_000  # of a basis point
PULL_PPB = 50  # of the basis, at a settlement, for each 10**-8 of its rate
PULL_BEFORE, PULL_AFTER = 30 * MINUTE, 10 * MINUTE
APPROACH = HOUR  # in which the fair price goes to the level of a script
PLENTY_USDT = 60_000  # more than the largest position

type Shown = tuple[Instrument, Octaves]  # an instrument, and what its touches show
type Row = tuple[int, int, int, int]  # ts, bid, ask, size on both sides


class Legs(NamedTuple):
    """A symbol's quotes, and how far the perp's fair price is from the first one, in ppb."""

    spot: IntegerColumns
    perp: IntegerColumns
    perp_path: Integers


def legs(spot: Shown, perp: Shown) -> Legs:
    """Return what both legs of a symbol show in the week."""
    symbol = spot[0].symbol
    walk, basis = fair_paths(spot[0], perp[0])
    scripts = [script for script in planted_scripts.SCRIPTS.values() if script.symbol == symbol]

    def leg(shown: Shown, path: Integers) -> IntegerColumns:
        instrument, sizes = shown
        quotes = market.quotes(instrument, path, sizes, span_us=SPAN_US, seed=SEED, gaps=QUOTE_GAPS)
        for script in scripts:
            quotes = _replaced(quotes, script, _rows(script, instrument, spot[0], perp[0]))
        return _taken_away(quotes, instrument)

    return Legs(leg(spot, walk), leg(perp, walk + basis), walk + basis)


def fair_paths(spot: Instrument, perp: Instrument) -> tuple[Integers, Integers]:
    """Return the spot's fair price from the first one and the basis, in ppb every `STEP_US`."""
    symbol = spot.symbol
    walk = market.fair_path(spot, STEPS, SEED)
    basis = market.fair_path(perp, STEPS, SEED) - walk
    _pull(RATES[symbol], basis)
    for shape in planted.SHAPES.values():
        if shape.symbol == symbol:
            _bend(shape, basis)
    for _, start, duration, distance in (m for m in planted.MOVES if m.symbol == symbol):
        begin, end = start // STEP_US, (start + duration) // STEP_US
        walk[begin:end] += _line(0, distance * HUNDREDTH_PPB, end - begin)
        walk[end:] += distance * HUNDREDTH_PPB
    for script in planted_scripts.SCRIPTS.values():
        if script.symbol == symbol:
            _hold(script, walk)
    return walk, basis


def _line(low: int, high: int, count: int) -> Integers:
    """Return `count` integers on a line from `low` to `high`, which is the next after them."""
    return low + np.arange(count, dtype=np.int64) * (high - low) // count


def _pull(rates: tuple[int, ...], basis: Integers) -> None:
    """Pull the basis away around each settlement, the way its rate says."""
    before, after = PULL_BEFORE // STEP_US, PULL_AFTER // STEP_US
    for number, rate in enumerate(rates):
        settled = number * market.INTERVAL_US // STEP_US
        rising = min(before, settled)  # there is nothing before the first
        basis[settled - rising : settled] += _line(0, rate * PULL_PPB, before)[:rising]
        basis[settled : settled + after] += _line(rate * PULL_PPB, 0, after)


def _bend(shape: Shape, basis: Integers) -> None:
    for (begin, low), (end, high) in zip(shape.points, shape.points[1:], strict=False):
        first, last = ((shape.start + time) // STEP_US for time in (begin, end))
        basis[first:last] = _line(low * HUNDREDTH_PPB, high * HUNDREDTH_PPB, last - first)


def _hold(script: Script, walk: Integers) -> None:
    """Let the fair price go to the level of a script, stay, and go on from there."""
    begin = (script.start - DECISION) // STEP_US
    end = begin + sum(step.times for step in script.steps) * DECISION // STEP_US
    first_price = FIRST_PRICES[script.symbol]
    level = (script.level - first_price) * PPB // first_price
    approach = APPROACH // STEP_US
    walk[begin - approach : begin] += _line(0, level - int(walk[begin]), approach)
    walk[end:] += level - walk[end]
    walk[begin:end] = level


def _rows(script: Script, instrument: Instrument, spot: Instrument, perp: Instrument) -> list[Row]:
    """Return what a script lets one of the legs quote."""
    lot = max(spot.lot, perp.lot)
    plenty = int(PLENTY_USDT / (script.level * lot))
    level, lots = int(script.level / instrument.tick), int(lot / instrument.lot)
    rows: list[Row] = []
    decision = script.start
    for step in script.steps:
        if instrument.leg == "spot":
            after, shown = step.spot_at, step.spot_shown
            bid, ask = step.spot_touch
            touches = [(level + bid, level + ask)]
        else:
            after, shown = step.perp_at, step.perp_shown
            touches = [_touch(level, step.basis, step.half_ticks)]
            if step.row_before is not None:
                touches.insert(0, _touch(level, step.row_before, 0))
        size = (plenty if shown == PLENTY else shown) * lots
        size += min(size, lots // 2)  # half of the greater lot, which is of no use
        for _ in range(step.times):
            if after is not None:
                rows += [(decision + after, *touch, size) for touch in touches]
            decision += DECISION
    return rows


def _touch(level: int, basis: int, half_ticks: int) -> tuple[int, int]:
    """Return a bid and an ask, one or two ticks apart, whose mid is this far above the level."""
    twice_mid = (2 * level * (1_000_000 + basis) + 500_000) // 1_000_000 + half_ticks
    bid = (twice_mid - 1) // 2
    return bid, twice_mid - bid


def _replaced(quotes: IntegerColumns, script: Script, rows: list[Row]) -> IntegerColumns:
    """Return the quotes with the rows of a script in the place of those in its time."""
    ts, bid, ask, size = np.array(rows, dtype=np.int64).T
    new = {"ts": ts, "bid": bid, "ask": ask, "bid_size": size, "ask_size": size}
    steps = sum(step.times for step in script.steps)
    begin, end = script.start - DECISION, script.start + (steps - 1) * DECISION
    kept = (quotes["ts"] <= begin) | (quotes["ts"] > end)
    merged = {name: np.concatenate([quotes[name][kept], new[name]]) for name in quotes}
    order = np.argsort(merged["ts"], kind="stable")
    return {name: values[order] for name, values in merged.items()}


def _taken_away(quotes: IntegerColumns, instrument: Instrument) -> IntegerColumns:
    """Return the quotes without those in the gaps, and with nothing shown where that is planted."""
    ts, me = quotes["ts"], (instrument.symbol, instrument.leg)
    kept = np.ones(len(ts), dtype=np.bool_)
    for gap in planted.GAPS:
        if me in gap.instruments:
            kept &= (ts < gap.start) | (ts >= gap.end)
    if me in planted.SHOWS_NOTHING.instruments:
        for side in ("bid_size", "ask_size"):
            quotes[side][ts >= planted.SHOWS_NOTHING.start] = 0
    return {name: values[kept] for name, values in quotes.items()}
