"""Basis carry in whole daemons: the demo, the shadow, and a live node that is killed."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge.core.control import LIVE_FLAG
from strategies.basis_carry import port
from tests.bridge.processes import Daemon
from tests.integrations.nautilus.basis_carry_venue import FOLDER
from tests.integrations.nautilus.shadow import Script, Start
from tests.servers import RedisServer

MEMORIES = "trader-LIVE-001:general:NautilusBasisCarryStrategy-000.memories"
DEMO_PARAMS = Path(port.__file__).with_name("demo.toml")
BUYS = "entry_basis_bps = -1_000\nexit_basis_bps = -2_000\nmax_notional = 5_000\n"
SELLS = "entry_basis_bps = 1_000\nexit_basis_bps = 1_000\n"
# Whatever the market does, an entry is kept. Fees in kind take no hedge below another step, which
# Nautilus, that rounds them, would see elsewhere.
RATIO = Decimal("0.95")
KEEPS = BUYS + f"hedge_divergence_bps = 10_000\nstop_loss_pct = 0.9\nhedge_ratio = {RATIO}\n"
HURRIED = "interval_seconds = 0.1\nfunding_guard_seconds = 0\n"
STEP = Decimal("0.001")  # of the perpetual

type Live = Callable[[str], Daemon]


def fills_of(server: RedisServer, key: str = "exec:fills") -> list[dict[str, str]]:
    """Return the fills that are published."""
    return [fields for _, fields in server.client.xrange(key)]


def held(fills: list[dict[str, str]], symbol: str) -> Decimal:
    """Return what these fills add up to, without the fees that were taken in kind.

    Behind a kill Nautilus may infer a fill that the bridge had published before: it is provisional,
    and the order's own fills take its place.
    """
    total = Decimal(0)
    told = {fill["cl_ord_id"] for fill in fills if fill["provisional"] == "0"}
    for fill in fills:
        is_second = fill["provisional"] == "1" and fill["cl_ord_id"] in told
        if fill["symbol"] == symbol and not is_second:
            total += Decimal(fill["qty"]) * (1 if fill["side"] == "BUY" else -1)
            total -= Decimal(fill["fee"]) if fill["fee_ccy"] == fill["base_ccy"] else 0
    return total


def test_the_demo(redis_server: RedisServer, dataset: Path, tmp_path: Path) -> None:
    """By its short name it trades both legs of the replay, with the demo's parameters."""
    words = ("--strategy", "basis_carry", "--rate", "2000")
    given = {"redis__url": redis_server.url, "replay__dataset": str(dataset)}
    with Daemon(tmp_path, *words, **given) as daemon:
        daemon.until(lambda: len(fills_of(redis_server, "demo:exec:fills")) > 3, "fills")
        assert f"strategy {port.__name__}:{port.NautilusBasisCarryStrategy.__name__}" in daemon.out

    legs = {
        fill["symbol"].removeprefix(fill["base_ccy"])
        for fill in fills_of(redis_server, "demo:exec:fills")
    }
    assert legs == {"USDT", "USDT-PERP"}


def test_a_shadow(start: Start, redis_server: RedisServer) -> None:
    """The documented script trades it, too; a tenth of the size at most."""
    words = ("--shadow", "--data", "replay", "--symbols", "SOL", "--strategy", "basis_carry")
    settings = {"source__params": str(DEMO_PARAMS), "replay__rate": "2000"}
    redis_server.client.set("features:nautilus_shadow_exec", "1")
    script: Script = start(*words, redis__url=redis_server.url, **settings)

    script.until(lambda: fills_of(redis_server, "shadow:exec:fills"), "a fill")

    first, *_ = fills_of(redis_server, "shadow:exec:fills")
    assert Decimal(first["qty"]) * Decimal(first["price"]) <= 500


