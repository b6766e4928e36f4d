"""Lanes to Redis: two connections, one flush a loop turn, the exec lane first."""

import asyncio
import atexit
import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import uvloop

from bridge import exits
from bridge.cluster_link import link_to
from bridge.core.lanes import Channel, MarketLane, Refused
from bridge.core.resp import Reply
from bridge.endpoints import Endpoint
from bridge.exec_shipper import ExecShipper
from bridge.exits import Exit
from bridge.handlers import Handlers
from bridge.link import Link
from bridge.market_shipper import MarketShipper
from bridge.metrics import EVENT_TYPE_OF, Metrics
from bridge.records import Records

log = structlog.get_logger("nautilus_bridge.publisher")

WATCH_SECONDS: Final = 1.0
# A Redis that owes an answer for this long makes the bridge unhealthy.
SILENT_SECONDS_MAX: Final = 3.0
WAIT_LOG_SECONDS: Final = 5
AT_EXIT_SECONDS_MAX: Final = 1.0


class Publisher:
    """Owns both links; runs on one loop, which in a live node is the trading loop.

    The lanes wake it; it flushes once per loop turn. With `threaded` the lanes are filled by
    another thread than the loop's. `market_endpoint`: market data go to another Redis.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        exec_shipper: ExecShipper,
        market_lane: MarketLane,
        metrics: Metrics,
        *,
        market_endpoint: Endpoint | None = None,
        in_flight_max: int,
        backoff_seconds_max: float,
        reply_seconds_max: float,
        threaded: bool = False,
    ) -> None:
        self.exec = exec_shipper
        self.market = MarketShipper(market_lane, metrics, in_flight_max=in_flight_max)
        self.on_progress: Callable[[], None] | None = None
        self.handlers: Handlers | None = None
        self.threaded = threaded
        self._metrics = metrics
        self._reply_seconds_max = reply_seconds_max
        self._links = [
            self._make_link(endpoint, "exec", self.exec, backoff_seconds_max),
            self._make_link(
                market_endpoint or endpoint, "market", self.market, backoff_seconds_max
            ),
        ]
        self._is_apart = market_endpoint is not None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._armed = False
        self._drained: asyncio.Event | None = None
        self._noted: set[tuple[str, str]] = set()
        self.exec.wake = self.market.wake = self.wake
        exec_shipper.lane.wake = market_lane.wake = self.wake
        market_lane.on_full = self.shed
        market_lane.on_refused = self._count_refused
        self._mirror()

    async def run(self) -> None:
        """Publish until cancelled. What is not confirmed then stays in the lanes.

        Raises Exit: FENCED when another bridge has taken this one's place, BAD_DATA when the
        journal turns out to be damaged.
        """
        self._thread_id = threading.get_ident()
        self._loop, self._armed = asyncio.get_running_loop(), False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(), name="watch")
                group.create_task(self.exec.watch(), name="exec.watch")
                for link in self._links:
                    group.create_task(link.run(), name=f"link.{link.name}")
                if self.handlers is not None:
                    group.create_task(self.handlers.run(), name="handlers")
        except ExceptionGroup as group:
            ends = group.subgroup(Exit)
            if ends is None:
                raise
            end = ends.exceptions[0]
            assert isinstance(end, Exit)
            self.exec.lane.on_failure(end)
            raise end from None
        finally:
            self._loop = None  # a late event must not touch a loop that has ended

    def guard(self, records: Records) -> None:
        """Have a failure of the journal latched, and told to who trades."""
        journal, metrics = records.journal, self._metrics
        metrics.journal_bytes.set_function(lambda: journal.disk_bytes)
        metrics.journal_bytes_max.set(journal.limits.bytes_max)
        metrics.journal_unsynced.set_function(lambda: journal.jseq - journal.synced)

        def on_failure(reason: str) -> None:
            try:
                records.latch.set("journal", f"the journal failed: {reason}")
            except OSError as error:
                log.critical("latch.not_set", problem=str(error))
            failure = Exit(exits.CANNOT_RECORD, f"cannot record execution events: {reason}")
            loop = self._loop
            if loop is None:
                self.exec.lane.on_failure(failure)
            else:
                loop.call_soon_threadsafe(self.exec.lane.on_failure, failure)

        journal.on_failure = on_failure

    def wake(self) -> None:
        """Arrange one flush for the next loop turn, however often it is called before that."""
        loop = self._loop
        if self._armed or loop is None:
            return
        self._armed = True
        try:
            if threading.get_ident() == self._thread_id:
                loop.call_soon(self._flush)
            else:
                loop.call_soon_threadsafe(self._flush)
        except RuntimeError:
            self._loop = None  # it was closed; what waits stays in the lanes

    async def drain(self, seconds_max: float) -> bool:
        """Wait until everything is confirmed; return False when that took too long."""
        self._drained = asyncio.Event()
        self._check_drained()
        try:
            async with asyncio.timeout(seconds_max):
                await self._drained.wait()
                if self.handlers is not None:
                    await self.handlers.drain()
        except TimeoutError:
            return False
        return True

    @property
    def unpublished(self) -> dict[str, int]:
        """Entries and events that Redis has not confirmed, by lane."""
        market = self.market.lane.backlog + self.market.in_flight
        return {"exec": self.exec.backlog, "market": market}

    @property
    def problem(self) -> str | None:
        """Why this publisher is not healthy, None when it is; see also `market_problem`."""
        shared = () if self._is_apart else (self.market,)
        return _problem_of(self.exec, *shared) or self.exec.problem

    @property
    def market_problem(self) -> str | None:
        """Why a Redis that is for market data alone takes none; None: it does, or there is none."""
        return _problem_of(self.market) if self._is_apart else None

    async def _watch(self) -> None:
        """Give up a connection that stays silent: behind it may be nobody any more."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for shipper in (self.exec, self.market):
                if shipper.silent_seconds > self._reply_seconds_max:
                    seconds = round(shipper.silent_seconds)
                    log.warning("redis.silent", lane=shipper.link.name, seconds=seconds)
                    shipper.link.drop()

    def _flush(self) -> None:
        self._armed = False
        exec_has_more = self.exec.flush()
        if self.market.flush() or exec_has_more:
            self.wake()
        self._check_drained()  # what was left may have been refused: no reply tells of that

    def _make_link(
        self,
        endpoint: Endpoint,
        name: str,
        shipper: ExecShipper | MarketShipper,
        backoff: float,
    ) -> Link:
        def on_up() -> None:
            if link.connects > 1:
                self._metrics.reconnects[name].inc()
            self.wake()

        def on_replies(replies: Sequence[Reply]) -> None:
            shipper.on_replies(replies)
            self.wake()
            self._check_drained()
            if self.on_progress is not None:
                self.on_progress()

        link = link_to(
            endpoint,
            name=name,
            backoff_seconds_max=backoff,
            prepare=shipper.prepare,
            on_up=on_up,
            on_replies=on_replies,
            on_down=shipper.on_down,
            on_error=lambda kind: self._metrics.redis_errors[kind].inc(),
        )
        shipper.link = link
        return link

    def _check_drained(self) -> None:
        if self._drained is not None and not any(self.unpublished.values()):
            self._drained.set()

    def shed(self, channel: Channel) -> None:
        """Make room in a full channel; count what that costs."""
        conflated, dropped = channel.shed(self.market.lane.entries_max)
        self._metrics.market_conflated[channel.kind].inc(conflated)
        self._metrics.market_dropped[channel.kind, "full"].inc(dropped)
        self._metrics.events_processed[EVENT_TYPE_OF[channel.kind]].inc(conflated + dropped)

    def _count_refused(self, channel: Channel, event: object, error: Exception) -> None:
        reason = error.reason if isinstance(error, Refused) else "broken"
        self._metrics.events_refused[reason].inc()
        if (channel.kind, reason) not in self._noted:
            self._noted.add((channel.kind, reason))
            log.error(
                "event.refused",
                kind=channel.kind,
                reason=reason,
                event_text=safe_repr(event)[:200],
                problem=f"{type(error).__name__}: {error}",
            )

    def _mirror(self) -> None:
        metrics = self._metrics
        metrics.exec_backlog.set_function(lambda: self.exec.backlog)
        metrics.market_backlog.set_function(lambda: self.unpublished["market"])
        metrics.in_flight["exec"].set_function(lambda: self.exec.in_flight)
        metrics.in_flight["market"].set_function(lambda: self.market.in_flight)
        for link in self._links:
            metrics.connected[link.name].set_function(functools.partial(_is_up, link))


