"""Settings that are read again: what takes effect at once, what waits, what is said about it."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.config import ConfigError, load
from bridge.core.control import MODE_KEY, State
from bridge.reloading import merged, reread
from bridge.settings import Config
from tests.bridge.watching import FLAG, Rig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer


def of(**settings: str) -> Config:
    """Return settings, such as log__level="debug"."""
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    return load(None, environ={}, overrides=overrides)


def events(was: Config, now: Config) -> tuple[Config, list[dict[str, object]]]:
    """Return the settings behind a reading, and what the log says."""
    with capture_logs() as said:
        return reread(was, lambda: now), [dict(each) for each in said]


LIVE = {
    "limits__max_position": "1",
    "limits__max_drawdown": "0.05",
    "log__level": "debug",
    "control__halt_action": "flatten",
    "control__normal_modes": "go",
    "control__on_disable": "hold",
}
BUILT_IN = {
    "streams__prefix": "x:",
    "status__port": "1",
    "log__format": "json",
    "control__poll_seconds": "1",
    "node__symbols": "ETH",
    "redis__url": "redis://:secret@host",
    "notify__urls": "json://secret",
    "notify__kinds": "halt",
}


@pytest.mark.parametrize("name", LIVE)
def test_what_takes_effect_at_once(name: str) -> None:
    """It is in the settings that come back, and the log names it alone."""
    wanted = of(**{name: LIVE[name]})

    now, said = events(of(), wanted)

    assert now == wanted
    assert [each["event"] for each in said] == ["reload.done"]
    assert said[0]["changed"] == [name.replace("__", ".")]


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_waits_for_a_restart(name: str) -> None:
    """All stays as it was, and the log names what waits, without its value."""
    was = of()

    now, said = events(was, of(**{name: BUILT_IN[name]}))

    assert now == was
    assert said[0]["changed"] == []
    assert said[1]["event"] == "reload.needs_restart"
    assert said[1]["settings"] == [name.replace("__", ".")]
    assert "secret" not in str(said)


def test_another_role() -> None:
    """It is refused as a whole: an empty file, or one that was cut, is one of the demo."""
    was = of(role="shadow", redis__url="redis://host", limits__max_position="1")

    now, said = events(was, of(limits__max_position="2"))

    assert now is was
    assert [each["event"] for each in said] == ["reload.refused"]
    assert said[0]["problems"] == ["role: it is demo, and this process runs as shadow"]


def test_a_limit_that_is_gone_stays() -> None:
    """A file that lost its lines must not loosen anything; the log names what waits."""
    now, said = events(of(limits__max_position="1", limits__max_drawdown="0.01"), of())

    assert (now.limits.max_position, now.limits.max_drawdown) == (1, Decimal("0.01"))
    assert said[-1]["event"] == "reload.needs_restart"
    assert said[-1]["settings"] == ["limits.max_position", "limits.max_drawdown"]


def test_a_limit_that_is_looser() -> None:
    """It is taken over, with a warning that names it."""
    now, said = events(of(limits__max_position="1"), of(limits__max_position="2"))

    assert now.limits.max_position == 2
    assert said[-1] == {
        "event": "reload.loosened",
        "limits": ["max_position"],
        "log_level": "warning",
    }


def test_what_cannot_be_read() -> None:
    """With an error in them all stays, and the log has the lines that say what is wrong."""

    def read() -> Config:
        raise ConfigError(["limits.max_position: no"])

    was = of()
    with capture_logs() as said:
        assert reread(was, read) is was
    assert said[0]["event"] == "reload.refused"
    assert said[0]["problems"] == ["limits.max_position: no"]


def test_the_demo_keeps_its_wide_limits() -> None:
    """A reading that names one limit does not turn the demo's others into the common ones."""
    now = merged(of(), of(limits__max_position="7"))

    assert now.limits_in_force.max_position == 7
    assert now.limits_in_force.max_order_rate == 1000


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The shared server, with the flag on, and a limit of its own."""
    redis_server.client.mset({FLAG: "1", "risk:max_position:BTCUSDT": "5"})
    return redis_server


@on_uvloop
async def test_it_reaches_who_decides(server: RedisServer, tmp_path: Path) -> None:
    """The source gets the new limits at once, below those of Redis; a halt does the new action."""
    rig = Rig(server, tmp_path)
    async with rig.watching():
        await rig.until(State.ACTIVE)
        changed = of(limits__max_order_notional="77", control__halt_action="flatten")
        rig.controller.configure(merged(rig.config, changed))

        assert rig.desk.limits[-1].max_order_notional == Decimal(77)
        assert rig.desk.limits[-1] == replace(rig.desk.limits[-2], max_order_notional=Decimal(77))
        rig.set(MODE_KEY, "halt")
        await until(lambda: rig.desk.actions[-1:] == ["flatten"])