@pytest.fixture
def live(redis_server: RedisServer, dataset: Path, tmp_path: Path) -> Iterator[Live]:
    """Return `live(params)`: a daemon that trades bitcoin on a venue that remembers."""
    redis_server.client.set(LIVE_FLAG, "1")
    settings = {
        "node__data": "replay",
        "node__symbols": "BTC",
        "node__exec_client": "tests.integrations.nautilus.basis_carry_venue:Factory",
        "redis__url": redis_server.url,
        "cache__url": redis_server.url,
        "state__directory": str(tmp_path / "state"),  # what Nautilus tells twice is published once
        "replay__dataset": str(dataset),
        "replay__rate": "2000",
        "source__strategy": "basis_carry",
        "source__params": str(tmp_path / "params.toml"),
    }
    with ExitStack() as daemons:

        def run(params: str) -> Daemon:
            (tmp_path / "params.toml").write_text(HURRIED + params)
            given = settings | {"BRIDGE_ROLE": "live", FOLDER: str(tmp_path)}
            return daemons.enter_context(Daemon(tmp_path, **given))

        yield run


def record_of(server: RedisServer) -> Any:
    """Return the record that Nautilus's cache has kept, None where there is none."""
    content = server.client.get(MEMORIES)
    return content and json.loads(content)["BTC"]["record"]


def is_hedged(spot: Decimal, perp: Decimal) -> bool:
    """Return whether the perpetual stands where KEEPS wants it."""
    return perp == -(RATIO * spot // STEP * STEP)


def killed_with_a_position(live: Live, server: RedisServer) -> list[dict[str, str]]:
    """Have a daemon buy, kill it, and return what it has published.

    Nothing is on its way by then: Nautilus writes behind the trading, and forgets what came last.
    """
    daemon = live(KEEPS)

    def is_whole() -> bool:
        record, fills = record_of(server), fills_of(server)
        spot, perp = held(fills, "BTCUSDT"), held(fills, "BTCUSDT-PERP")
        return bool(record) and record["is_complete"] and is_hedged(spot, perp)

    daemon.until(is_whole, "a hedged position")
    daemon.send(signal.SIGKILL)
    daemon.ended()
    return fills_of(server)


def flat_after(live: Live, params: str, server: RedisServer) -> list[dict[str, str]]:
    """Have another daemon sell all; return the fills that it has added."""
    before = len(fills_of(server))
    daemon = live(params)

    def is_flat() -> bool:
        content = server.client.get(MEMORIES)
        return content is not None and json.loads(content)["BTC"]["flat_ns"] is not None

    daemon.until(is_flat, "a flat position")
    daemon.stop()
    fills = fills_of(server)
    assert held(fills, "BTCUSDT-PERP") == 0
    assert 0 <= held(fills, "BTCUSDT") < Decimal("0.00001")
    return fills[before:]


def tags_of(server: RedisServer) -> set[str]:
    """Return the reasons that orders of Nautilus's cache are tagged with."""
    known = ("rich_basis", "basis_reverted", "orphan")
    client = server.new_client(decode_responses=False)
    keys = list(client.scan_iter("trader-LIVE-001:orders:*"))
    events = [event for key in keys for event in client.lrange(key, 0, -1)]
    return {tag for tag in known for event in events if tag.encode() in event}


def test_a_record_survives_a_kill(live: Live, redis_server: RedisServer) -> None:
    """A node that is killed while it holds goes on with its record: it buys nothing on top, and
    leaves for the reason that belongs to the entry, with the spot that the fees have left."""
    killed_with_a_position(live, redis_server)
    record = json.loads(redis_server.client.get(MEMORIES))["BTC"]["record"]
    assert record["reason"] == "rich_basis"

    added = flat_after(live, SELLS, redis_server)

    assert {fill["side"] for fill in added if fill["symbol"] == "BTCUSDT"} == {"SELL"}
    assert tags_of(redis_server) == {"rich_basis", "basis_reverted"}


def test_a_position_without_a_record(live: Live, redis_server: RedisServer) -> None:
    """Where the record is lost, what is held is closed as an orphan, though the market says buy."""
    killed_with_a_position(live, redis_server)
    redis_server.client.delete(MEMORIES)

    added = flat_after(live, BUYS + "cooldown_seconds = 3_600\n", redis_server)

    assert {fill["side"] for fill in added if fill["symbol"] == "BTCUSDT"} == {"SELL"}
    assert tags_of(redis_server) == {"rich_basis", "orphan"}
