"""1,000 malformed requests, 200 slow clients, floods against a daemon that trades: no change."""

import contextlib
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bridge.core.contract import METRICS_KEY
from bridge.endpoints import sync_client
from bridge.status.connection import CONNECTIONS_MAX
from tests.bridge.processes import SHADOW_FLAG, Daemon
from tests.bridge.status import hostile
from tests.bridge.status.serving import Stream

REQUESTS = 1_000
SLOW_CLIENTS = 200
THREADS = 4
ANSWER_SECONDS = 0.05
# What the allocator may keep of a thousand requests; each of them kept would be more.
GROWTH_BYTES_MAX = 24 << 20


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A demo that trades as fast as it can be read."""
    settings = {"replay__rate": "20", "node__stop_timeout_seconds": "2"}
    with Daemon(tmp_path_factory.mktemp("daemon"), **settings) as running:
        running.until_running()
        with contextlib.closing(sync_client(f"redis://127.0.0.1:{running.port}/0")) as redis:
            # The last of its connections to be opened.
            running.until(lambda: bool(redis.exists(METRICS_KEY)), "its metrics in Redis")
        yield running


def address_of(daemon: Daemon) -> tuple[str, int]:
    parts = urlsplit(daemon.url)
    return str(parts.hostname), int(parts.port or 0)


def descriptors(daemon: Daemon) -> int:
    """Return how many files and sockets are open."""
    return len([*Path(f"/proc/{daemon.pid}/fd").iterdir()])


def resident_bytes(daemon: Daemon) -> int:
    """Return the memory in use."""
    pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def complaints(daemon: Daemon) -> list[object]:
    """Return what the log says of anything but the ordinary."""
    return [each for each in daemon.logged if each["level"] in ("error", "critical")]


async def loop_delay(daemon: Daemon) -> str:
    """Return how late the trading loop was in the last while, as the page shows it."""
    async with Stream(address_of(daemon)) as stream:
        await stream.document()
        delay = (await stream.document())["latency_ms"]["loop_p99"]
    return f"p99 of the trading loop's delay: {delay} ms"


def tell(text: str) -> None:
    """Show it when the test fails, and with -s."""
    print(text)  # noqa: T201


@pytest.mark.parametrize("kind", hostile.FLOODS)
async def test_a_flood_hides_no_halt(daemon: Daemon, kind: str) -> None:
    """While one client, who shows no token, sends without end, the loop sees the flag go and come
    back."""
    address = address_of(daemon)
    redis = sync_client(f"redis://127.0.0.1:{daemon.port}/0", decode_responses=True)

    def state() -> str:
        return str(redis.hget("bridge:state:demo", "state"))

    with contextlib.closing(redis):
        async with Stream(address) as stream:
            await stream.document()
            with hostile.flooding(address, kind):
                for flag, wanted in (("0", "DISABLED"), ("1", "ACTIVE")):
                    began = time.monotonic()
                    redis.set(SHADOW_FLAG, flag)
                    daemon.until(lambda wanted=wanted: state() == wanted, wanted)
                    tell(f"{wanted} after {(time.monotonic() - began) * 1e3:.0f} ms")
            ended = time.time_ns()
            while (document := await stream.document())["ts_ns"] < ended:
                pass
    tell(f"{kind}: p99 of the loop's delay: {document['latency_ms']['loop_p99']} ms")
    assert document["node"]["ready"]
    assert complaints(daemon) == []


async def test_malformed_requests_change_nothing(daemon: Daemon) -> None:
    """The daemon is healthy and trades on, has no more descriptors or memory, and logs nothing."""
    seed = random.SystemRandom().randrange(1 << 32)
    tell(f"seed {seed}; before: {await loop_delay(daemon)}")
    address = address_of(daemon)
    hostile.send(address, b"GET / HTTP/1.1\r\n\r\n", ANSWER_SECONDS)
    before = descriptors(daemon), resident_bytes(daemon), len(daemon.statuses)
    began = time.monotonic()

    with ThreadPoolExecutor(THREADS) as pool:
        asked = [*hostile.requests(seed, REQUESTS)]
        got = [*pool.map(lambda each: hostile.send(address, each[1], ANSWER_SECONDS), asked)]

    answered = Counter(answer[9:12].decode() for answer in got)
    tell(f"{len(asked)} requests in {time.monotonic() - began:.1f} s: {dict(answered)}")
    tell(f"behind them: {await loop_delay(daemon)}")
    assert daemon.health() == (200, "")
    daemon.until(lambda: len(daemon.statuses) > before[2], "a status line behind them")
    daemon.until(lambda: descriptors(daemon) <= before[0], "their sockets to be closed")
    assert resident_bytes(daemon) - before[1] < GROWTH_BYTES_MAX
    assert not {"500", "503"} & answered.keys()
    assert complaints(daemon) == []


async def test_slow_clients_change_nothing(daemon: Daemon) -> None:
    """While 200 of them hold on, probes and scrapes are answered, the page is updated, trading goes
    on; when they let go, nothing of them is left."""
    address = address_of(daemon)
    daemon.metric("nautilus_bridge_orders_published_total")
    before = descriptors(daemon), resident_bytes(daemon)
    ordered = daemon.metric("nautilus_bridge_orders_published_total")
    tell(f"before: {await loop_delay(daemon)}")

    async with Stream(address) as stream:
        await stream.document()
        clients = [hostile.slow(address, number) for number in range(SLOW_CLIENTS)]
        try:
            counts = []
            for _ in range(3):
                assert daemon.health() == (200, "")
                document = await stream.document()
                counts.append(descriptors(daemon))
            held = min(counts) - before[0]  # now and then it looks at files, too
            grown = resident_bytes(daemon) - before[1]
            tell(f"{SLOW_CLIENTS} clients: {held} descriptors, {grown >> 10} KiB more")
            tell(f"p99 of the trading loop's delay: {document['latency_ms']['loop_p99']} ms")
            daemon.until(
                lambda: daemon.metric("nautilus_bridge_orders_published_total") > ordered, "orders"
            )
        finally:
            for client in clients:
                client.close()

    assert document["node"]["ready"]
    assert held <= CONNECTIONS_MAX + 2
    assert grown < GROWTH_BYTES_MAX
    daemon.until(lambda: descriptors(daemon) <= before[0], "their sockets to be closed")
    assert complaints(daemon) == []


def test_it_ends_in_time_with_slow_clients(daemon: Daemon) -> None:
    """A page that looks on and clients that do nothing do not hold up the end, which is a good
    one."""
    address = address_of(daemon)
    clients: list[socket.socket] = []
    try:
        clients += [hostile.slow(address, number) for number in range(40)]
        assert daemon.health() == (200, "")
        ended = daemon.stop()
    finally:
        for client in clients:
            client.close()

    assert ended.code == 0
    assert "everything is published" in ended.out
    assert complaints(daemon) == []
