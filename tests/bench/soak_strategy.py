"""What the soak trades, and how late the loop it runs on is meanwhile."""

import asyncio
import json
import os
import time
from pathlib import Path

from nautilus_trader.common.component import TimeEvent

from strategies.example import Example, ExampleConfig

PROBE_SECONDS = 0.010
BUCKET_SECONDS = 0.0001
BUCKETS = 20_000


class SoakingConfig(ExampleConfig, frozen=True):
    """About 50 execution entries a second."""

    interval_seconds: float = 0.3


class Soaking(Example):
    """Trades steadily. At its end it writes to the file SOAK_DELAYS how late the loop was."""

    def on_start(self) -> None:
        """Begin to trade, and to look at the clock."""
        super().on_start()
        self._late = [0] * BUCKETS  # how often it was late by so many BUCKET_SECONDS
        self._worst = 0.0
        self._probing = asyncio.get_running_loop().create_task(self._probe())

    def on_stop(self) -> None:
        """Close what is open, and tell."""
        super().on_stop()
        self._probing.cancel()
        told = {"p50": self._quantile(0.5), "p99": self._quantile(0.99), "worst": self._worst}
        Path(os.environ["SOAK_DELAYS"]).write_text(json.dumps(told))

    def _on_step(self, event: TimeEvent) -> None:
        """Leave out the steps that it is late for: a position is not to be closed twice."""
        if self.clock.timestamp_ns() - event.ts_event < self.config.interval_seconds * 1e9:
            super()._on_step(event)

    async def _probe(self) -> None:
        while True:
            due = time.perf_counter() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            late = time.perf_counter() - due
            self._worst = max(self._worst, late)
            self._late[min(max(0, int(late / BUCKET_SECONDS)), BUCKETS - 1)] += 1

    def _quantile(self, share: float) -> float:
        """Return the seconds that this share of the probes was not later than."""
        left = share * sum(self._late)
        for bucket, count in enumerate(self._late):
            left -= count
            if left <= 0:
                return (bucket + 1) * BUCKET_SECONDS
        return self._worst
