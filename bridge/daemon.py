"""The daemon: one source, one publisher, one status server, from start to a clean end."""

import asyncio
import contextlib
import gc
import importlib
import json
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import redis
import redis.asyncio
import structlog
import uvloop
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge import exits
from bridge import log as logs
from bridge.config import Config
from bridge.core import contract
from bridge.core.contract import Names
from bridge.core.lanes import ExecLane, MarketLane
from bridge.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from bridge.exits import Exit
from bridge.link import Target
from bridge.metrics import Metrics
from bridge.publisher import Publisher
from bridge.status.server import CannotBind, PortTaken, StatusServer

log = structlog.get_logger("nautilus_bridge.daemon")

# Strategies' last events arrive within node.stop_timeout_seconds; then Redis gets this long.
DRAIN_SECONDS_MAX: Final = 1.5
REPORT_SECONDS: Final = 1.0
LOADING_POLL_SECONDS: Final = 0.05
EXEC_PUBLISHED: Final = "nautilus_bridge_exec_published_total"
MARKET_PUBLISHED: Final = "nautilus_bridge_market_published_total"

# What Redis may answer at start: exception classes, exit code, what to do. First match wins.
REFUSALS: Final = (
    (
        (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError),
        exits.REFUSED,
        "correct user and password in redis.url, or the user's ACL",
    ),
    (redis.exceptions.BusyLoadingError, exits.UNAVAILABLE, "wait until it has loaded its data"),
    (redis.exceptions.ReadOnlyError, exits.UNAVAILABLE, "write to the primary, not to a replica"),
    (redis.exceptions.OutOfMemoryError, exits.UNAVAILABLE, "raise its maxmemory or free some"),
    (
        (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError),
        exits.UNAVAILABLE,
        "start Redis there, or correct the address",
    ),
    (redis.exceptions.ResponseError, exits.CONFIGURATION, "correct the database in redis.url"),
)


class Source(Protocol):
    """What `source.factory` returns: runs until `stop`, and raises Exit when it cannot."""

    async def run(self) -> None: ...
    async def stop(self) -> None: ...
    @property
    def is_running(self) -> bool: ...


def run(config: Config) -> int:
    """Run the daemon until SIGINT or SIGTERM; return the exit code. Raises Exit."""
    logs.configure(config.log.level, config.log.format)
    with embedded(config) as server:
        daemon = Daemon(config, server)
        daemon.bind()
        try:
            prepare_redis(daemon.url, config, daemon.names)
            return uvloop.run(daemon.serve())
        finally:
            daemon.status.stop()


@contextlib.contextmanager
def embedded(config: Config) -> Iterator[EmbeddedRedis | None]:
    """Run the embedded Redis where `redis.url` is unset."""
    if config.redis.url is not None:
        yield None
        return
    server = EmbeddedRedis(config.embedded.port)
    try:
        server.start()
    except EmbeddedRedisError as error:
        raise Exit(exits.UNAVAILABLE, str(error)) from None
    try:
        yield server
    finally:
        server.stop()


