"""Two roles beside each other on one Redis, and what no two bridges may share."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge import exits
from tests.bridge.processes import Daemon
from tests.integrations.nautilus.shadow import Call, Script, refused
from tests.servers import RedisServer

# What is not refused ends at once, too.
NOWHERE = {"source__factory": "no.such.module:factory", "node__exec_client": "no.such.module:Thing"}


class Pair(NamedTuple):
    """A shadow with folders of its own, beside a demo on the same Redis."""

    shadow: Script
    demo: Daemon
    state: Path
    journal: Path


@pytest.fixture(scope="module")
def pair(
    server: RedisServer, dataset: Path, mine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Both have bought bitcoin on the spot market; for reading only."""
    folders = [tmp_path_factory.mktemp(name) for name in ("shadow", "demo", "state", "journal")]
    given = {"redis__url": server.url, "replay__dataset": str(dataset)}
    given |= {"source__strategy": "mine:Quick", "PYTHONPATH": str(mine)}
    words = ("--venues", "BINANCE", "DERIBIT", "--symbols", "BTC", "ETH", "--shadow")
    records = {"state__directory": str(folders[2]), "journal__directory": str(folders[3])}
    with (
        Script(folders[0], *words, "--data", "replay", **given, **records) as shadow,
        Daemon(folders[1], **given) as demo,
    ):
        for each, prefix in ((shadow, "shadow:"), (demo, "demo:")):
            each.until(lambda key=f"{prefix}exec:fills": spot_buy(server, key), "a fill")
        yield Pair(shadow, demo, *folders[2:])


def spot_buy(server: RedisServer, key: str) -> dict[str, str] | None:
    """Return the first purchase of bitcoin on the spot market."""
    wanted = {"symbol": "BTCUSDT", "side": "BUY"}.items()
    return next((fill for fill in entries(server, key) if fill.items() >= wanted), None)


def entries(server: RedisServer, key: str) -> list[dict[str, str]]:
    return [fields for _, fields in server.client.xrange(key)]


def test_two_roles_have_nothing_in_common(pair: Pair, server: RedisServer) -> None:
    """Every stream is below the prefix of its role, and all in it is by the role's trader."""
    streams = list(server.client.scan_iter(_type="stream", count=1000))
    assert {key.partition(":")[0] for key in streams} == {"shadow", "demo"}
    for role in ("shadow", "demo"):
        assert {f"{role}:exec:orders", f"{role}:market.raw.crypto.BTCUSDT"} <= {*streams}
        fills = entries(server, f"{role}:exec:fills")
        assert {fill["trader_id"] for fill in fills} == {f"{role.upper()}-001"}


def test_a_shadow_trades_a_tenth(pair: Pair, server: RedisServer) -> None:
    """The strategy's size is multiplied by shadow.size_fraction: 50 USDT where the demo has 500."""
    for role, notional in (("demo", 500), ("shadow", 50)):
        fill = spot_buy(server, f"{role}:exec:fills")
        assert fill is not None
        spent = Decimal(fill["qty"]) * Decimal(fill["price"])
        assert Decimal("0.95") < spent / notional < Decimal("1.01")


def test_what_the_dataset_lacks_is_left_out(pair: Pair) -> None:
    """Deribit gives no data to a replay, and the log says so."""
    instruments = ["BTC-PERPETUAL.DERIBIT", "ETH-PERPETUAL.DERIBIT"]
    assert pair.shadow.times_logged("replay.without", instruments=instruments) == 1


@pytest.mark.parametrize(
    ("role", "settings", "shared"),
    [
        (
            "--shadow",
            {"node__trader_id": "OTHER-001", "streams__prefix": "other:"},
            "bridge:lease:role:shadow",
        ),
        (
            "--live",
            {"node__trader_id": "SHADOW-001", "producer__id": "OTHER"},
            "bridge:lease:trader:SHADOW-001",
        ),
        ("--live", {"streams__prefix": "shadow:"}, "bridge:lease:prefix:shadow:"),
        ("--live", {"producer__id": "SHADOW-001"}, "bridge:lease:SHADOW-001"),
        ("--live", {"state__directory": "{state}"}, "state.directory"),
        (
            "--live",
            {"journal__directory": "{journal}", "streams__prefix": "shadow:"},
            "journal.directory",
        ),
        ("--live", {"state__directory": "{journal}"}, "state.directory"),
    ],
)
def test_what_no_two_bridges_may_share(
    call: Call,
    pair: Pair,
    server: RedisServer,
    role: str,
    settings: dict[str, str],
    shared: str,
) -> None:
    """Refused with 73; the message names what is shared, and the bridge that runs goes on."""
    folders = {"state": str(pair.state), "journal": str(pair.journal)}
    settings = {name: value.format(**folders) for name, value in settings.items()}

    ended = refused(call(role, redis__url=server.url, **NOWHERE, **settings))

    assert ended.code == exits.TAKEN
    assert ended.complaint.split()[0].rstrip(":") == shared.rstrip(":")
    assert pair.shadow.health()[0] == 200
