"""NautilusRedisBridge: publish the events of a node or engine of your own to Redis.

    bridge = NautilusRedisBridge("redis://127.0.0.1:6379/0")
    bridge.attach(node)          # a TradingNode or a BacktestEngine, before it runs
    await bridge.start()
    ...
    await bridge.stop()

It publishes only, and never gates an order. With `journal.directory` set execution events are
written down before the node goes on, and get to Redis exactly once, whatever is killed. Without,
they are kept in memory until Redis has confirmed them: at least once, as long as the process lives.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on sys.path, where `import bridge` would find this file.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import asyncio
import os
from typing import TYPE_CHECKING, Final

import structlog

from bridge import config
from bridge import log as logs
from bridge.assembly import make_publisher
from bridge.core.contract import Names
from bridge.exits import CANNOT_RECORD, Exit
from bridge.handlers import Handler, Handlers
from bridge.lease import Lease
from bridge.metrics import Metrics
from bridge.preflight import prepare_redis, release
from bridge.publisher import Publisher, PublisherThread
from bridge.readers import Places, Readers
from bridge.records import Records
from bridge.settings import Config, MarketSettings

if TYPE_CHECKING:  # the self-test runs without Nautilus
    from nautilus_trader.backtest.engine import BacktestEngine
    from nautilus_trader.live.node import TradingNode

    from integrations.nautilus.tap import Tap

log = structlog.get_logger("nautilus_bridge.attach")

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"
DRAIN_SECONDS_MAX: Final = 5.0
READERS_SECONDS_MAX: Final = 1.0


class NautilusRedisBridge:
    """Publishes what one node or engine does.

    `redis_url`: unset, `BRIDGE_REDIS__URL`, else redis://127.0.0.1:6379/0. All other settings come
    from the environment (`BRIDGE_<SECTION>__<KEY>`). Streams carry `streams.prefix`; unset, that is
    `backtest:<run>:` for an engine, `shadow:` for a node with sandbox execution, else empty.

    Raises bridge.config.ConfigError for settings that cannot be used.
    """

    def __init__(self, redis_url: str | None = None) -> None:
        if not structlog.is_configured():
            logs.configure()
        self._config = _settings(redis_url)
        self.metrics = Metrics()
        self._handlers = Handlers(self.metrics, ("orders", "fills"))
        self._publisher: Publisher | None = None
        self._tap: Tap | None = None
        self._names: Names | None = None
        self._runner: asyncio.Task[None] | PublisherThread | None = None
        self._failure: Exception | None = None
        self._records: Records | None = None
        self._lease: Lease | None = None
        self._readers: Readers | None = None
        self._stopped = False

    def register_fill_handler(self, handler: Handler) -> None:
        """Have `handler` called with the fields of each `exec:fills` entry, in their order."""
        self._handlers.by_kind["fills"].append(handler)

    def register_order_handler(self, handler: Handler) -> None:
        """Have `handler` called with the fields of each `exec:orders` entry, in their order.

        Handlers may be plain or async. They run one after the other, behind the event, on the
        node's loop (in a backtest on the bridge's thread); one that raises is logged and counted.
        """
        self._handlers.by_kind["orders"].append(handler)

    def attach(self, target: "TradingNode | BacktestEngine") -> None:
        """Tap `target`, before it runs; with `journal.directory` set, open the journal.

        Raises RuntimeError when attached already, ValueError for a node that mixes real and sandbox
        execution without `streams.prefix`, bridge.exits.Exit when the journal cannot be used.
        """
        from nautilus_trader.backtest.engine import BacktestEngine

        from integrations.nautilus.feed import feed_of
        from integrations.nautilus.tap import Tap, default_prefix

        if self._publisher is not None:
            raise RuntimeError("this bridge is attached already; make one for each node")
        if target.kernel.trader.is_running:
            raise RuntimeError("the node runs already; attach before it does")
        settings, is_backtest = self._config, isinstance(target, BacktestEngine)
        prefix = settings.streams.prefix
        names = Names(
            default_prefix(target) if prefix is None else prefix, settings.streams.templates
        )
        if not is_backtest:  # first: Nautilus may refuse it
            target.trader.add_actor(feed_of(self._market_of(target)))
        trader_id = target.kernel.trader_id.value
        publisher = self._make_publisher(names, trader_id=trader_id, threaded=is_backtest)
        self._publisher, self._names = publisher, names
        self._tap = Tap(
            target.kernel,
            publisher.exec.lane,
            publisher.market.lane,
            self.metrics,
            names=names,
            venue_alias=settings.contract.venue_alias,
            maxlen=settings.market.maxlen,
            on_failure=self._fail,
        )
        journal = None if self._records is None else self._records.journal
        log.info(
            "bridge.attached",
            producer=publisher.exec.lane.producer,
            prefix=names.prefix,
            delivery="at least once, from memory" if journal is None else "exactly once",
            journal=None if journal is None else str(journal.directory),
        )

    async def start(self) -> None:
        """Check Redis, publish the contract, begin to publish.

        Raises RuntimeError without `attach`, or when it runs already; bridge.exits.Exit when Redis
        cannot be written to.
        """
        if self._publisher is None or self._names is None:
            raise RuntimeError("attach a TradingNode or BacktestEngine before start")
        if self._runner is not None:
            raise RuntimeError("this bridge is started already")
        if self._stopped:
            raise RuntimeError("this bridge was stopped; make another one for another run")
        await asyncio.to_thread(
            prepare_redis, self._url, self._config, self._names, lease=self._lease
        )
        if self._publisher.threaded:
            self._runner = PublisherThread(self._publisher)
            self._runner.start()
        else:
            self._runner = asyncio.create_task(self._publisher.run(), name="bridge")
            self._runner.add_done_callback(_name_failure)

    async def stop(self) -> None:
        """Publish what is left, for at most 5 s; end. Twice is harmless.

        Call it when the node has stopped: its last events come late. Raises
        bridge.core.lanes.CannotRecord when execution events were lost, bridge.exits.Exit when the
        journal failed or another bridge took this one's place, and whatever else ended it.
        """
        runner, self._runner = self._runner, None
        self._stopped = runner is not None or self._stopped
        try:
            drained = runner is None or await self._end(runner)
        finally:
            if self._tap is not None:
                self._tap.detach()
            await self._close_records()
        failure, self._failure = self._failure, None
        if not drained:
            log.error("bridge.unpublished", **self.unpublished)
        elif runner is not None:
            log.info("bridge.stopped", everything="published")
        if failure is not None:
            raise failure

    async def _end(self, runner: asyncio.Task[None] | PublisherThread) -> bool:
        """Publish what is left and end the publisher; return whether all is confirmed."""
        assert self._publisher is not None
        if isinstance(runner, PublisherThread):
            return await asyncio.to_thread(runner.stop, DRAIN_SECONDS_MAX)
        drained = await self._publisher.drain(DRAIN_SECONDS_MAX)
        runner.cancel()
        await asyncio.wait({runner})
        if not runner.cancelled():
            runner.result()
        return drained

    async def _close_records(self) -> None:
        """Give lease and journal back; what Redis has not confirmed stays in the journal."""
        records, self._records = self._records, None
        if records is None:
            return
        if self._lease is not None:
            await asyncio.to_thread(release, self._url, self._lease)
        if self._readers is not None:
            await asyncio.to_thread(self._readers.stop, READERS_SECONDS_MAX)
        records.close()

    @property
    def prefix(self) -> str:
        """What stands before every stream name; known once attached."""
        return "" if self._names is None else self._names.prefix

    @property
    def unpublished(self) -> dict[str, int]:
        """Entries and events that Redis has not confirmed, by lane."""
        return {} if self._publisher is None else self._publisher.unpublished

    @property
    def _url(self) -> str:
        return str(self._config.redis.secret_url)

    def _market_of(self, node: "TradingNode") -> MarketSettings:
        """Return what to subscribe. Trades only where they cannot change what a sandbox fills:
        its default book takes each trade's price for best bid and ask until the next quote."""
        from integrations.nautilus.tap import in_sandbox

        market = self._config.market
        if not any(in_sandbox(node)) or "trades" not in market.subscribe:
            return market
        log.warning(
            "bridge.trades_left_out",
            why="a trade overwrites the book of Nautilus's sandbox and would change its fills",
            effect="trades that a strategy subscribes are published all the same",
            remedy="none needed; to publish them, subscribe them in a strategy",
        )
        kinds = tuple([kind for kind in market.subscribe if kind != "trades"])
        return market.model_copy(update={"subscribe": kinds})

    def _make_publisher(self, names: Names, *, trader_id: str, threaded: bool) -> Publisher:
        settings = self._config
        producer_id = settings.producer.id or trader_id
        if settings.journal_directory is not None:
            self._records = _open(_recording(settings, names, threaded), producer_id)
            self._lease = Lease.make(
                [f"bridge:lease:{producer_id}"],
                seconds=settings.producer.lease_seconds,
                uuid=self._records.journal.head.uuid,
            )
            places = Places(settings, self._url, self._records.state)
            self._readers = Readers(places, self.metrics, attached=True)
            self._records.journal.is_taken = self._readers.is_taken
            self._readers.start()
        publisher = make_publisher(
            settings,
            names,
            self.metrics,
            url=self._url,
            producer_id=producer_id,
            records=self._records,
            lease=self._lease,
            threaded=threaded,
        )
        self._handlers.waits = threaded
        publisher.handlers = self._handlers
        publisher.exec.lane.on_entry = self._handlers.offer
        return publisher

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
            log.critical("bridge.cannot_record", problem=str(error), remedy="end the node")


