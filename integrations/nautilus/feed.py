"""Market data without any strategy's help.

A live data client streams only what somebody subscribed. `Feed` is the actor that subscribes for
the bridge. It sends the commands itself instead of using the actor's methods: those would add a
handler of half a microsecond to every event that the tap sees anyway.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from nautilus_trader.common.actor import Actor
from nautilus_trader.common.config import ActorConfig
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.data.messages import (
    SubscribeBars,
    SubscribeFundingRates,
    SubscribeMarkPrices,
    SubscribeQuoteTicks,
    SubscribeTradeTicks,
)
from nautilus_trader.model.data import BarType
from nautilus_trader.model.identifiers import InstrumentId

from bridge.settings import MarketSettings

log = structlog.get_logger("nautilus_bridge.feed")

COMMAND_OF: Final[dict[str, tuple[type, str]]] = {
    "quotes": (SubscribeQuoteTicks, "data.quotes"),
    "trades": (SubscribeTradeTicks, "data.trades"),
    "mark": (SubscribeMarkPrices, "data.mark_prices"),
    "funding": (SubscribeFundingRates, "data.funding_rates"),
}


class FeedConfig(ActorConfig, frozen=True):
    """What to subscribe. Without `instruments`: every one in the cache when the node starts."""

    kinds: tuple[str, ...] = ("quotes", "trades")
    instruments: tuple[str, ...] = ()
    instruments_max: int = 500
    bar_types: tuple[str, ...] = ()


class Feed(Actor):
    """Subscribes when the node starts, when its data clients are connected."""

    def __init__(self, config: FeedConfig) -> None:
        super().__init__(config)

    def on_start(self) -> None:
        """Subscribe. Too many instruments are named, and then none is subscribed."""
        instruments = self._instruments()
        for kind in self.config.kinds:
            for instrument_id in instruments:
                self._subscribe(kind, instrument_id)
        for name in self.config.bar_types:
            bar_type = BarType.from_str(name)
            self._keep(f"data.bars.{bar_type}")
            self._send(SubscribeBars, bar_type.instrument_id, bar_type=bar_type)
        log.info(
            "feed.subscribed",
            kinds=self.config.kinds,
            instruments=len(instruments),
            bar_types=len(self.config.bar_types),
        )

    def _instruments(self) -> Sequence[InstrumentId]:
        if self.config.instruments:
            return [InstrumentId.from_str(name) for name in self.config.instruments]
        known = sorted(instrument.id for instrument in self.cache.instruments())
        if len(known) > self.config.instruments_max:
            log.error(
                "feed.too_many_instruments",
                known=len(known),
                limit=self.config.instruments_max,
                effect="only what strategies subscribe is published",
                remedy="name them in market.instruments, or raise market.instruments_max",
            )
            return []
        return known

    def _subscribe(self, kind: str, instrument_id: InstrumentId) -> None:
        command, topic = COMMAND_OF[kind]
        self._keep(f"{topic}.{instrument_id.venue}.{instrument_id.symbol}")
        self._send(command, instrument_id)

    def _keep(self, topic: str) -> None:
        """Keep the topic alive when a strategy unsubscribes it.

        The data engine then asks for other subscribers by the exact topic, and does not see the
        tap's wildcards.
        """
        self.msgbus.subscribe(topic, _ignore)

    def _send(self, command: Callable[..., Any], instrument_id: InstrumentId, **more: Any) -> None:
        words = {"bar_type": more["bar_type"]} if more else {"instrument_id": instrument_id}
        self.msgbus.send(
            "DataEngine.execute",
            command(
                client_id=None,
                venue=instrument_id.venue,
                command_id=UUID4(),
                ts_init=self.clock.timestamp_ns(),
                **words,
            ),
        )


def feed_of(market: MarketSettings) -> Feed:
    """Return the actor that subscribes the configured market data."""
    return Feed(
        FeedConfig(
            component_id=f"NautilusRedisBridge-{UUID4().value[:8]}",
            kinds=market.subscribe,
            instruments=market.instruments,
            instruments_max=market.instruments_max,
            bar_types=market.bar_types,
        )
    )


def _ignore(_: Any) -> None:
    """Take an event that the tap has taken already."""
