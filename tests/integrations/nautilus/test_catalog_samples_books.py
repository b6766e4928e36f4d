"""Real books of several venues: what Nautilus reads from the catalog is what the file says."""

from decimal import Decimal

import pytest
from nautilus_trader.model.data import OrderBookDelta, OrderBookDepth10
from nautilus_trader.model.enums import BookAction, OrderSide, RecordFlag

from tests.integrations.nautilus.samples import (
    HERE,
    Reader,
    decimals,
    ingest_samples,
    rows_of,
)

SIDES = {"ask": OrderSide.SELL, "bid": OrderSide.BUY, "a": OrderSide.SELL, "b": OrderSide.BUY}
pytestmark = HERE


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return ingest_samples(tmp_path_factory.mktemp("samples"))


def levels_of(row: dict[str, str], side: str, count: int) -> list[tuple[Decimal, ...]]:
    return [
        decimals(row[f"{side}s[{level}].price"], row[f"{side}s[{level}].amount"])
        for level in range(count)
    ]


def test_snapshots_of_five_levels(read: Reader) -> None:
    """Depth10, the other five levels empty."""
    found = read(OrderBookDepth10, "BTCUSDT-PERP.BINANCE_FUTURES")
    expected = rows_of("samples/binance-futures_book_snapshot_5_BTCUSDT.csv")

    for each, row in zip(found, expected, strict=True):
        assert (each.ts_event, each.ts_init) == (
            int(row["timestamp"]) * 1000,
            int(row["local_timestamp"]) * 1000,
        )
        for orders, side in ((each.bids, "bid"), (each.asks, "ask")):
            shown = [decimals(order.price, order.size) for order in orders]
            assert shown[:5] == levels_of(row, side, 5)
            assert all(size == 0 for _, size in shown[5:])


def book(read: Reader, id_: str, first: int, last: int) -> list[OrderBookDelta]:
    return [each for each in read(OrderBookDelta, id_) if first <= each.ts_event <= last]


def test_snapshots_of_twenty_five_levels(read: Reader) -> None:
    """Deltas: a clear, then every level, the last one marked as the end of the event."""
    expected = rows_of("samples/binance-futures_book_snapshot_25_BTCUSDT.csv")
    times = [int(row["timestamp"]) * 1000 for row in expected]
    found = book(read, "BTCUSDT-PERP.BINANCE_FUTURES", times[0], times[-1])

    assert len(found) == 51 * len(expected)
    for number, row in enumerate(expected):
        clear, *levels = found[51 * number : 51 * (number + 1)]
        assert clear.action == BookAction.CLEAR
        assert [decimals(each.order.price, each.order.size) for each in levels] == [
            *levels_of(row, "bid", 25),
            *levels_of(row, "ask", 25),
        ]
        assert {each.order.side for each in levels[:25]} == {OrderSide.BUY}
        assert {each.order.side for each in levels[25:]} == {OrderSide.SELL}
        assert {(each.ts_event, each.ts_init) for each in (clear, *levels)} == {
            (times[number], int(row["local_timestamp"]) * 1000)
        }
        ends = [bool(each.flags & RecordFlag.F_LAST) for each in levels]
        assert ends == [False] * 49 + [True]


@pytest.mark.parametrize("name", ["snap", "update"])
def test_binance_depth(read: Reader, name: str) -> None:
    """The snapshot clears the book first; an update of size 0 deletes its level."""
    expected = rows_of(f"samples/btcusdt-depth-{name}.csv")
    times = [int(row["timestamp"]) * 10**6 for row in expected]
    found = book(read, "BTCUSDT.BINANCE_SPOT", times[0], times[-1])
    if name == "snap":
        assert found.pop(0).action == BookAction.CLEAR

    assert [
        (
            each.ts_event,
            each.order.side,
            *decimals(each.order.price, each.order.size),
            each.sequence,
        )
        for each in found
    ] == [
        (
            int(row["timestamp"]) * 10**6,
            SIDES[row["side"]],
            *decimals(row["price"], row["qty"]),
            int(row["last_update_id"]),
        )
        for row in expected
    ]
    for each, row in zip(found, expected, strict=True):
        set_ = BookAction.ADD if name == "snap" else BookAction.UPDATE
        assert each.action == (set_ if Decimal(row["qty"]) else BookAction.DELETE)


def test_incremental_book_of_another_venue(read: Reader) -> None:
    """Rows of a snapshot, then updates, in the order of the recorder."""
    expected = rows_of("samples/deribit_incremental_book_L2_BTC-PERPETUAL.csv")
    clear, *found = read(OrderBookDelta, "BTC-PERPETUAL.DERIBIT")

    assert clear.action == BookAction.CLEAR
    assert [
        (
            each.ts_event,
            each.ts_init,
            bool(each.flags & RecordFlag.F_SNAPSHOT),
            each.order.side,
            *decimals(each.order.price, each.order.size),
        )
        for each in found
    ] == [
        (
            int(row["timestamp"]) * 1000,
            int(row["local_timestamp"]) * 1000,
            row["is_snapshot"] == "true",
            SIDES[row["side"]],
            *decimals(row["price"], row["amount"]),
        )
        for row in expected
    ]
