"""Strategies for tests of the daemon: a busy and an idle one, and some that cannot be used."""

from nautilus_trader.common.component import TimeEvent
from nautilus_trader.config import StrategyConfig
from nautilus_trader.trading.strategy import Strategy

from strategies.example import Example, ExampleConfig


class BusyConfig(ExampleConfig, frozen=True):
    interval_seconds: float = 0.05


class Busy(Example):
    """Trades twenty times a second, and leaves out the steps that it is late for.

    Many of them at once would close a position before its first closing is known: a cash account
    that sells what it does not have ends the node.
    """

    def _on_step(self, event: TimeEvent) -> None:
        late_ns = self.clock.timestamp_ns() - event.ts_event
        if late_ns < self.config.interval_seconds * 1e9:
            super()._on_step(event)


class Idle(Strategy):
    """Does nothing, so that only the account's first state reaches the exec lane."""


class Quits(Strategy):
    """Ends the whole node as soon as it starts."""

    def on_start(self) -> None:
        self.clock.set_time_alert_ns(
            "quit",
            self.clock.timestamp_ns() + 300_000_000,
            lambda _: self.shutdown_system("the strategy wants it"),
        )


class Demanding(Strategy):
    """Cannot be built: a field of its config has no default."""


class DemandingConfig(StrategyConfig, frozen=True):
    something: int


class Raises(Strategy):
    """Cannot be built: it raises."""

    def __init__(self) -> None:
        raise ValueError("no market today")


class NoStrategy:
    """Is none."""