def _problem_of(*shippers: ExecShipper | MarketShipper) -> str | None:
    """Return what is wrong with the connection of a lane, None where all is well."""
    for link in [each.link for each in shippers]:
        if not link.is_up:
            return f"no connection to Redis for the {link.name} lane: {link.problem}"
    silent_seconds = max([each.silent_seconds for each in shippers])
    if silent_seconds > SILENT_SECONDS_MAX:
        return f"Redis has not answered for {silent_seconds:.0f} s"
    return None


def safe_repr(event: object) -> str:
    """Return the event's repr, or its class where a broken event has none."""
    try:
        return repr(event)
    except Exception:  # noqa: BLE001 - it is told in the trading loop
        return f"{type(event).__name__} without a repr"


def _is_up(link: Link) -> float:
    return float(link.is_up)


class PublisherThread:
    """A publisher on a thread and loop of its own, for a backtest that occupies the main thread.

    The tap waits while a lane is full: a backtest loses nothing and conflates nothing.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.failure: BaseException | None = None
        self._publisher = publisher
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._drain_seconds_max = 0.0
        self._drained = True
        self._ready = threading.Event()
        self._room = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge.publisher", daemon=True)
        publisher.on_progress = self._room.set
        publisher.exec.lane.on_full = self._wait_exec
        publisher.market.lane.on_full = self._wait_market

    def start(self) -> None:
        """Start the thread; returns when its loop runs."""
        # For a backtest that raised and was never stopped: a loop that still runs while the
        # interpreter goes down can hang it.
        atexit.register(self._stop_at_exit)
        self._thread.start()
        self._ready.wait()

    def stop(self, seconds_max: float) -> bool:
        """Publish what is left, for at most that long; end the thread. True when all is confirmed.

        Raises the failure that ended the publisher, if one did.
        """
        atexit.unregister(self._stop_at_exit)
        self._drain_seconds_max = seconds_max
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        if self.failure is not None:
            raise self.failure
        return self._drained

    def _stop_at_exit(self) -> None:
        drained = self.stop(AT_EXIT_SECONDS_MAX)
        log.warning("backtest.not_stopped", drained=drained, remedy="await bridge.stop()")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        tasks = [asyncio.create_task(self._publisher.run()), asyncio.create_task(self._drain())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.failure = error
                log.critical("publisher.failed", exc_info=error)
        self._room.set()

    async def _drain(self) -> None:
        await self._stopping.wait()
        self._drained = await self._publisher.drain(self._drain_seconds_max)

    def _wait_exec(self) -> None:
        lane = self._publisher.exec.lane
        self._wait_while(lambda: lane.is_full)

    def _wait_market(self, channel: Channel) -> None:
        entries_max = self._publisher.market.lane.entries_max
        self._wait_while(lambda: len(channel.pending) > entries_max)
        if self.failure is not None:
            self._publisher.shed(channel)  # nobody takes any more

    def _wait_while(self, full: Callable[[], bool]) -> None:
        waited_seconds = 0
        while full() and self.failure is None:
            self._room.clear()
            if full() and not self._room.wait(WAIT_LOG_SECONDS):
                waited_seconds += WAIT_LOG_SECONDS
                log.warning("backtest.waiting", waited_seconds=waited_seconds, why="a lane is full")
