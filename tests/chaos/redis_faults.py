"""Rows of the table whose fault strikes Redis, or the way to it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis

from tests.chaos.checker import Verdict
from tests.chaos.proxy import ProxyThread
from tests.chaos.rig import KEYS, Rig, TradingDaemon
from tests.servers import RedisServer

KILOBYTE = 1024
STALL_SECONDS_MAX = 0.08
FOREIGN_SECONDS = 0.02
FOREIGN = {"status": "foreign", "cl_ord_id": "X-1"}

type Fields = Mapping[str, str]


def server_killed(rig: Rig) -> Verdict:
    """SIGKILL of redis-server (AOF everysec), restart."""
    daemon = rig.start().until_running()
    for _ in rig.striking("SIGKILL of redis-server"):
        rig.until_moving(daemon)
        rig.server.kill()
        rig.wait()
        rig.server.start()
    rig.finish(daemon)
    return rig.verdict()


def log_cut(rig: Rig) -> Verdict:
    """The append-only file loses its tail, the server is started twice."""
    daemon = rig.start().until_running()
    for _ in rig.striking("AOF cut, two restarts"):
        rig.until_flowing(daemon)
        size = rig.chance.randint(1 * KILOBYTE, 64 * KILOBYTE)
        daemon.until(lambda size=size: rig.server.tail.stat().st_size > size, "a tail to cut")
        rig.server.kill()
        rig.server.cut_tail(size)
        rig.server.start()
        rig.wait()
        rig.server.kill()
        rig.server.start_supervised()
    rig.finish(daemon)
    return rig.verdict()


def dump_restored(rig: Rig) -> Verdict:
    """Restored from an older dump: the last one, one from long ago, or none at all."""
    daemon = rig.start().until_running()
    dumps = []
    for number, _ in enumerate(rig.striking("restored from an older RDB")):
        rig.until_flowing(daemon)
        dumps.append(rig.folder / f"{number}.rdb")
        rig.server.save(dumps[-1])
        rig.until_moving(daemon)
        rig.server.kill()
        long_ago = rig.chance.random() < 0.2
        rig.server.set_back(rig.chance.choice([None, *dumps]) if long_ago else dumps[-1])
        rig.server.start()
    rig.finish(daemon)
    return rig.verdict()


def flushed(rig: Rig) -> Verdict:
    """Keys vanish on an open connection with batches in flight; others write the same streams."""
    daemon = rig.start().until_running()
    faults = ("FLUSHALL", "DEL stream", "DEL mark", "SCRIPT FLUSH")
    with foreign_writer(rig.server):
        for fault in rig.striking(*faults):
            rig.until_moving(daemon)
            key = rig.chance.choice([KEYS[kind] for kind in ("orders", "fills", "account")])
            words = {
                "FLUSHALL": ("FLUSHALL",),
                "DEL stream": ("DEL", key),
                "DEL mark": ("DEL", f"bridge:mark:{{{key}}}"),
                "SCRIPT FLUSH": ("SCRIPT", "FLUSH"),
            }[fault]
            rig.server.amid(rig.chance.uniform(0, STALL_SECONDS_MAX), words)
    rig.finish(daemon)
    return rig.verdict()


def starved(rig: Rig) -> Verdict:
    """Redis has no memory, for a moment or for long; or does not answer for long."""
    # A connection that is silent for longer is given up: Redis finds two of them when it wakes.
    daemon = rig.start(redis__reply_timeout_seconds="4").until_running()
    seconds = rig.pace.seconds
    full, free = ("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")
    moment, long, stall = "OOM between two batches", f"OOM for {seconds:g} s", f"{seconds:g} s"
    for fault in rig.striking(moment, long, f"stalled for {stall}"):
        rig.until_flowing(daemon)
        if fault.startswith("stalled"):
            rig.server.amid(seconds)
            continue
        rig.server.amid(rig.chance.uniform(0, STALL_SECONDS_MAX), full)
        if fault == long:
            time.sleep(seconds)
        rig.server.amid(rig.chance.uniform(0, STALL_SECONDS_MAX), free)
    rig.finish(daemon)
    return rig.verdict()


def reply_lost(rig: Rig) -> Verdict:
    """The connection is cut when Redis has done what was sent, and the bridge does not know."""
    with ProxyThread(rig.server.port) as proxy:
        rig.url = f"redis://127.0.0.1:{proxy.port}/0"
        daemon = rig.start().until_running()
        for fault in rig.striking("the next reply", "a part of it", "all replies of a while"):
            rig.until_moving(daemon)
            cuts = _reconnects(daemon)
            while _reconnects(daemon) == cuts:
                if fault == "all replies of a while":
                    proxy.call("hold_replies")
                    rig.wait(0.02, 0.1)
                    proxy.call("cut")
                    proxy.call("release_replies")
                else:
                    kept = 0 if fault == "the next reply" else rig.chance.randint(1, 3)
                    proxy.call("cut_next_reply", kept)
                rig.wait(0.2, 0.3)
        rig.finish(daemon)
        return rig.verdict()


def _reconnects(daemon: TradingDaemon) -> float:
    return daemon.metric('nautilus_bridge_reconnects_total{lane="exec"}')


@contextlib.contextmanager
def foreign_writer(
    server: RedisServer, written: Callable[[str], Fields] = lambda _: FOREIGN
) -> Iterator[None]:
    """Have somebody else write to our streams, as the stack's older parts do.

    `written` returns an entry of a kind.
    """
    client, ended = server.new_client(), threading.Event()

    def write() -> None:
        while not ended.wait(FOREIGN_SECONDS):
            with contextlib.suppress(redis.exceptions.RedisError):
                for kind in ("orders", "fills"):
                    client.xadd(KEYS[kind], dict[Any, Any](written(kind)))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
