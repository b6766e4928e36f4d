"""What alerts read beside the counters: Redis's clock, the journal's bound, which readers read."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge.core.control import State
from bridge.metrics import READERS, Metrics
from bridge.readers import Readers
from tests.bridge.kept import Kept
from tests.bridge.watching import FLAG, Rig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer

AWAY_SECONDS = 60.0


def ahead(rig: Rig) -> float:
    """Return what the metric says."""
    seconds: float = rig.metrics.redis_clock_ahead._value.get()
    return seconds


@on_uvloop
async def test_a_clock_that_is_behind_redis(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our clock a minute slow Redis's is a minute ahead."""
    slow = SimpleNamespace(time=lambda: time.time() - AWAY_SECONDS)
    monkeypatch.setattr("bridge.watcher.time", slow)
    rig = Rig(redis_server, tmp_path)
    async with rig.watching():
        await until(lambda: ahead(rig) != 0)

        assert ahead(rig) == pytest.approx(AWAY_SECONDS, abs=AWAY_SECONDS / 2)


@on_uvloop
async def test_a_user_who_may_not_call_time(redis_server: RedisServer, tmp_path: Path) -> None:
    """The gates open all the same, no error is counted, and the metric stays at zero."""
    words = ("ACL", "SETUSER", "timeless", "on", ">p", "~*", "&*", "+@all", "-time")
    redis_server.new_client(protocol=2).execute_command(*words)
    redis_server.client.set(FLAG, "1")
    url = f"redis://timeless:p@127.0.0.1:{redis_server.port}/0"
    rig = Rig(redis_server, tmp_path, url=url)
    try:
        async with rig.watching():
            await rig.until(State.ACTIVE)
            await rig.idle()

            assert ahead(rig) == 0
            assert all(each._value.get() == 0 for each in rig.metrics.redis_errors.values())
    finally:
        redis_server.client.execute_command("ACL", "DELUSER", "timeless")


@pytest.mark.parametrize(
    ("ledger", "archive", "wanted"),
    [("inside", "inside", [1, 1]), ("alone", "inside", [0, 1]), ("inside", "off", [1, 0])],
)
def test_readers_that_read_inside_are_wanted(
    redis_server: RedisServer, tmp_path: Path, ledger: str, archive: str, wanted: list[int]
) -> None:
    """Of those alone, and those that are off, nothing is expected."""
    kept = Kept(tmp_path, redis_server, ledger={"reader": ledger}, archive={"reader": archive})
    metrics = Metrics()

    Readers(kept.places, metrics)

    assert [metrics.reader_wanted[name]._value.get() for name in READERS] == wanted


def test_an_attached_bridge_wants_no_reader(redis_server: RedisServer, tmp_path: Path) -> None:
    """Whatever the settings say: there nobody reads inside."""
    kept, metrics = Kept(tmp_path, redis_server), Metrics()

    Readers(kept.places, metrics, attached=True)

    assert [metrics.reader_wanted[name]._value.get() for name in READERS] == [0, 0]
