"""The daemon: one source, one publisher, one status server, from start to a clean end."""

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import redis
import redis.asyncio
import structlog
import uvloop

from bridge import console, endpoints, exits, records, reloading
from bridge import log as logs
from bridge.alerts import Alerts
from bridge.assembly import make_publisher
from bridge.controller import Controller
from bridge.core import contract
from bridge.core.contract import Names
from bridge.core.control import State
from bridge.embedded_redis import EmbeddedRedis, EmbeddedRedisError, PortTakenError
from bridge.exits import Exit
from bridge.lease import Lease, lease_keys
from bridge.metrics import Metrics
from bridge.notify import Notifier, ended
from bridge.notify_systemd import Manager
from bridge.preflight import prepare_redis, release
from bridge.publisher import Publisher
from bridge.readers import Places, Readers
from bridge.records import Records
from bridge.settings import Config
from bridge.source import Source, load
from bridge.status.feed import Feed, Parts
from bridge.status.server import CannotBind, PortTaken, StatusServer
from bridge.terminal import Writer
from bridge.watcher import Watcher

log = structlog.get_logger("nautilus_bridge.daemon")

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Strategies' last events arrive within node.stop_timeout_seconds; then Redis gets this long.
DRAIN_SECONDS_MAX: Final = 1.5
# Then the ledger and the archive take the last of it.
READERS_SECONDS_MAX: Final = 2.0
# Beside those two: the threads, the leases, what is said last.
STOP_SECONDS_MAX: Final = 15.0
# Redis has answered a moment ago: what it is asked next takes milliseconds.
KNOWN_SECONDS_MAX: Final = 10.0
# A halt must not wait for another thread of ours: Python's default is ten times as long.
SWITCH_SECONDS: Final = 0.0005
END_SECONDS_MAX: Final = 1.0
TERMINAL_SECONDS_MAX: Final = 0.2
# What a service manager is told of the phases whose end no setting bounds.
RECORDS_SECONDS_MAX: Final = 600.0
BUILD_SECONDS_MAX: Final = 60.0
REPORT_SECONDS: Final = 1.0
# Less than a report's second, so that a Redis that stalls does not delay the status line.
HASH_SECONDS_MAX: Final = 0.5
AWAY: Final = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ClusterDownError,
    OSError,
)
PUBLISHED: Final = (
    "nautilus_bridge_exec_published_total",
    "nautilus_bridge_market_published_total",
)


def run(read: Callable[[], Config], *, takeover: bool = False) -> int:
    """Run the daemon until SIGINT, SIGTERM or SIGHUP; return the exit code.

    The settings are what `read` returns; below systemd SIGHUP has them read again. The code is
    CANNOT_RECORD when execution entries were lost because Redis was away at the end, and the
    journal was a temporary one. `takeover` ends another bridge of the same name. Raises
    ConfigError, Exit.
    """
    config, manager = read(), Manager(os.environ)
    out, err = Writer(sys.stdout), Writer(sys.stderr)
    logs.configure(config.log.level, config.log.format, stream=err)
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt)
    if manager.is_there:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    sys.setswitchinterval(SWITCH_SECONDS)
    manager.begins("opening the journal", RECORDS_SECONDS_MAX)
    try:
        notifier = Notifier(config, config.state_directory, Metrics())
        with (
            notifier.running(),
            embedded(config) as server,
            records.opened(config, config.producer_id) as kept,
        ):
            notifier.start()
            daemon = Daemon(config, server, kept, out, err, manager, read, notifier)
            daemon.bind()
            lease = daemon.lease
            manager.begins(
                "waiting for Redis", config.redis.start_timeout_seconds + KNOWN_SECONDS_MAX
            )
            try:
                flag = prepare_redis(
                    daemon.url, config, daemon.names, lease=lease, takeover=takeover
                )
                try:
                    return uvloop.run(daemon.serve(flag=flag))
                finally:
                    _ignore_signals()  # the loop has put Python's own handlers back
                    if daemon.guard is not None:
                        daemon.guard.cancel()
                    release(daemon.url, lease)
            finally:
                _ignore_signals()
                daemon.status.stop()
    except KeyboardInterrupt:
        out.lines("stopped before it ran; there was nothing to publish")
        return exits.DONE
    except Exit as error:
        manager.tell(STATUS=error)  # `systemctl status` shows the last word
        raise
    finally:
        manager.close()
        out.drain(TERMINAL_SECONDS_MAX)
        err.drain(TERMINAL_SECONDS_MAX)


