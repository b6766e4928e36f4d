"""The documented command as a process: a shadow on live and on replayed data, and how it ends."""

import asyncio
import itertools
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from nautilus_trader.live.execution_client import LiveExecutionClient
from nautilus_trader.live.factories import LiveExecClientFactory

from bridge import exits
from bridge.core.control import LIVE_FLAG, SHADOW_FLAG
from bridge.settings import Config
from integrations.nautilus import run_shadow_live
from tests.bridge.processes import ROOT, Ended
from tests.integrations.nautilus.exchange import Exchange
from tests.integrations.nautilus.shadow import SCRIPT, Call, Script, Start, refused
from tests.servers import RedisServer, free_port

SHADOW = ("--venues", "BINANCE", "--symbols", "BTC", "--shadow")
REPLAY = (*SHADOW, "--data", "replay")


class Forbidden(LiveExecClientFactory):
    """An execution client that must not be made."""

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop, name: str, config: Any, **parts: Any
    ) -> LiveExecutionClient:
        raise AssertionError("an execution client was made")


LIVE = {"node__exec_client": f"{__name__}:Forbidden", "node__data": "replay"}


class Run(NamedTuple):
    """A run against the stand-in of Binance, that has ended, and what it left in Redis."""

    exchange: Exchange
    client: redis.Redis
    script: Script
    ended: Ended


