"""What the node of each role is made of, and every reason not to make one."""

import asyncio
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nautilus_trader.adapters.binance import BinanceLiveDataClientFactory
from nautilus_trader.adapters.deribit import DeribitLiveDataClientFactory
from nautilus_trader.live.execution_client import LiveExecutionClient
from nautilus_trader.live.factories import LiveExecClientFactory
from structlog.testing import capture_logs

from bridge import config, exits
from bridge.exits import Exit
from integrations.nautilus.roles import Plan, plan_of
from integrations.nautilus.sandbox import SandboxLiveExecClientFactory

HERE = __name__
URL = "redis://127.0.0.1:6379/0"
SPOT, FUTURES, DERIBIT = "BINANCE_SPOT", "BINANCE_FUTURES", "DERIBIT"

type MakePlan = Callable[..., Plan]


class Execution(LiveExecClientFactory):
    """Stands for an execution client of the user's."""

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop, name: str, config: Any, **parts: Any
    ) -> LiveExecutionClient:
        raise NotImplementedError


@pytest.fixture
def plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlan:
    """Return `plan(role, executes, **settings)`; BINANCE_API_KEY is in the environment."""
    monkeypatch.setenv("BINANCE_API_KEY", "secret")

    def plan(role: str, *, executes: bool = True, **settings: str) -> Plan:
        given = {"role": role, "replay.dataset": str(folder)}
        given |= {} if role == "demo" else {"redis.url": URL, "node.symbols": "BTC,SOL"}
        given |= {name.replace("__", "."): value for name, value in settings.items()}
        return plan_of(config.load(None, environ={}, overrides=given), executes=executes)

    return plan


def symbols(plan: Plan) -> list[str]:
    return [each.value for each in plan.universe.traded]


def executors(plan: Plan) -> dict[str, type]:
    return {venue: factory for venue, (_, factory) in plan.execution.items()}


def data_factories(plan: Plan) -> dict[str, type]:
    return {venue: factory for venue, (_, factory) in plan.data.items()}


def test_the_demo_trades_all_of_the_dataset(plan):
    """At full size, in a sandbox of each venue; the environment is nobody's business."""
    made = plan("demo")

    assert len(made.universe.traded) == len(made.instruments) == 6
    assert made.size_fraction == 1
    assert executors(made) == dict.fromkeys((FUTURES, SPOT), SandboxLiveExecClientFactory)
    assert data_factories(made).keys() == {SPOT, FUTURES}
    assert "BINANCE_API_KEY" in os.environ


def test_a_shadow_replays_its_own_symbols(plan):
    """A tenth of the size, and only what it trades; what the dataset lacks is left out and told."""
    with capture_logs() as said:
        made = plan("shadow", node__data="replay", node__venues="BINANCE,DERIBIT")

    assert symbols(made) == [
        "BTCUSDT.BINANCE_SPOT",
        "BTCUSDT-PERP.BINANCE_FUTURES",
        "SOLUSDT.BINANCE_SPOT",
        "SOLUSDT-PERP.BINANCE_FUTURES",
    ]
    assert made.symbols == ["BTCUSDT", "BTCUSDT-PERP", "SOLUSDT", "SOLUSDT-PERP"]
    assert made.universe.watched == ()
    assert {each.id.value for each in made.instruments} == {*symbols(made)}
    assert made.size_fraction == Decimal("0.1")
    assert executors(made) == dict.fromkeys((SPOT, FUTURES), SandboxLiveExecClientFactory)
    [left_out] = [each for each in said if each["event"] == "replay.without"]
    assert left_out["instruments"] == ["BTC-PERPETUAL.DERIBIT", "SOL_USDC-PERPETUAL.DERIBIT"]


def test_a_shadow_takes_the_venues_data(plan):
    """Without keys, in sandboxes where it trades; a venue that gives data only has none."""
    made = plan("shadow", node__venues="BINANCE,DERIBIT")

    assert made.instruments == []
    assert data_factories(made) == {
        SPOT: BinanceLiveDataClientFactory,
        FUTURES: BinanceLiveDataClientFactory,
        DERIBIT: DeribitLiveDataClientFactory,
    }
    assert executors(made) == dict.fromkeys((SPOT, FUTURES), SandboxLiveExecClientFactory)
    assert "BINANCE_API_KEY" not in os.environ