def _interrupt(*_: object) -> None:
    """End the start-up. Another signal must not end the cleaning up behind it."""
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def embedded(config: Config) -> Iterator[EmbeddedRedis | None]:
    """Run the embedded Redis where `redis.url` is unset. Raises Exit when it cannot be had."""
    if config.redis.url is not None:
        yield None
        return
    server = EmbeddedRedis(config.embedded.port)
    try:
        server.start()
    except PortTakenError as error:
        raise Exit(exits.TAKEN, str(error)) from None
    except EmbeddedRedisError as error:
        raise Exit(exits.UNAVAILABLE, str(error)) from None
    try:
        yield server
    finally:
        server.stop()


class Daemon:
    """Builds the parts in `serve`, on the loop that runs them."""

    def __init__(
        self,
        config: Config,
        server: EmbeddedRedis | None,
        kept: Records,
        out: Writer,
        err: Writer,
        manager: Manager,
        read: Callable[[], Config],
        notifier: Notifier,
    ) -> None:
        self.url = str(config.redis.secret_url) if server is None else server.url
        self.names = Names(config.stream_prefix, config.streams.templates)
        self.lease = Lease.make(
            lease_keys(config),
            seconds=config.producer.lease_seconds,
            uuid=kept.journal.head.uuid,
        )
        self.metrics = notifier.metrics
        self._config = config
        self._server = server
        self._records = kept
        self._out = out
        self._err = err
        self._manager = manager
        self._read = read
        self._notifier = notifier
        self._publisher: Publisher | None = None
        self._controller: Controller | None = None
        self._source: Source | None = None
        self.guard: threading.Timer | None = None
        places = Places(config, self.url, kept.state)
        self._readers = Readers(places, self.metrics)
        self._alerts = Alerts(notifier, places, self._readers)
        kept.journal.is_taken = self._readers.is_taken
        self._redis = str(config.redis.safe_url)
        if server is not None:
            self._redis = f"{server.tcp_url} ({server.kind})"
        if config.redis.market_url is not None:
            self._redis += f", market data in {config.redis.safe_market_url}"
        self._feed = Feed(
            places, self._readers, self.metrics, kept.state, self._redis, self.problem
        )
        self.status = StatusServer(config.status, self._feed, self.metrics, self.problem)
        self._stopping = False
        self._hash_problem: str | None = None

    def bind(self) -> None:
        """Take the status port. Raises Exit when it cannot be had."""
        try:
            self.status.bind()
        except PortTaken as error:
            raise Exit(exits.TAKEN, str(error)) from None
        except CannotBind as error:
            raise Exit(exits.CONFIGURATION, str(error)) from None

    async def serve(self, *, flag: bool) -> int:
        """Build the parts, run them until told to stop or one fails, end them in order.

        `flag`: whether the role's flag was on a moment ago; without it a live node is built without
        anything to trade through. No TaskGroup: a part that fails would cut the end of the others
        short, and an end has an order: the source first, then what it left behind, then the rest.
        Raises Exit.
        """
        stop = asyncio.Event()
        manager, node = self._manager, self._config.node
        manager.begins("starting the node", node.start_timeout_seconds + BUILD_SECONDS_MAX)
        stops = [each for each in STOP_SIGNALS if each != signal.SIGHUP or not manager.is_there]
        _on_signal(stop.set, stops)
        publisher, source, controller, watcher = self._build(executes=flag)
        _on_signal(stop.set, stops)  # again: a TradingNode puts its own handlers in their place
        if manager.is_there:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._reload, controller)
            # The watchdog's SIGABRT then shows where it hangs, and ends it.
            loop.remove_signal_handler(signal.SIGABRT)
            faulthandler.enable()
        self._introduce()
        gc.collect()
        gc.freeze()  # what lives for ever is never looked at again

        def is_up() -> bool:
            return controller.known.is_set() and source.is_running

        parts = [
            asyncio.create_task(publisher.run(), name="publisher"),
            asyncio.create_task(watcher.run(), name="watcher"),
            asyncio.create_task(self._run_source(source, controller), name="source"),
            asyncio.create_task(self.status.run(), name="status"),
            asyncio.create_task(self._report(publisher, controller, is_up), name="report"),
        ]
        if manager.is_there:
            attending = manager.attend(
                is_up=is_up,
                progress_ns=lambda: source.progress_ns,
                status=lambda: console.summary(self.metrics.snapshot(0), self._state),
            )
            parts.append(asyncio.create_task(attending, name="manager"))
        self._readers.start()
        told = asyncio.create_task(stop.wait(), name="told")
        await asyncio.wait((*parts, told), return_when=asyncio.FIRST_COMPLETED)
        self._stopping = True
        self._out.lines("stopping ...")
        manager.tell(STOPPING=1)
        manager.begins("stopping", node.stop_timeout_seconds + STOP_SECONDS_MAX)
        [stopped] = await asyncio.gather(source.stop(), return_exceptions=True)
        await publisher.drain(DRAIN_SECONDS_MAX)
        await asyncio.to_thread(self._readers.stop, READERS_SECONDS_MAX)
        problem = publisher.problem
        for task in (*parts, told):
            task.cancel()
        all_ended = await asyncio.gather(*parts, return_exceptions=True)
        publisher.exec.close()
        left = publisher.unpublished
        lost = _sum(self.metrics.snapshot(0), console.LOST)
        journal = self._records.journal.directory if self._records.are_kept else None
        farewell = console.farewell(left, problem, lost=lost, journal=journal)
        self._out.lines(farewell)
        code = exits.CANNOT_RECORD if left["exec"] and journal is None else exits.DONE
        failures = [each for each in (*all_ended, stopped) if isinstance(each, Exception)]
        how = ended(failures[0]) if failures else (code, farewell if code else "")
        await asyncio.to_thread(self._notifier.end, *how)
        self._end_in_time(code, *failures[:1])
        if failures:
            raise failures[0]
        return code

    def _end_in_time(self, code: int, failure: Exception | None = None) -> None:
        """End by force what does not end by itself.

        uvloop does not end before the last name is looked up, and a resolver may hang.
        """
        if failure is not None:
            code = failure.code if isinstance(failure, Exit) else exits.FAILED
        self.guard = threading.Timer(END_SECONDS_MAX, self._end_by_force, (code, failure))
        self.guard.daemon = True
        self.guard.start()

    def _end_by_force(self, code: int, failure: Exception | None) -> None:
        log.error("daemon.forced_end", code=code, problem=str(failure or "a name is looked up"))
        self._out.drain(TERMINAL_SECONDS_MAX)
        self._err.drain(TERMINAL_SECONDS_MAX)
        if self._server is not None:
            self._server.stop()
        os._exit(code)

    def problem(self) -> str | None:
        """Why the bridge is not healthy, None when it is."""
        if self._stopping:
            return "stopping"
        if self._publisher is None or self._source is None:
            return "starting"
        if self._publisher.problem is not None:
            return self._publisher.problem
        return None if self._source.is_running else "the node is not running"

    @property
    def _state(self) -> str:
        """The word for the status line: what is wrong, else what may not be traded, else ok."""
        problem = self.problem()
        if problem is not None or self._controller is None or self._publisher is None:
            return problem or "ok"
        decision = self._controller.decision
        if decision.state is not State.ACTIVE:
            return f"{decision.state}: {decision.reason}"
        away = {"market data": self._publisher.market_problem, "books": self._readers.problem}
        said = [f"not the {what}: {why}" for what, why in away.items() if why is not None]
        return f"ok, but {'; '.join(said)}" if said else "ok"

    async def _run_source(self, source: Source, controller: Controller) -> None:
        """Run the source once it is known what it may do. Raises Exit."""
        try:
            async with asyncio.timeout(KNOWN_SECONDS_MAX):
                await controller.known.wait()
        except TimeoutError:
            raise Exit(
                exits.UNAVAILABLE,
                f"redis.url: {controller.decision.reason}: flags and mode were not told within "
                f"{KNOWN_SECONDS_MAX:g} s; see the log, and the rights of its user",
            ) from None
        await source.run()

    def _reload(self, controller: Controller) -> None:
        """Read the settings again, and apply to what runs what can be applied to it."""
        self._manager.reloads()
        self._config = reloading.reread(self._config, self._read)
        logs.set_level(self._config.log.level)
        controller.configure(self._config)
        self._manager.tell(READY=1)

    def _build(self, *, executes: bool) -> tuple[Publisher, Source, Controller, Watcher]:
        config = self._config
        publisher = self._publisher = make_publisher(
            config,
            self.names,
            self.metrics,
            url=self.url,
            producer_id=config.producer_id,
            records=self._records,
            lease=self.lease,
        )
        publisher.exec.lane.on_entry = self._feed.recent.take
        factory = load(config.source.factory)
        lanes = (publisher.exec.lane, publisher.market.lane)
        executes = executes or config.role != "live"
        source = self._source = factory(config, *lanes, self.metrics, executes)
        controller = self._controller = Controller(
            config,
            self._records.latch,
            publisher.exec.lane,
            self.metrics,
            source,
            executes=executes,
        )
        controller.on_decision = self._alerts.on_decision
        controller.market_problem = lambda: publisher.market_problem
        watcher = Watcher(
            endpoints.parse(self.url),
            config.role,
            controller,
            self.metrics,
            config.control,
            symbols=source.symbols,
            backoff_seconds_max=config.redis.reconnect_seconds_max,
        )
        self._feed.follow(Parts(publisher, controller, watcher, source))
        return publisher, source, controller, watcher

    def _introduce(self) -> None:
        server = self._server
        status = self.status.url
        self._out.lines(*console.banner(self._config, self.names, redis=self._redis, status=status))
        if not self._manager.is_there:  # there nobody types
            endpoint = endpoints.parse(self.url if server is None else server.tcp_url)
            self._out.lines(*console.examples(endpoint, self.names, self._config.role))

    async def _report(
        self, publisher: Publisher, controller: Controller, is_up: Callable[[], bool]
    ) -> None:
        """Once a second: a status line for who looks, the metrics as a hash for status tiles."""
        # Shorter than the whole: redis-py has to see itself that a node of a Cluster hangs.
        client = endpoints.async_client(self.url, socket_timeout=HASH_SECONDS_MAX / 2)
        clock, before = asyncio.get_running_loop().time, 0
        try:
            while True:
                await asyncio.sleep(REPORT_SECONDS - clock() % REPORT_SECONDS)
                if self._server is not None and self._server.has_ended:
                    raise Exit(
                        exits.RESTART, "the embedded redis-server ended by itself; start again"
                    )
                now = self.metrics.snapshot(time.time_ns())
                published = _sum(now, PUBLISHED)
                if not self._manager.is_there:  # which is told, and need not keep each second
                    self._out.lines(console.status_line(now, published - before, self._state))
                before = published
                if is_up():
                    self._notifier.up(lambda: self._records.latch.load().halt)
                self._alerts.tick(now, controller.link_problem)
                self._feed.tick(now)
                if publisher.problem is None:
                    await self._write_hash(client, now)
        finally:
            if publisher.problem is None:
                await self._write_hash(client, self.metrics.snapshot(time.time_ns()))
            await client.aclose()

    async def _write_hash(self, client: redis.asyncio.Redis, now: Mapping[str, str]) -> None:
        key = self.names.prefixed(contract.METRICS_KEY)
        try:
            async with asyncio.timeout(HASH_SECONDS_MAX):
                await client.hset(key, mapping=dict[Any, Any](now))
            self._hash_problem = None
        except AWAY:
            return  # the links tell; this hash is a courtesy
        except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
            if self._hash_problem != str(error):
                self._hash_problem = str(error)
                log.error("metrics.hash_refused", key=key, problem=self._hash_problem)


def _on_signal(callback: Callable[[], object], numbers: Iterable[int]) -> None:
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, callback)


def _sum(fields: Mapping[str, str], names: tuple[str, ...]) -> int:
    return sum([int(fields[name]) for name in names])
