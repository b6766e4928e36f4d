"""Exact columns in a catalog: as Nautilus would have written them, and whole or not at all."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nautilus_trader.model import data as model
from nautilus_trader.persistence.catalog import ParquetDataCatalog

from integrations.binance import columns
from integrations.binance.columns import Columns
from integrations.binance.dataset import Quotes, Trades
from integrations.binance.sample_market import MARKETS
from integrations.nautilus import catalog, wranglers
from integrations.nautilus.replay import instrument_of
from integrations.nautilus.wranglers import fixed, wrangler

ROWS = 300
START_NS = 1_751_328_000_000_000_000
BTC, _, ETH, *_ = (instrument_of(row) for row, _ in MARKETS)
KINDS = ("quotes", "trades", "named", "klines", "marks", "rates", "depth", "deltas")


def made(kind: str, seed: int, rows: int = ROWS) -> Columns:
    """Return random columns of a kind."""
    chance = np.random.default_rng(seed)

    def numbers(low: int = 1, high: int = 2**40, *shape: int) -> np.ndarray:
        return chance.integers(low, high, shape or rows)

    ts = START_NS + np.sort(numbers(0, 10**12))
    side = chance.choice([1, -1], rows)
    match kind:
        case "quotes":
            return Quotes(ts, numbers(), numbers(), numbers(0), numbers(0))
        case "trades":
            return Trades(ts, numbers(), numbers(), side, numbers())
        case "named":
            ids = pa.array([f"id-{n:x}" for n in numbers().tolist()])
            return columns.NamedTrades(ts, numbers(), numbers(), side, ids)
        case "klines":
            low, open_, close, high = np.sort(numbers(1, 2**40, 4, rows), axis=0)
            volume = numbers(0).astype(np.uint64)
            return columns.Klines(ts, open_, high, low, close, volume, "15m")
        case "marks":
            return columns.Marks(ts, numbers())
        case "rates":
            return columns.Rates(ts, numbers(-(10**6), 10**6), chance.choice([1, 4, 8], rows))
        case "depth":
            return columns.Depth(ts, *(numbers(0, 2**40, rows, 5) for _ in range(4)))
        case _:
            action = chance.choice([columns.ADD, columns.UPDATE, columns.DELETE], rows)
            flags = chance.choice([0, columns.SNAPSHOT, columns.LAST], rows)
            return columns.Deltas(ts, action, side, numbers(), numbers(), flags, numbers())


def stored(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


# Raised inside nautilus_trader 1.231.
@pytest.mark.filterwarnings("ignore:The inplace keyword:pandas.errors.Pandas4Warning")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_both_wranglers_make_the_same(kind: str, seed: int) -> None:
    """Values, schema and metadata: vectorized integers, and Nautilus's own wranglers."""
    content = made(kind, seed)
    init = content.ts + 5

    fast, slow = (wrangler(name)(BTC, content, init) for name in ("arrow", "v1"))

    assert fast.schema.equals(slow.schema, check_metadata=True)
    assert fast.equals(slow)


@pytest.mark.parametrize("kind", KINDS)
def test_the_catalog_reads_it_back(kind: str, tmp_path: Path) -> None:
    """Nautilus's own reader finds every row, with both times."""
    content = made(kind, 3)

    catalog.write(tmp_path, BTC, content, content.ts + 5)

    cls = wranglers.TYPES[type(content)]
    found = ParquetDataCatalog(str(tmp_path)).query(cls, identifiers=[BTC.id.value])
    assert [each.ts_event for each in found] == content.ts.tolist()
    assert [each.ts_init for each in found] == (content.ts + 5).tolist()


def test_every_number_is_exact() -> None:
    """128 bits hold any 64-bit number of units, of any sign, at any precision."""
    chance = np.random.default_rng(4)
    edge = [0, 1, -1, 2**32 - 1, 2**32, -(2**32), 2**53 + 1, 2**63 - 1, -(2**63)]
    signed = np.append(chance.integers(-(2**63), 2**63 - 1, 500), edge)
    unsigned = np.array([0, 2**63, 2**64 - 1, 13_491_870_476_320_000_000], dtype=np.uint64)

    for units in (signed, unsigned):
        for decimals in range(17):
            raws = [
                int.from_bytes(raw, "little", signed=True)
                for raw in fixed(units, decimals).to_pylist()
            ]
            assert raws == [unit * 10 ** (16 - decimals) for unit in units.tolist()]


def test_rates_keep_their_decimals(tmp_path: Path) -> None:
    """A rate is a decimal of eight places, its interval in minutes."""
    ts = np.array([START_NS])
    catalog.write(tmp_path, BTC, columns.Rates(ts, np.array([-1429]), np.array([8])))

    (found,) = ParquetDataCatalog(str(tmp_path)).query(model.FundingRateUpdate)

    # Nautilus 1.231 hands the rate out as text.
    assert (Decimal(found.rate), found.interval) == (Decimal("-0.00001429"), 480)


