"""The documented script when its Redis goes wrong in the middle of a run that is published."""

import functools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from nautilus_trader.common.component import TimeEvent

from acceptance import record
from bridge import exits
from bridge.preflight import client_of
from integrations.nautilus import run_backtest
from integrations.nautilus.bridge import NautilusRedisBridge
from integrations.nautilus.run_backtest import ENGINE_FLAG
from strategies.example import Example, ExampleConfig
from tests.bridge.processes import Ended, eventually
from tests.integrations.nautilus.backtest_script import Call, caller
from tests.servers import RedisServer

STEP = 20  # of some 150


class DisturbedConfig(ExampleConfig, frozen=True):
    pass


class Disturbed(Example):
    """The example, which at one of its steps does what the test wants."""

    disturb: Callable[["Disturbed"], None]
    is_over = False

    def on_stop(self) -> None:
        if not self.is_over:
            super().on_stop()

    def _on_step(self, event: TimeEvent) -> None:
        super()._on_step(event)
        if self._step == STEP:
            self.disturb()


@pytest.fixture
def server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis of the test's own, that keeps nothing over a restart and allows backtests."""
    server = make_redis()
    server.client.set(ENGINE_FLAG, "1")
    return server


@pytest.fixture
def bridges(monkeypatch: pytest.MonkeyPatch) -> list[NautilusRedisBridge]:
    """The bridges that the script makes."""
    made: list[NautilusRedisBridge] = []

    def make(url: str) -> NautilusRedisBridge:
        made.append(NautilusRedisBridge(url))
        return made[-1]

    monkeypatch.setattr(run_backtest, "NautilusRedisBridge", make)
    return made


@pytest.fixture
def publish(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset: Path,
    tmp_path: Path,
    server: RedisServer,
) -> Call:
    """Return `publish(disturb)`: a run, published. `disturb` is called with the strategy; the
    test's patience is short."""
    monkeypatch.setattr("integrations.nautilus.bridge.DRAIN_SECONDS_MAX", 1.0)
    hasty = functools.partial(client_of, answer_seconds_max=1.0)
    monkeypatch.setattr(run_backtest, "client_of", hasty)
    call = caller(monkeypatch, capsys, dataset, tmp_path)

    def run(disturb: Callable[[Disturbed], None]) -> Ended:
        monkeypatch.setattr(Disturbed, "disturb", disturb, raising=False)
        return call("--strategy", f"{__name__}:Disturbed", "--publish", server.url)

    return run


@pytest.mark.parametrize("is_last", [False, True])
def test_a_redis_that_forgets_is_a_failure(
    publish: Call,
    bridges: list[NautilusRedisBridge],
    server: RedisServer,
    tmp_path: Path,
    is_last: bool,
) -> None:
    """Restarted empty, it lacks what it had confirmed, whether more follows or nothing does: 1,
    and that is said; the result is written."""

    def restart() -> None:
        eventually(lambda: server.client.keys("backtest:*:exec:fills"), "fills to be published")
        eventually(lambda: not any(bridges[0].unpublished.values()), "the rest to be published")
        server.kill()
        server.start()

    def disturb(strategy: Disturbed) -> None:
        if not is_last:
            restart()
            return
        strategy.clock.cancel_timer("step")
        strategy.is_over = True
        later = strategy.clock.utc_now() + timedelta(seconds=5)
        strategy.clock.set_time_alert("restart", later, lambda _: restart())

    ended = publish(disturb)

    assert ended.code == exits.FAILED
    assert ended.complaint.startswith("not published, and lost: ")
    assert "exec entries that it had confirmed; Redis takes entries now; " in ended.complaint
    assert "fills; in USDT: " in ended.out
    assert record.load(tmp_path / "result.json").run.fills


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("killed", "start Redis there, or correct the address"),
        ("frozen", "Timeout reading from "),
        ("full", "raise its maxmemory, or free some"),
    ],
)
def test_what_is_wrong_with_redis_is_named(
    publish: Call, server: RedisServer, tmp_path: Path, trouble: str, said: str
) -> None:
    """1, with the cause and what to do; the finished result is written all the same."""
    disturb = {
        "killed": lambda _: server.kill(),
        "frozen": lambda _: server.pause(),
        "full": lambda _: server.client.config_set("maxmemory", 1),
    }[trouble]

    ended = publish(disturb)

    assert ended.code == exits.FAILED
    assert ended.complaint.startswith("not published, and lost: ")
    assert said in ended.complaint
    assert (record.load(tmp_path / "result.json").run.fills or 0) > 100