class Daemon:
    """Builds the parts in `serve`, on the loop that runs them."""

    def __init__(self, config: Config, server: EmbeddedRedis | None) -> None:
        self.url = str(config.redis.secret_url) if server is None else server.url
        self.names = Names(config.stream_prefix, config.streams.templates)
        self.metrics = Metrics()
        self.status = StatusServer(
            host=config.status.host,
            port=config.status.port,
            metrics=self.metrics,
            health=self.problem,
        )
        self._config = config
        self._server = server
        self._publisher: Publisher | None = None
        self._source: Source | None = None

    def bind(self) -> None:
        """Take the status port. Raises Exit when it cannot be had."""
        try:
            self.status.bind()
        except PortTaken as error:
            raise Exit(exits.TAKEN, str(error)) from None
        except CannotBind as error:
            raise Exit(exits.CONFIGURATION, str(error)) from None

    async def serve(self) -> int:
        """Build the parts, run them until told to stop, drain, end. Raises Exit."""
        publisher, source = self._build()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Behind the source's construction: a TradingNode installs handlers of its own.
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        say(*self._banner())
        drained = False
        try:
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(publisher.run(), name="publisher"),
                    group.create_task(source.run(), name="source"),
                    group.create_task(self.status.run(), name="status"),
                    group.create_task(self._report(publisher, source), name="report"),
                ]
                try:
                    await stop.wait()
                    say("stopping ...")
                finally:
                    await source.stop()
                    drained = await publisher.drain(DRAIN_SECONDS_MAX)
                    for part in parts:
                        part.cancel()
        except* Exit as errors:
            raise _first(errors) from None
        finally:
            say(_farewell(publisher, drained=drained))
        return exits.DONE

    def problem(self) -> str | None:
        """Why the bridge is not healthy, None when it is."""
        if self._publisher is None or self._source is None:
            return "starting"
        if self._publisher.problem is not None:
            return self._publisher.problem
        return None if self._source.is_running else "the node is not running"

    def _build(self) -> tuple[Publisher, Source]:
        config, clock_ns = self._config, time.monotonic_ns
        exec_lane = ExecLane(
            self.names,
            producer=f"{config.producer_id}.{secrets.token_hex(4)}.1",
            entries_max=config.exec.entries_max,
            clock_ns=clock_ns,
        )
        market_lane = MarketLane(entries_max=config.market.entries_max, clock_ns=clock_ns)
        self._publisher = Publisher(
            Target.from_url(self.url),
            exec_lane,
            market_lane,
            self.metrics,
            batch_entries_max=config.exec.batch_entries_max,
            in_flight_max=config.market.in_flight_max,
            backoff_seconds_max=config.redis.reconnect_seconds_max,
        )
        factory = _load(config.source.factory)
        self._source = factory(config, exec_lane, market_lane, self.metrics)
        return self._publisher, self._source

    def _banner(self) -> Iterator[str]:
        config, server, names = self._config, self._server, self.names
        where = config.redis.safe_url if server is None else f"{server.tcp_url} ({server.kind})"
        yield f"role {config.role}, strategy {config.source.strategy}, Redis {where}"
        yield f"metrics  {self.status.url}/metrics   health  {self.status.url}/health"
        yield "streams  " + "  ".join([names.key(kind) for kind in contract.EXEC_KINDS])
        yield "         " + "  ".join(
            [names.prefix + names.templates[kind] for kind in contract.MARKET_KINDS]
        )
        cli = redis_cli(None if server is None else server.port)
        yield "to try, in another terminal:"
        yield f"  {cli} xrevrange {names.key('fills')} + - count 2"
        yield f"  {cli} xread block 0 streams {names.key('orders')} '$'"
        yield f"  {cli} hgetall {names.prefixed(contract.METRICS_KEY)}"
        yield f"  {cli} get {names.prefixed(contract.CONTRACT_KEY)}"
        yield "Ctrl-C ends it."

    async def _report(self, publisher: Publisher, source: Source) -> None:
        """Once a second: a status line, and the metrics as a hash for existing status tiles."""
        client = redis.asyncio.Redis.from_url(
            self.url, retry=AsyncRetry(NoBackoff(), 0), socket_timeout=1, socket_connect_timeout=1
        )
        key, frozen, before = self.names.prefixed(contract.METRICS_KEY), False, 0
        try:
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                if source.is_running and not frozen:
                    gc.collect()
                    gc.freeze()  # what lives for ever is never looked at again
                    frozen = True
                now = self.metrics.snapshot(time.time_ns())
                published = int(now[EXEC_PUBLISHED]) + int(now[MARKET_PUBLISHED])
                say(_status_line(now, published - before, self.problem()))
                before = published
                with contextlib.suppress(redis.exceptions.RedisError, OSError, TimeoutError):
                    # The links tell when Redis is away; this hash is a courtesy.
                    await client.hset(key, mapping=dict[Any, Any](now))
        finally:
            await client.aclose()


def prepare_redis(url: str, config: Config, names: Names) -> None:
    """Check that Redis can be written to, and publish the contract.

    Waits while it loads. Raises Exit with the code and the remedy for every way it can fail.
    """
    where = config.redis.safe_url or "the embedded Redis"
    deadline = time.monotonic() + config.redis.start_timeout_seconds
    client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5)
    schema = json.dumps(contract.json_schema(names), separators=(",", ":"))
    try:
        while True:
            try:
                client.set(names.prefixed(contract.CONTRACT_KEY), schema)
                return
            except redis.exceptions.BusyLoadingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOADING_POLL_SECONDS)
    except (redis.exceptions.RedisError, OSError) as error:
        raise _refusal(error, where) from None
    finally:
        client.close()


def _refusal(error: Exception, where: str) -> Exit:
    """Return the exit for what Redis said at start."""
    for kinds, code, remedy in REFUSALS:
        if isinstance(error, kinds):
            return Exit(code, f"redis.url: {where}: {error}; {remedy}")
    remedy = "start Redis there, or correct the address"
    return Exit(exits.UNAVAILABLE, f"redis.url: {where}: {error}; {remedy}")


def redis_cli(port: int | None) -> str:
    """Return how to call redis-cli from the repository's root."""
    found = shutil.which("redis-cli")
    tools = Path(".tools/bin/redis-cli")
    if found is None or (tools.exists() and Path(found).samefile(tools)):
        found = str(tools) if tools.exists() else "redis-cli"
    else:
        found = "redis-cli"
    return found if port is None else f"{found} -p {port}"


def say(*lines: str) -> None:
    """Speak to the person at the terminal; logs go to stderr."""
    sys.stdout.write("".join([f"{line}\n" for line in lines]))
    sys.stdout.flush()


def _status_line(now: Mapping[str, str], rate: int, problem: str | None) -> str:
    return (
        f"{time.strftime('%H:%M:%S')}  events {now['nautilus_bridge_events_processed']}"
        f"  orders {now['nautilus_bridge_orders_published']}"
        f"  fills {now['nautilus_bridge_fills_published']}  entries/s {rate}"
        f"  backlog {now['nautilus_bridge_exec_backlog']} exec,"
        f" {now['nautilus_bridge_market_backlog']} market  {problem or 'ok'}"
    )


def _farewell(publisher: Publisher, *, drained: bool) -> str:
    if drained:
        return "stopped; everything is published"
    left = publisher.unpublished
    return (
        f"stopped; NOT published, and lost: {left['exec']} execution entries, "
        f"{left['market']} market events ({publisher.problem or 'Redis was too slow'})"
    )


def _first(errors: BaseExceptionGroup[Exit]) -> Exit:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exit)
    return error


def _load(path: str) -> Callable[..., Source]:
    """Return `module:function`, the source's factory."""
    module, _, name = path.partition(":")
    try:
        factory: Callable[..., Source] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Exit(exits.CONFIGURATION, f"source.factory: cannot load {path}: {error}") from None
    return factory