def _recording(settings: Config, names: Names, is_backtest: bool) -> Config:
    """Return where to record: a backtest, whose streams are its own, in a folder of its own."""
    streams = settings.streams.model_copy(update={"prefix": names.prefix})
    settings = settings.model_copy(update={"streams": streams})
    folder = settings.journal_directory
    if not is_backtest or folder is None:
        return settings
    run = folder / (names.prefix.strip(":").replace(":", "-") or "backtest")
    journal = settings.journal.model_copy(update={"directory": None})
    state = settings.state.model_copy(update={"directory": run})
    return settings.model_copy(update={"journal": journal, "state": state})


def _open(settings: Config, producer_id: str) -> Records:
    """Open the records. Raises Exit, also when a journal failed here before: what this bridge
    cannot halt must not go on."""
    records = Records.open(settings, producer_id)
    halt = records.latch.load().halt
    if halt is None:
        return records
    records.close()
    raise Exit(
        CANNOT_RECORD,
        f"halted: {halt.reason}; see to it, then clear it with `python -m bridge resume "
        f"--directory {settings.state_directory}`",
    )


def _name_failure(task: asyncio.Task[None]) -> None:
    """Say at once that nothing is published any more; `stop` raises the reason."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("bridge.failed", exc_info=task.exception())


def _settings(redis_url: str | None) -> Config:
    """Return the settings: argument, else environment, else the default URL."""
    given = redis_url or os.environ.get("BRIDGE_REDIS__URL") or DEFAULT_URL
    return config.load(None, environ=os.environ, overrides={"redis.url": given})


def main() -> int:
    """Run the self-test; return the exit code."""
    from integrations.nautilus import selftest

    parser = argparse.ArgumentParser(
        prog="integrations/nautilus/bridge.py",
        description="NautilusRedisBridge is used from Python; here it tests itself.",
    )
    parser.add_argument(
        "--test",
        action="store_true",
        required=True,
        help="send events through an embedded Redis and compare what arrives",
    )
    parser.parse_args()
    logs.configure("warning")
    try:
        return selftest.run()
    except Exit as error:
        print(error, file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