@pytest.fixture(scope="module")
def live(
    server: RedisServer, mine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Both legs were opened and closed several times; there were keys in the environment."""
    folder = tmp_path_factory.mktemp("live")
    keys = {"BINANCE_API_KEY": "k3y", "BINANCE_API_SECRET": "s3cret", "DERIBIT_API_KEY": "d3r"}
    client = server.client
    words = (*SHADOW, "--strategy", "mine:Quick")
    given = {"redis__url": server.url, "node__stop_timeout_seconds": "4"} | keys
    with (
        Exchange("BTC") as exchange,
        Script(folder, *words, cwd=mine, **given, **exchange.settings) as script,
    ):
        script.until(lambda: client.xlen("shadow:exec:fills") >= 12, "fills")
        yield Run(exchange, client, script, script.stop(signal.SIGTERM))


def test_live_quotes_reach_redis(live: Run) -> None:
    """The adapters' quotes of both markets are in the role's market streams."""
    for name in ("BTCUSDT", "BTCUSDT-PERP"):
        for _, fields in live.client.xrevrange(f"shadow:market.raw.crypto.{name}", count=10):
            assert Decimal(fields["bid_px"]) in live.exchange.bids[name]
            assert Decimal(fields["ask_px"]) in live.exchange.asks[name]


def test_orders_are_filled_at_quotes(live: Run) -> None:
    """Purchases at a quoted ask, sales at a quoted bid, whatever was traded in between."""
    fills = [fields for _, fields in live.client.xrange("shadow:exec:fills")]
    prices = {"BUY": live.exchange.asks, "SELL": live.exchange.bids}
    assert {(fill["symbol"], fill["side"]) for fill in fills} == {
        *itertools.product(("BTCUSDT", "BTCUSDT-PERP"), prices)
    }
    for fill in fills:
        assert Decimal(fill["price"]) in prices[fill["side"]][fill["symbol"]]
    for name in ("BTCUSDT", "BTCUSDT-PERP"):
        assert live.client.xlen(f"shadow:market.raw.trades.{name}") > len(fills)


def test_no_fill_is_free(live: Run) -> None:
    """Taker fees without keys: Binance's standard one on the spot market, tier 0 on futures."""
    for _, fill in live.client.xrange("shadow:exec:fills"):
        rate = Decimal("0.001" if fill["symbol"] == "BTCUSDT" else "0.0005")
        due = Decimal(fill["price"]) * Decimal(fill["qty"]) * rate
        assert abs(Decimal(fill["fee"]) - due) <= Decimal("1e-8")


def test_a_shadow_asks_for_public_data_only(live: Run) -> None:
    """No request is signed or carries a key, none is a POST."""
    paths = {asked.target.partition("?")[0] for asked in live.exchange.asked}
    assert {path.rpartition("/")[2] for path in paths} == {"exchangeInfo", "stream"}
    assert {asked.method for asked in live.exchange.asked} == {"GET"}
    assert not any(asked.is_signed for asked in live.exchange.asked)


def test_keys_are_dropped_and_named(live: Run) -> None:
    """The log has the names of the variables, and no value of theirs."""
    names = ["BINANCE_API_KEY", "BINANCE_API_SECRET", "DERIBIT_API_KEY"]
    assert live.script.times_logged("keys.dropped", variables=names) == 1
    said = live.ended.out + live.ended.err
    assert not any(secret in said for secret in ("k3y", "s3cret", "d3r"))


def test_a_live_shadow_ends_in_order(live: Run) -> None:
    """SIGTERM ends it with 0, without complaint; what was open is closed and published."""
    assert (live.ended.code, live.ended.complaint) == (exits.DONE, "")
    assert live.ended.out.splitlines()[-1].startswith("stopped; everything is published")
    last = live.client.xrevrange("shadow:exec:positions", count=1)[0][1]
    assert last["status"] == "closed"


# Live.


def test_live_without_its_flag(start: Start, redis_server: RedisServer) -> None:
    """No execution client is made and keys are dropped; the flag then asks for a restart, 75."""
    keys = {"BINANCE_API_SECRET": "s3cret"}
    script = start("--live", "--symbols", "BTC", redis__url=redis_server.url, **LIVE, **keys)
    script.until_running()
    script.until(lambda: script.state == "DISABLED: the flag is off", "its state")
    assert script.times_logged("keys.dropped", variables=[*keys]) == 1

    redis_server.client.set(LIVE_FLAG, "1")

    ended = refused(script.ended())
    assert ended.code == exits.RESTART
    assert ended.complaint == f"{LIVE_FLAG} is on now: start again to trade"


# How it ends.


def test_ctrl_c_ends_it(start: Start, redis_server: RedisServer) -> None:
    """A replay ends with 0, with everything published, within the time that `stop` allows."""
    redis_server.client.set(SHADOW_FLAG, "1")
    script = start(*REPLAY, redis__url=redis_server.url).until_running()

    ended = script.stop(signal.SIGINT)

    assert (ended.code, ended.complaint) == (exits.DONE, "")
    assert ended.out.splitlines()[-1].startswith("stopped; everything is published")


def test_a_venue_that_cannot_be_reached(start: Start, redis_server: RedisServer) -> None:
    """Refused or silent: 69 within node.start_timeout_seconds, and the clients are named."""
    words = ("--venues", "BINANCE", "DERIBIT", "--symbols", "BTC", "--shadow")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addresses = {
            "binance__spot_http_url": f"http://127.0.0.1:{free_port()}",
            "deribit__http_url": f"http://127.0.0.1:{free_port()}/api/v2",
            "deribit__ws_url": f"ws://127.0.0.1:{free_port()}/ws/api/v2",
            "binance__futures_http_url": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        script = start(
            *words, redis__url=redis_server.url, node__start_timeout_seconds="1", **addresses
        )
        ended = script.ended()

    assert ended.code == exits.UNAVAILABLE
    assert "did not start within 1.0 s" in ended.err
    assert "not connected: BINANCE_FUTURES, BINANCE_SPOT, DERIBIT" in ended.err


def test_streams_that_cannot_be_had(start: Start, redis_server: RedisServer) -> None:
    """REST answers and the streams do not: 69 too, not a node that looks alive and does nothing."""
    with Exchange("BTC") as exchange:
        given = exchange.settings | {"node__start_timeout_seconds": "2"}
        given["binance__futures_ws_url"] = f"ws://127.0.0.1:{free_port()}"
        ended = start(*SHADOW, redis__url=redis_server.url, **given).ended()

    assert ended.code == exits.UNAVAILABLE
    assert "no market data from BINANCE_FUTURES within 2.0 s" in ended.err


def test_a_symbol_that_the_venue_lacks(start: Start, redis_server: RedisServer) -> None:
    """69; Nautilus's own log, above our message, says which one."""
    with Exchange("BTC") as exchange:
        given = exchange.settings | {"node__start_timeout_seconds": "2"}
        words = ("--symbols", "BTC", "DOGE", "--shadow")
        ended = start(*words, redis__url=redis_server.url, **given).ended()

    assert ended.code == exits.UNAVAILABLE
    assert "not connected: BINANCE_FUTURES, BINANCE_SPOT" in ended.err
    assert "DOGEUSDT" in ended.err


def test_a_symbol_that_the_dataset_lacks(start: Start, redis_server: RedisServer) -> None:
    """78; the message names what there is."""
    words = ("--symbols", "DOGE", "--shadow", "--data", "replay")
    ended = refused(start(*words, redis__url=redis_server.url).ended())

    assert ended.code == exits.CONFIGURATION
    assert ended.complaint.startswith("node.symbols: the dataset has no DOGEUSDT.BINANCE_SPOT")


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (REPLAY, {}, exits.UNAVAILABLE, "redis.url: "),
        (("--live",), {}, exits.CONFIGURATION, "role: live on real venues arrives in a later"),
        (("--shadow", "--venues", "KRAKEN"), {}, exits.CONFIGURATION, "node.venues: ['KRAKEN']"),
        (
            ("--shadow",),
            {"shadow__execution": "venue"},
            exits.CONFIGURATION,
            "role: shadow.execution = venue on real venues arrives in a later",
        ),
    ],
)
def test_what_is_refused_at_once(
    call: Call, words: tuple[str, ...], settings: dict[str, str], code: int, said: str
) -> None:
    """Redis away, live without an execution client, a venue that nobody knows."""
    ended = refused(call(*words, redis__url=f"redis://127.0.0.1:{free_port()}/0", **settings))

    assert ended.code == code
    assert ended.complaint.startswith(said)


