"""Basis carry in a live daemon that is killed with an order on its way, or finds no memory."""

import json
import signal
from decimal import Decimal
from pathlib import Path

import pytest

from bridge import exits
from tests.integrations.nautilus.test_basis_carry_daemon import (
    BUYS,
    KEEPS,
    MEMORIES,
    STEP,
    Live,
    is_hedged,
    killed_with_a_position,
    live,
    record_of,
)
from tests.servers import RedisServer

__all__ = ["live"]  # a fixture

ORDERS = "trader-LIVE-001:orders:"
POSITIONS = "trader-LIVE-001:positions:"
VENUES = ("BINANCE_SPOT", "BINANCE_FUTURES")


def book(folder: Path, venue: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return what a venue owes, and what it has filled."""
    file = folder / f"{venue}.json"
    held, fills = json.loads(file.read_text()) if file.exists() else ({}, [])
    return held, fills


def filled(folder: Path, venue: str) -> list[dict[str, str]]:
    """Return what a venue has filled."""
    return book(folder, venue)[1]


def holds(folder: Path) -> list[Decimal]:
    """Return what the venues owe: bitcoin, and the position of the perpetual."""
    keys = ("BTC", "BTCUSDT-PERP.BINANCE_FUTURES")
    books = [book(folder, venue)[0] for venue in VENUES]
    return [Decimal(held.get(key, "0")) for held, key in zip(books, keys, strict=True)]


def worth(fills: list[dict[str, str]], side: str) -> Decimal:
    """Return what was paid or got on a side."""
    return sum(
        [Decimal(x["qty"]) * Decimal(x["price"]) for x in fills if x["side"] == side], Decimal(0)
    )


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("how", ["unsent", "untold"])
def test_an_order_on_its_way(
    live: Live, redis_server: RedisServer, tmp_path: Path, how: str, venue: str
) -> None:
    """Whether or not the venue has filled it, the next node buys the rest of the entry and no more,
    hedges all of it, and knows what it has cost."""
    (tmp_path / f"{venue}.hangs").write_text(how)
    daemon = live(KEEPS)
    [other] = {*VENUES} - {venue}
    daemon.until(lambda: filled(tmp_path, other), "the other leg")
    daemon.until(lambda: how == "unsent" or filled(tmp_path, venue), "the order that hangs")
    daemon.until(lambda: len([*redis_server.client.scan_iter(f"{ORDERS}*")]) == 2, "the cache")
    daemon.until(lambda: record_of(redis_server), "the record")
    daemon.until(lambda: [*redis_server.client.scan_iter(f"{POSITIONS}*")], "the position")
    daemon.send(signal.SIGKILL)
    daemon.ended()
    for fill in filled(tmp_path, venue):
        # Nautilus writes behind the trading: a kill can come before it has written the order.
        redis_server.client.delete(ORDERS + fill["order"])
    (tmp_path / f"{venue}.hangs").unlink()

    daemon = live(KEEPS)

    def is_done() -> bool:
        record = record_of(redis_server)
        return record["is_complete"] and is_hedged(*holds(tmp_path))

    daemon.until(is_done, "a hedged position")
    daemon.stop()
    record = record_of(redis_server)
    spot, perp = (filled(tmp_path, each) for each in VENUES)
    assert record["has_fill"]
    wanted = Decimal(record["quantity"])
    assert abs(wanted - holds(tmp_path)[0]) < 2 * STEP
    assert Decimal(record["spot_cost"]) == worth(spot, "BUY")
    assert Decimal(record["perp_proceeds"]) == worth(perp, "SELL") - worth(perp, "BUY")


def test_a_damaged_memory(live: Live, redis_server: RedisServer) -> None:
    """With what it remembers unreadable, nobody would tend its position: the daemon ends, 78, and
    its log says what to do."""
    killed_with_a_position(live, redis_server)
    redis_server.client.set(MEMORIES, "garbage")

    ended = live(BUYS).ended()

    assert ended.code == exits.CONFIGURATION
    assert "NautilusBasisCarryStrategy-000 stopped as it started" in ended.err
    assert "close its positions and remove the key" in ended.err
    assert redis_server.client.get(MEMORIES) == "garbage"
