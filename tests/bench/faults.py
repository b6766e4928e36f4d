"""Rows that hurt the server under load, and count what Redis holds afterwards."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import uvloop

from bridge.core import contract
from tests.bench.machine import CHUNK, Bench, Round
from tests.bench.rig import STREAM, Rig, engine
from tests.bench.steady import Source
from tests.servers import RedisServer

STALL_RATE = 50_000
STALL_SECONDS = 2.0
KILL_RATE = 20_000
QUOTES_PER_ORDER = 40  # 500 orders a second at 20k quotes
STEADY_SECONDS = 0.5
DRAINED_SECONDS_MAX = 20.0
POLL_SECONDS = 0.005
FAULTS = 2
LANES = 2
UNTRIMMED = 10_000_000
ORDER = contract.entry("orders", dict.fromkeys(contract.STREAMS["orders"].names, "bench"))

# How many different values a field of a stream's entries has, counted where they are.
DISTINCT = """
local seen, count, from = {}, 0, '-'
while true do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 5000)
  if #page == 0 then return count end
  for _, entry in ipairs(page) do
    local fields = entry[2]
    for i = 1, #fields, 2 do
      if fields[i] == ARGV[1] and not seen[fields[i + 1]] then
        seen[fields[i + 1]] = true
        count = count + 1
      end
    end
  end
  from = '(' .. page[#page][1]
end
"""


class Losses(NamedTuple):
    """What is not where it should be: all 0 when the bridge keeps its word."""

    exec_lost: int
    market_lost: int


class Load:
    """A source and its publisher on a thread of their own, so that the server can be hurt here.

    A redis-server has to be started from the main thread, which may wait for it, while the load
    goes on. Numbers are read from the main thread only to look, and settled once it has ended.
    """

    def __init__(self, rig: Rig, source: Source, rate: float) -> None:
        self.rig = rig
        self._source = source
        self._rate = rate
        self._stop = threading.Event()
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load")
        self._noted = 0
        # The first moment behind `since` at which hardly anything waited.
        self.since: float | None = None
        self.drained_at: float | None = None

    @property
    def offered(self) -> int:
        """Quotes that were published on the bus."""
        return self._source.count

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the load on while the body runs; afterwards everything is confirmed."""
        self._thread.start()
        self._up.wait()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            self._failure = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self.rig.publisher.on_progress = self._look
        async with self.rig.running():
            self._up.set()
            await self._source.run(
                self._rate, lambda *_: not self._stop.is_set(), note=self._order_now_and_then
            )
            await self.rig.drained()

    def _order_now_and_then(self) -> None:
        self._noted += 1
        if self._noted % QUOTES_PER_ORDER == 0:
            self.rig.exec_lane.append(ORDER)

    def _look(self) -> None:
        if self.since is not None and self.drained_at is None and self.rig.unacknowledged <= CHUNK:
            self.drained_at = time.perf_counter()

    def wait_drained(self) -> float:
        """Return when hardly anything waited. Raises TimeoutError after 20 s."""
        deadline = time.monotonic() + DRAINED_SECONDS_MAX
        while self.drained_at is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.rig.unacknowledged} quotes still wait")
            time.sleep(POLL_SECONDS)
        return self.drained_at

    def losses(self, server: RedisServer) -> Losses:
        """Count what is missing, in Redis and against the metrics; to be asked at the end."""
        count = server.client.register_script(DISTINCT)
        numbers = self.rig.metrics.snapshot(0)
        published, conflated, dropped = (
            int(numbers[f"nautilus_bridge_market_{fate}_total"])
            for fate in ("published", "conflated", "dropped")
        )
        uncounted = abs(self.offered - published - conflated - dropped)
        arrived = int(count(keys=[STREAM], args=["ts_ns"]))
        orders = self.rig.exec_lane.streams["orders"]
        return Losses(
            exec_lost=orders.seq - int(count(keys=[orders.key], args=["seq"])),
            market_lost=max(uncounted, published - arrived),
        )


def _load(stack: ExitStack, server: RedisServer, rate: float) -> Load:
    rig = Rig(server)
    return Load(rig, Source(rig.bus(stack.enter_context(engine()), maxlen=UNTRIMMED)), rate)


def stall_drain(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the seconds from SIGCONT until nothing waits, after a server stopped for 2 s."""
    for _ in range(rounds):
        with ExitStack() as stack:
            yield _stall(bench, stack, stack.enter_context(bench.server()))


def _stall(bench: Bench, stack: ExitStack, server: RedisServer) -> Round:
    load = _load(stack, server, STALL_RATE)
    with load.running():
        time.sleep(bench.seconds(STEADY_SECONDS))
        server.pause()
        time.sleep(bench.seconds(STALL_SECONDS))
        waiting = load.rig.unacknowledged
        server.resume()
        load.since = time.perf_counter()
        seconds = load.wait_drained() - load.since
    losses = load.losses(server)
    return Round(seconds, {"waiting": waiting, **losses._asdict()}, sum(losses))


def kill_lost(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield what is lost when all connections are killed, and then the server restarted."""
    for _ in range(rounds):
        with ExitStack() as stack:
            options = ("--appendonly", "yes", "--appendfsync", "everysec")
            yield _kill(bench, stack, stack.enter_context(bench.server(*options)))


def _kill(bench: Bench, stack: ExitStack, server: RedisServer) -> Round:
    load, seconds = _load(stack, server, KILL_RATE), bench.seconds(STEADY_SECONDS)
    with load.running():
        time.sleep(seconds)
        server.client.client_kill_filter(_type="normal", skipme=True)
        time.sleep(seconds)
        server.terminate()
        bench.start(server)
        time.sleep(seconds)
    losses = load.losses(server)
    reconnects = int(load.rig.metrics.snapshot(0)["nautilus_bridge_reconnects_total"])
    if reconnects < FAULTS * LANES:
        raise RuntimeError(f"only {reconnects} reconnects: a fault hit nothing")
    orders = load.rig.exec_lane.streams["orders"].seq
    detail = {"quotes": load.offered, "orders": orders, **losses._asdict()}
    return Round(sum(losses), detail, sum(losses))
