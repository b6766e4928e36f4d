"""The demo, killed again and again: ledger and archive agree with journal and Redis in the end."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import exits
from tests.bridge.kept import FILLS, typed
from tests.bridge.processes import Daemon
from tests.servers import RedisServer

KILLS = 2
SECONDS_MAX = 0.8

type Start = Callable[..., Daemon]


def _killed(start: Start, chance: random.Random, **settings: str) -> Daemon:
    """Kill the demo at random moments behind its first order; return the last one, running."""
    for _ in range(KILLS):
        daemon = _trading(start, **settings)
        time.sleep(chance.uniform(0, SECONDS_MAX))  # the moment is what is tested
        daemon.send(signal.SIGKILL)
        assert daemon.ended().code == -signal.SIGKILL
    return _trading(start, **settings)


def _trading(start: Start, **settings: str) -> Daemon:
    daemon = start("--rate", "5000", **settings).until_running()
    daemon.until(lambda: any(int(each["orders"]) for each in daemon.statuses), "an order")
    return daemon


def _audited(*words: str, **settings: str) -> dict[str, dict[str, int]]:
    """Return what each place holds of the fills, by producer, after an audit that agrees."""
    done = typed("audit", "--json", *words, **settings)
    assert done.code == exits.DONE, done.out + done.err
    rows = json.loads(done.out)["rows"]
    return {row["producer"]: row["held"] for row in rows if row["stream"].endswith(FILLS)}


@pytest.mark.parametrize("seed", [5])
def test_on_a_redis_of_its_own(
    start: Start, redis_server: RedisServer, tmp_path: Path, seed: int
) -> None:
    """Killed a few times beside a Redis that goes on: the audit agrees while it trades, and when
    it has ended; the archive is whole up to each of its heads."""
    settings = {"redis__url": redis_server.url, "state__directory": str(tmp_path / "state")}
    settings["archive__segment_bytes"] = str(1 << 14)
    daemon = _killed(start, random.Random(seed), **settings)
    _audited(**settings)
    assert daemon.stop().code == exits.DONE
    fills = _audited(**settings)
    assert fills
    for held in fills.values():
        assert held["redis"] == held["ledger"] == held["archive"] == held["journal"]
    heads = [row["root"] for _, row in redis_server.client.xrange("demo:exec:archive")]
    assert heads
    words = [word for head in heads for word in ("--head", head)]
    assert typed("archive", "verify", *words, **settings).code == exits.DONE
    assert typed("ledger", **settings).code == exits.DONE


@pytest.mark.parametrize("seed", [11])
def test_on_its_embedded_redis(start: Start, tmp_path: Path, seed: int) -> None:
    """Each kill takes the embedded Redis with it: the next one gets all of it again from the
    journal, and nothing is booked or archived twice."""
    settings = {"state__directory": str(tmp_path / "state")}
    daemon = _killed(start, random.Random(seed), **settings)
    url = f"redis://127.0.0.1:{daemon.port}/0"
    daemon.until(lambda: any(int(each["fills"]) for each in daemon.statuses), "a fill")
    fills = _audited("--url", url, **settings)
    assert sum(held["ledger"] for held in fills.values()) > 0
    assert daemon.stop().code == exits.DONE
    assert typed("archive", "verify", **settings).code == exits.DONE
