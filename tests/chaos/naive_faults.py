"""The same faults against the naive way: the checker must find what is lost and what is doubled."""

from collections.abc import Callable

from tests.chaos.checker import Verdict
from tests.chaos.child import Child
from tests.chaos.proxy import ProxyThread
from tests.chaos.rig import KEYS, PREFIX, RATE, Rig


def process_killed(rig: Rig) -> Verdict:
    """SIGKILL of the process, restart."""
    child = _start(rig)
    for _ in rig.striking("SIGKILL of the naive process"):
        rig.until_moving(child)
        with rig.perhaps_stalled():
            child.kill()
        child = _start(rig)
    return _finish(rig, child)


def server_killed(rig: Rig) -> Verdict:
    """SIGKILL of redis-server (AOF everysec), restart."""

    def strike() -> None:
        rig.server.kill()
        rig.wait()
        rig.server.start()

    return _struck(rig, "SIGKILL of redis-server", strike)


def dump_restored(rig: Rig) -> Verdict:
    """Restored from an older dump."""
    dump = rig.folder / "older.rdb"

    def strike() -> None:
        rig.server.save(dump)
        rig.wait()
        rig.server.kill()
        rig.server.set_back(dump)
        rig.server.start()

    return _struck(rig, "restored from an older RDB", strike)


def flushed(rig: Rig) -> Verdict:
    """Everything is deleted."""
    return _struck(rig, "FLUSHALL", lambda: rig.server.amid(0.02, ("FLUSHALL",)))


def starved(rig: Rig) -> Verdict:
    """Redis has no memory for a moment."""

    def strike() -> None:
        rig.server.amid(0.02, ("CONFIG", "SET", "maxmemory", "1"))
        rig.wait(0.02, 0.05)
        rig.server.amid(0.02, ("CONFIG", "SET", "maxmemory", "0"))

    return _struck(rig, "OOM for a moment", strike)


def reply_lost(rig: Rig) -> Verdict:
    """The connection is cut when Redis has done what was sent."""
    with ProxyThread(rig.server.port) as proxy:
        rig.url = f"redis://127.0.0.1:{proxy.port}/0"
        return _struck(rig, "the next reply is cut off", lambda: proxy.call("cut_next_reply"))


def _struck(rig: Rig, fault: str, strike: Callable[[], None]) -> Verdict:
    child = _start(rig)
    for _ in rig.striking(fault):
        rig.until_moving(child)
        strike()
    return _finish(rig, child)


def _start(rig: Rig) -> Child:
    child = Child(
        "tests.chaos.naive",
        rig.new_folder(),
        CHAOS_REDIS=rig.url,
        CHAOS_PREFIX=PREFIX,
        CHAOS_RECORD=str(rig.record()),
        CHAOS_RATE=str(RATE),
        CHAOS_SEED=str(rig.chance.random()),
    )
    rig.stack.enter_context(child)
    before = rig.server.client.xlen(KEYS["orders"])
    child.until(lambda: rig.server.client.xlen(KEYS["orders"]) > before, "its first entries")
    return child


def _finish(rig: Rig, child: Child) -> Verdict:
    rig.until_moving(child)
    child.end()
    return rig.verdict(producer="")
