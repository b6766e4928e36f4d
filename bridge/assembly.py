"""Settings -> a publisher with its two lanes, the same for the daemon and for who attaches."""

import secrets
import time

from bridge.core.contract import Names
from bridge.core.lanes import ExecLane, MarketLane
from bridge.link import Target
from bridge.metrics import Metrics
from bridge.publisher import Publisher
from bridge.settings import Config


def make_publisher(
    config: Config,
    names: Names,
    metrics: Metrics,
    *,
    url: str,
    producer_id: str,
    threaded: bool = False,
) -> Publisher:
    """Return a publisher; its lanes are `publisher.exec.lane` and `publisher.market.lane`.

    The producer is `<producer_id>.<8 hex digits of this run>.1`.
    """
    exec_lane = ExecLane(
        names,
        producer=f"{producer_id}.{secrets.token_hex(4)}.1",
        entries_max=config.exec.entries_max,
        clock_ns=time.monotonic_ns,
    )
    return Publisher(
        Target.from_url(url),
        exec_lane,
        MarketLane(entries_max=config.market.entries_max, clock_ns=time.monotonic_ns),
        metrics,
        batch_entries_max=config.exec.batch_entries_max,
        in_flight_max=config.market.in_flight_max,
        backoff_seconds_max=config.redis.reconnect_seconds_max,
        reply_seconds_max=config.redis.reply_timeout_seconds,
        threaded=threaded,
    )