def test_perpetuals_can_be_traded_on_deribit(plan):
    """With shadow.perp_venue; Binance's then give data only."""
    made = plan("shadow", node__venues="BINANCE,DERIBIT", shadow__perp_venue="DERIBIT")

    assert executors(made).keys() == {SPOT, DERIBIT}
    assert data_factories(made).keys() == {SPOT, FUTURES, DERIBIT}


def test_a_sandbox_is_an_account_of_its_venue(plan):
    """Cash on the spot market, margin elsewhere, with money in what is traded there."""
    made = plan("shadow", node__venues="BINANCE,DERIBIT", shadow__perp_venue="DERIBIT")
    accounts = {venue: client for venue, (client, _) in made.execution.items()}

    assert [accounts[venue].account_type for venue in (SPOT, DERIBIT)] == ["CASH", "MARGIN"]
    assert accounts[SPOT].starting_balances == ["500000 USDT"]
    assert {each.split()[1] for each in accounts[DERIBIT].starting_balances} >= {"BTC", "USDC"}


@pytest.mark.parametrize(
    ("role", "more", "fraction"),
    [("live", {}, "1"), ("shadow", {"shadow__execution": "venue"}, "0.1")],
)
def test_execution_at_the_venue(plan, role, more, fraction):
    """Each venue that is traded has the client of node.exec_client, which finds its keys."""
    made = plan(role, node__exec_client=f"{HERE}:Execution", **more)

    assert executors(made) == dict.fromkeys((SPOT, FUTURES), Execution)
    assert made.size_fraction == Decimal(fraction)
    assert "BINANCE_API_KEY" in os.environ


def test_live_without_its_flag_has_nothing_to_trade_through(plan):
    """No execution client, not even a loaded module, and no key in the environment."""
    made = plan("live", executes=False, node__exec_client="no.such.module:Thing")

    assert made.execution == {}
    assert data_factories(made).keys() == {SPOT, FUTURES}
    assert "BINANCE_API_KEY" not in os.environ


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such.module:Thing", "cannot load no.such.module:Thing: ModuleNotFoundError"),
        (f"{HERE}:Missing", f"cannot load {HERE}:Missing: AttributeError"),
        (f"{HERE}:HERE", f"{HERE}:HERE is no LiveExecClientFactory"),
        (f"{HERE}:Plan", f"{HERE}:Plan is no LiveExecClientFactory"),
    ],
)
def test_an_execution_client_that_cannot_be_had(plan, path, words):
    """Exit 78 names node.exec_client and what is wrong with it."""
    with pytest.raises(Exit) as caught:
        plan("live", node__exec_client=path)

    assert caught.value.code == exits.CONFIGURATION
    assert str(caught.value).startswith(f"node.exec_client: {words}")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"node__symbols": "BTC,DOGE"}, "node.symbols: the dataset has no DOGEUSDT.BINANCE_SPOT"),
        ({"node__venues": "DERIBIT"}, "node.symbols: the dataset has no BTC-PERPETUAL.DERIBIT"),
        ({"market__instruments": "ETHUSDT.BINANCE_SPOT"}, "market.instruments: this role has no"),
    ],
)
def test_what_the_dataset_does_not_have(plan, settings, words):
    """Exit 78 names the setting and what is missing."""
    with pytest.raises(Exit) as caught:
        plan("shadow", node__data="replay", **settings)

    assert caught.value.code == exits.CONFIGURATION
    assert str(caught.value).startswith(words)


def test_a_dataset_that_is_damaged(plan, tmp_path):
    """Exit 65 names the folder to remove."""
    (tmp_path / "MANIFEST.json").write_text("{")

    with pytest.raises(Exit, match=f"remove the folder {tmp_path}") as caught:
        plan("shadow", node__data="replay", replay__dataset=str(tmp_path))

    assert caught.value.code == exits.BAD_DATA
