"""Settings -> a publisher with its two lanes, the same for the daemon and for who attaches."""

import secrets
import threading
import time

from bridge import endpoints
from bridge.claims import held_by
from bridge.core.contract import Names
from bridge.core.lanes import ExecLane, MarketLane, Record
from bridge.exec_shipper import ExecShipper
from bridge.lease import Lease
from bridge.metrics import Metrics
from bridge.publisher import Publisher
from bridge.records import Records
from bridge.settings import Config


def make_publisher(
    config: Config,
    names: Names,
    metrics: Metrics,
    *,
    url: str,
    producer_id: str,
    records: Records | None = None,
    lease: Lease | None = None,
    threaded: bool = False,
) -> Publisher:
    """Return a publisher; its lanes are `publisher.exec.lane` and `publisher.market.lane`.

    Without `records` execution entries are kept in memory only, and the producer is
    `<producer_id>.<8 hex digits of this run>.1`.
    """
    lane = _exec_lane(config, names, metrics, producer_id, records, threaded=threaded)
    shipper = ExecShipper(
        lane,
        metrics,
        scope=producer_id if records is not None else lane.producer,
        journal=None if records is None else records.journal,
        lease=lease,
        batch_entries_max=config.exec.batch_entries_max,
        in_flight_max=config.exec.in_flight_max,
    )
    market_url = config.redis.secret_market_url
    publisher = Publisher(
        endpoints.parse(url),
        shipper,
        MarketLane(entries_max=config.market.entries_max, clock_ns=time.monotonic_ns),
        metrics,
        market_endpoint=None if market_url is None else endpoints.parse(market_url),
        in_flight_max=config.market.in_flight_max,
        backoff_seconds_max=config.redis.reconnect_seconds_max,
        reply_seconds_max=config.redis.reply_timeout_seconds,
        threaded=threaded,
    )
    if records is not None:
        publisher.guard(records)
    return publisher


def _exec_lane(
    config: Config,
    names: Names,
    metrics: Metrics,
    producer_id: str,
    records: Records | None,
    *,
    threaded: bool,
) -> ExecLane:
    # A strategy that trades in a timer's callback does so on the thread of Nautilus's timers.
    numbering = threading.RLock()
    if records is None:
        return ExecLane(
            names,
            producer=f"{producer_id}.{secrets.token_hex(4)}.1",
            entries_max=config.exec.entries_max,
            clock_ns=time.monotonic_ns,
            numbering=numbering,
        )
    journal = records.journal
    lane = ExecLane(
        names,
        producer=journal.producer,
        entries_max=config.exec.in_flight_max,
        clock_ns=time.monotonic_ns,
        record=_timed(journal.append, metrics),
        known=records.fills,
        # A backtest waits instead: its window is filled by another thread than takes from it.
        spills=not threaded,
        numbering=numbering,
    )
    lane.begin(held_by(journal))
    lane.on_repeat = metrics.events_repeated.inc
    return lane


def _timed(append: Record, metrics: Metrics) -> Record:
    observe, clock = metrics.journal_append_seconds.observe, time.perf_counter

    def record(kind: int, seq: int, jseq: int, width: int, once: bytes, payload: bytes) -> None:
        start = clock()
        append(kind, seq, jseq, width, once, payload)
        observe(clock() - start)

    return record