def test_files_are_named_as_nautilus_names_them(tmp_path: Path) -> None:
    """The same folder, file and content as `write_data` makes of the same rows."""
    content = made("quotes", 5)
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    catalog.write(tmp_path / "ours", BTC, content)
    rows = ParquetDataCatalog(str(tmp_path / "ours")).query(model.QuoteTick)

    ParquetDataCatalog(str(tmp_path / "theirs")).write_data(rows)

    (ours,), (theirs,) = (
        [*(tmp_path / name).glob("data/**/*.parquet")] for name in ("ours", "theirs")
    )
    assert ours.relative_to(tmp_path / "ours") == theirs.relative_to(tmp_path / "theirs")
    assert pq.read_table(ours).equals(pq.read_table(theirs))


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    """The same rows are there once, and the file is not touched."""
    for _ in range(2):
        path = catalog.write(tmp_path, BTC, made("trades", 6))
        catalog.write_instrument(tmp_path, BTC)
        assert path is not None
        path.touch()
        before = path.stat().st_mtime_ns

    assert path.stat().st_mtime_ns == before
    assert len(ParquetDataCatalog(str(tmp_path)).query(model.TradeTick)) == ROWS
    assert len(ParquetDataCatalog(str(tmp_path)).instruments()) == 1


@pytest.mark.parametrize("seed", [6, 7])
def test_other_rows_of_the_same_time_are_refused(tmp_path: Path, seed: int) -> None:
    """Files of one instrument and type never overlap, not even by one nanosecond."""
    first = made("trades", 6)
    catalog.write(tmp_path, BTC, first)
    before = stored(tmp_path)
    other = made("trades", 7)
    ts = first.ts if seed == 6 else other.ts - other.ts[-1] + first.ts[0]

    with pytest.raises(catalog.CatalogError, match="has rows between"):
        catalog.write(
            tmp_path, BTC, Trades(ts, other.price, other.size, other.side, other.trade_id)
        )

    assert stored(tmp_path) == before


def test_neighbors_other_types_and_other_instruments_are_welcome(tmp_path: Path) -> None:
    """The next nanosecond, quotes beside trades, ETH beside BTC."""
    first = made("trades", 6)
    after = first.ts - first.ts[0] + first.ts[-1] + 1
    catalog.write(tmp_path, BTC, first)
    catalog.write(tmp_path, BTC, Trades(after, first.price, first.size, first.side, first.trade_id))
    catalog.write(tmp_path, ETH, first)
    catalog.write(tmp_path, BTC, made("quotes", 6))

    reader = ParquetDataCatalog(str(tmp_path))
    assert len(reader.query(model.TradeTick, identifiers=[BTC.id.value])) == 2 * ROWS
    assert len(reader.query(model.TradeTick)) == 3 * ROWS
    assert len(reader.query(model.QuoteTick)) == ROWS


def test_what_is_never_written(tmp_path: Path) -> None:
    """No rows, no file; times that go back are refused."""
    content = made("marks", 8)

    assert catalog.write(tmp_path, BTC, columns.Marks(content.ts[:0], content.ts[:0])) is None
    with pytest.raises(ValueError, match=f"{BTC.id}: ts_init goes back; sort the rows by it"):
        catalog.write(tmp_path, BTC, content, content.ts[::-1])
    assert stored(tmp_path) == {}


def test_an_instrument_does_not_change(tmp_path: Path) -> None:
    """Rows of another tick would not be what they seem."""
    catalog.write_instrument(tmp_path, BTC)
    (spot, _), *_ = MARKETS
    row = {name: getattr(spot, name) for name in spot.__dataclass_fields__}

    with pytest.raises(catalog.CatalogError, match="has other ticks, lots or fees here"):
        catalog.write_instrument(
            tmp_path, instrument_of(type(spot)(**row | {"tick": Decimal("0.1")}))
        )


def test_what_v1_cannot_hold_is_refused() -> None:
    """Float64 above 2**53 units, a trade of an unknown side."""
    trades = made("trades", 9)
    large = Trades(trades.ts, trades.price + 2**53, trades.size, trades.side, trades.trade_id)
    unknown = Trades(trades.ts, trades.price, trades.size, 0 * trades.side, trades.trade_id)

    for content in (large, unknown):
        with pytest.raises(ValueError, match="use the arrow wrangler"):
            wrangler("v1")(BTC, content, content.ts)


@pytest.mark.parametrize(
    ("interval", "name"),
    [
        ("1s", "1-SECOND"),
        ("15m", "15-MINUTE"),
        ("4h", "4-HOUR"),
        ("1d", "1-DAY"),
        ("1mo", "1-MONTH"),
    ],
)
def test_intervals(interval: str, name: str) -> None:
    """Binance's intervals are Nautilus's bar types."""
    assert str(wranglers.bar_type(BTC, interval)) == f"{BTC.id}-{name}-LAST-EXTERNAL"


@pytest.mark.parametrize("interval", ["", "m", "1", "1y", "-1m"])
def test_intervals_that_are_unknown(interval: str) -> None:
    """They are named."""
    with pytest.raises(ValueError, match="is unknown; expected one such as"):
        wranglers.bar_type(BTC, interval)


def test_wranglers_that_are_unknown() -> None:
    """They are named."""
    with pytest.raises(ValueError, match="no wrangler is named 'v2'; expected arrow or v1"):
        wrangler("v2")
