"""The market that the sample dataset shows: instruments, fair prices, quotes, trades, funding.

All arithmetic is on integers and all randomness comes from `PCG64.random_raw`, see `sample`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from integrations.binance.dataset import Integers
from integrations.binance.generated import IntegerColumns
from integrations.binance.manifest import EPOCH, Instrument

PPB = 1_000_000_000  # relative moves are in parts per billion; a basis point is 100,000
STEP_US = 250_000
WALK_PPB = 2_976  # per step and unit of noise: 0.7 % a day
BASIS_PPB = 1_362  # per step and unit of noise: with the pull below a deviation of 3 bp
BASIS_PULL = 165  # millionths per step: a half-life of 17.5 minutes
SPREADS = np.array([1] * 10 + [2] * 3 + [3] * 2 + [4], dtype=np.int64)  # ticks, equally likely
TRADE_GAP = (10, 22)  # octaves of microseconds, see `log_uniform`: 1.9 a second

FIRST_SETTLEMENT = datetime(2025, 7, 1, tzinfo=UTC)
INTERVAL_US = 8 * 3_600_000_000
# fmt: off
RATES = {  # in units of 10**-8, settlement by settlement
    "BTC": (1053, 4334, 1109, 1807, 3403, 4130, 4871, 3562, 5028, 5230, 5009,
            1797, 1066, 3055, 4005, 1941, 1665, 1028, 2360, 3438, 4271),
    "ETH": (8191, 1541, -1429, 1952, 4864, 5236, 10000, 9820, 4398, 1353, 6619,
            2691, 1406, 3958, 5542, 3909, 6583, 8149, 10000, 10000, -3011),
    "SOL": (9123, 5050, -7235, -5826, -4281, -492, 7514, 8784, -808, -1339, 9974,
            -6162, -15145, -7863, -6498, -3364, -7540, 3442, 10000, 6880, 3570),
}
# fmt: on
CALC_DELAYS_MS = (7, 2, 0, 1, 0, 3, 6, 3, 3, 5, 3, 1, 4, 9, 6, 1, 2, 4, 0, 7, 0)

SYMBOLS = ("BTC", "ETH", "SOL")  # rows with the same ts stand in this order
FIRST_PRICES = {"BTC": 107_000, "ETH": 2_450, "SOL": 150}  # USDT
QUOTE_GAPS = {"spot": (10, 21), "perp": (12, 20)}  # octaves of microseconds: 3.5 and 5.1 a second
FEES = {"spot": Decimal("0.001"), "perp": Decimal("0.0005")}  # taker, without discounts
IDS = {"spot": "{}USDT.BINANCE_SPOT", "perp": "{}USDT-PERP.BINANCE_FUTURES"}

type Octaves = tuple[int, int]


def _instrument(symbol: str, leg: str, tick: str, lot: str, *, min_notional: int) -> Instrument:
    return Instrument(
        id=IDS[leg].format(symbol),
        symbol=symbol,
        leg=leg,
        tick=Decimal(tick),
        lot=Decimal(lot),
        min_notional=Decimal(min_notional),
        fee=FEES[leg],
        base=symbol,
        quote="USDT",
    )


# Shown sizes are in octaves of lots, about 600 to 400,000 USDT.
MARKETS: tuple[tuple[Instrument, Octaves], ...] = (
    (_instrument("BTC", "spot", "0.01", "0.00001", min_notional=5), (9, 18)),
    (_instrument("BTC", "perp", "0.10", "0.001", min_notional=100), (3, 12)),
    (_instrument("ETH", "spot", "0.01", "0.0001", min_notional=5), (11, 20)),
    (_instrument("ETH", "perp", "0.01", "0.001", min_notional=20), (8, 17)),
    (_instrument("SOL", "spot", "0.01", "0.001", min_notional=5), (12, 21)),
    (_instrument("SOL", "perp", "0.01", "0.01", min_notional=5), (9, 18)),
)


def random(seed: int, purpose: str, count: int) -> NDArray[np.uint64]:
    """Return `count` random 64-bit integers of the stream that seed and purpose name."""
    raw: NDArray[np.uint64] = np.random.PCG64([seed, *purpose.encode()]).random_raw(count)
    return raw


def log_uniform(raw: NDArray[np.uint64], octaves: Octaves) -> Integers:
    """Return integers from `2**low` up to `2**high`, each octave as likely as the other.

    Gaps drawn this way come in bursts: most are far below the mean, a few far above it.
    """
    low, high = octaves
    octave = np.uint64(low) + ((raw >> np.uint64(32)) * np.uint64(high - low) >> np.uint64(32))
    floor = np.uint64(1) << octave
    return (floor + (raw & (floor - np.uint64(1)))).astype(np.int64)


def fair_path(instrument: Instrument, steps: int, seed: int) -> Integers:
    """Return how far the fair price is from the first one, in ppb, every `STEP_US`.

    The spot price is a random walk; the perpetual's adds a basis that reverts to zero.
    """
    symbol = instrument.symbol
    walk = np.cumsum(_noise(seed, f"{symbol} walk", steps) * WALK_PPB)
    if instrument.leg == "spot":
        return walk
    shocks = (_noise(seed, f"{symbol} basis", steps) * BASIS_PPB).tolist()
    revert = accumulate(shocks, lambda b, shock: b - (b * BASIS_PULL + 500_000) // 10**6 + shock)
    return walk + np.fromiter(revert, dtype=np.int64, count=steps)


def _noise(seed: int, purpose: str, count: int) -> Integers:
    """Return bell-shaped noise of mean 0 and standard deviation 4: the bits set in 64, less 32."""
    return np.bitwise_count(random(seed, purpose, count)).astype(np.int64) - 32


def _fair_ppb_ticks(instrument: Instrument, path: Integers, at_us: Integers) -> Integers:
    """Return the fair price at each time, in billionths of a tick."""
    step, rest = np.divmod(at_us, STEP_US)
    ppb = path[step] + (path[step + 1] - path[step]) * rest // STEP_US
    fair: Integers = int(FIRST_PRICES[instrument.symbol] / instrument.tick) * (PPB + ppb)
    return fair


def _arrivals(seed: int, purpose: str, octaves: Octaves, span_us: int) -> Integers:
    """Return increasing times from 0 to below `span_us`."""
    count = 1024
    while True:
        times = np.cumsum(log_uniform(random(seed, purpose, count), octaves))
        if times[-1] >= span_us:
            return times[times < span_us]
        count *= 2


def quotes(
    instrument: Instrument,
    path: Integers,
    shown: Octaves,
    *,
    span_us: int,
    seed: int,
    gaps: Mapping[str, Octaves] = QUOTE_GAPS,
) -> IntegerColumns:
    """Return quotes around the fair price; times in us from the start, ticks, lots."""
    name = f"{instrument.symbol} {instrument.leg}"
    ts = _arrivals(seed, f"{name} quotes", gaps[instrument.leg], span_us)
    spread = SPREADS[random(seed, f"{name} spread", len(ts)) >> np.uint64(60)]
    fair = _fair_ppb_ticks(instrument, path, ts)
    bid = (2 * fair - (spread - 1) * PPB) // (2 * PPB)
    return {
        "ts": ts,
        "bid": bid,
        "ask": bid + spread,
        "bid_size": log_uniform(random(seed, f"{name} bid", len(ts)), shown),
        "ask_size": log_uniform(random(seed, f"{name} ask", len(ts)), shown),
    }


def trades(
    instrument: Instrument, quotes: IntegerColumns, *, span_us: int, seed: int
) -> IntegerColumns:
    """Return trades at the touch of the last quote, of at most the size it shows."""
    name = f"{instrument.symbol} {instrument.leg}"
    ts = _arrivals(seed, f"{name} trades", TRADE_GAP, span_us)
    raw = random(seed, f"{name} sides", len(ts))
    quoted = np.searchsorted(quotes["ts"], ts, side="right") - 1
    ts, raw, quoted = ts[quoted >= 0], raw[quoted >= 0], quoted[quoted >= 0]
    buyer = (raw >> np.uint64(63)).astype(np.int64)
    touch = np.where(buyer, quotes["ask_size"][quoted], quotes["bid_size"][quoted])
    share = (raw & np.uint64(0xFFFF)).astype(np.int64)
    return {
        "ts": ts,
        "price": np.where(buyer, quotes["ask"][quoted], quotes["bid"][quoted]),
        "size": 1 + ((touch - 1) * share >> 16),
        "side": buyer,
        "trade_id": np.arange(1, len(ts) + 1),
    }


def settlements(start_us: int, span_us: int) -> range:
    """Return which of the published settlements fall inside the range. Raises ValueError."""
    before_us = (FIRST_SETTLEMENT - EPOCH) // timedelta(microseconds=1) - start_us
    due = range(-(before_us // INTERVAL_US), -((before_us - span_us) // INTERVAL_US))
    if due and not 0 <= due[0] <= due[-1] < len(CALC_DELAYS_MS):
        last = FIRST_SETTLEMENT + timedelta(microseconds=INTERVAL_US * (len(CALC_DELAYS_MS) - 1))
        known = f"{FIRST_SETTLEMENT.isoformat()} to {last.isoformat()}"
        raise ValueError(f"funding rates are known from {known} only; choose another start")
    return due


def funding(instrument: Instrument, path: Integers, due: range, *, start_us: int) -> IntegerColumns:
    """Return the settlements, marked at the fair price."""
    numbers = np.array(due, dtype=np.int64)
    first_us = (FIRST_SETTLEMENT - EPOCH) // timedelta(microseconds=1) - start_us
    ts = first_us + numbers * INTERVAL_US
    return {
        "ts": ts,
        "calc_time": ts + np.array(CALC_DELAYS_MS, dtype=np.int64)[numbers] * 1000,
        "rate": np.array(RATES[instrument.symbol], dtype=np.int64)[numbers],
        "interval_hours": np.full(len(numbers), INTERVAL_US // 3_600_000_000),
        "mark": _fair_ppb_ticks(instrument, path, ts) // PPB,
    }