def test_the_role_must_be_named(call: Call) -> None:
    """Neither --shadow nor --live: usage, 2."""
    with pytest.raises(SystemExit) as caught:
        call("--symbols", "BTC")

    assert caught.value.code == exits.USAGE


def test_nautilus_is_not_installed() -> None:
    """An interpreter without any package: 2 and what to install, in one line."""
    words = [sys.executable, "-S", str(SCRIPT), *SHADOW]
    ended = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=15)

    assert ended.returncode == exits.USAGE
    assert ended.stderr == ("nautilus_trader is not installed: pip install -r requirements.txt\n")


# Where its settings come from.


def settings_of(*words: str, **environ: str) -> Config:
    return run_shadow_live.settings_of(run_shadow_live.parser().parse_args(words), environ)


def test_settings_by_default() -> None:
    """The documented Redis, and the repository's dataset wherever the script is started."""
    settings = settings_of("--shadow")

    assert settings.redis.secret_url == "redis://127.0.0.1:6379/0"
    assert settings.replay.dataset == ROOT / "data" / "demo"
    assert (settings.role, settings.data, settings.stream_prefix) == ("shadow", "venue", "shadow:")
    assert settings.node.venues == ("BINANCE",)


def test_options_win() -> None:
    """They beat the environment, that beats the defaults."""
    settings = settings_of(
        *(*SHADOW, "--data", "replay", "--strategy", "a.b:C"),
        BRIDGE_NODE__SYMBOLS="ETH",
        BRIDGE_NODE__DATA="venue",
        BRIDGE_REDIS__URL="redis://127.0.0.1:1/0",
    )

    assert settings.node.symbols == ("BTC",)
    assert (settings.data, settings.source.strategy) == ("replay", "a.b:C")
    assert settings.redis.secret_url == "redis://127.0.0.1:1/0"


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    """With --config the script has no defaults of its own."""
    path = tmp_path / "shadow.toml"
    path.write_text('[redis]\nurl = "redis://127.0.0.1:2/0"\n[replay]\ndataset = "here"\n')

    settings = settings_of("--shadow", "--config", str(path))

    assert settings.redis.secret_url == "redis://127.0.0.1:2/0"
    assert settings.replay.dataset == Path("here")
