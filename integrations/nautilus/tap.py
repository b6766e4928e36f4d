"""The tap: bus subscriptions -> lanes. It reads, and never disturbs.

It subscribes before the node runs, because reconciliation speaks early; behind portfolio and risk
engine (priority 10) and in front of strategies (0), because a strategy that submits inside
`on_order_filled` would show its new order before the fill. No exception gets back to Nautilus: a
handler that raises ends a live node without a flush.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

import structlog
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.adapters.sandbox.execution import SandboxExecutionClient
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.execution_client import BacktestExecClient
from nautilus_trader.common.enums import ComponentState
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.identifiers import AccountId, ClientOrderId
from nautilus_trader.system.kernel import NautilusKernel

from bridge.core.contract import Entry, Names
from bridge.core.lanes import CannotRecord, Channel, ExecLane, MarketLane, Refused
from bridge.metrics import EVENT_TYPE_OF, Metrics
from bridge.publisher import safe_repr
from integrations.nautilus import market
from integrations.nautilus.market import MarkPrices, Routes, Trim, instrument_id_of
from integrations.nautilus.translate import Translator

log = structlog.get_logger("nautilus_bridge.tap")

PRIORITY: Final = 6
SIMULATED_CLIENTS: Final = (BacktestExecClient, SandboxExecutionClient)


def default_prefix(target: TradingNode | BacktestEngine) -> str:
    """Return the prefix that keeps simulated fills apart: it depends on who executes.

    Raises ValueError for a node that mixes real and sandbox execution: no prefix would be right.
    """
    if isinstance(target, BacktestEngine):
        return f"backtest:{target.kernel.instance_id.value[:8]}:"
    simulated = in_sandbox(target)
    if any(simulated) and not all(simulated):
        raise ValueError(
            "the node mixes real and sandbox execution; say with streams.prefix "
            "(BRIDGE_STREAMS__PREFIX) where its fills go"
        )
    return "shadow:" if any(simulated) else ""


def in_sandbox(node: TradingNode) -> list[bool]:
    """Return, for each configured execution client, whether it is Nautilus's sandbox."""
    clients = node._config.exec_clients.values()
    return [isinstance(client, SandboxExecutionClientConfig) for client in clients]


class Tap:
    """Feeds both lanes from one kernel's message bus.

    `on_failure` becomes that of the exec lane: it is told when execution events cannot be kept any
    more, from whatever side that shows; trading has to end then. `swept` are the orders that the
    bridge cancels itself.
    """

    def __init__(
        self,
        kernel: NautilusKernel,
        exec_lane: ExecLane,
        market_lane: MarketLane,
        metrics: Metrics,
        *,
        names: Names,
        venue_alias: Mapping[str, str],
        maxlen: int,
        on_failure: Callable[[Exception], None],
        swept: Container[ClientOrderId] = (),
    ) -> None:
        self._has_lost = False
        self._kernel = kernel
        self._exec_lane = exec_lane
        self._metrics = metrics
        exec_lane.on_failure = on_failure
        self._runs: dict[AccountId, str] = {}
        self._resets = 0
        self._translator = Translator(
            kernel.cache, venue_alias=venue_alias, run_of=self._run_of, swept=swept
        )
        self.routes = Routes(names, kernel.cache, venue_alias=venue_alias, trim=Trim(maxlen))
        self._subscriptions = (
            *self._exec_subscriptions(),
            *self._market_subscriptions(market_lane),
        )
        for topic, handler in self._subscriptions:
            kernel.msgbus.subscribe(topic, handler, PRIORITY)

    def detach(self) -> None:
        """Take the subscriptions back; harmless when done already."""
        for topic, handler in self._subscriptions:
            self._kernel.msgbus.unsubscribe(topic, handler)
        self._subscriptions = ()

    def _exec_subscriptions(self) -> Sequence[tuple[str, Callable[[Any], None]]]:
        translator = self._translator
        return (
            ("events.order.*", self._recorder(translator.order)),
            ("events.position.*", self._recorder(translator.position)),
            ("events.account.*", self._recorder(translator.account)),
            (f"events.system.{self._kernel.exec_engine.id}", self._on_engine_state),
        )

    def _market_subscriptions(
        self, lane: MarketLane
    ) -> Sequence[tuple[str, Callable[[Any], None]]]:
        marks = MarkPrices()
        routes = self.routes

        def channel(kind: str, encode: market.Encode, *, conflates: bool) -> Callable[[Any], None]:
            def stream_of(event: Any) -> str:
                instrument_id = instrument_id_of(event)
                try:
                    return routes.route(kind, instrument_id).key
                except Refused:  # called in the trading loop when the lane is full
                    return str(instrument_id)

            return lane.open(Channel(kind, encode=encode, stream_of=stream_of, conflates=conflates))

        def plain(kind: str, values: Callable[[Any], Sequence[str]]) -> market.Encode:
            return market.plain_encoder(routes, kind, values)

        return (
            ("data.quotes.*", channel("quotes", market.quote_encoder(routes), conflates=True)),
            ("data.trades.*", channel("trades", market.trade_encoder(routes), conflates=False)),
            ("data.bars.*", channel("bars", plain("bars", market.bar_values), conflates=False)),
            ("data.index_prices.*", self._guarded(marks.on_index)),
            ("data.mark_prices.*", channel("mark", plain("mark", marks.values), conflates=True)),
            (
                "data.funding_rates.*",
                channel("funding", plain("funding", market.funding_values), conflates=False),
            ),
        )

    def _guarded(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        def handle(event: Any) -> None:
            try:
                handler(event)
            except Exception as error:  # noqa: BLE001 - Nautilus must never see it
                self._refuse(event, error)

        return handle

    def _recorder(self, translate: Callable[[Any], Sequence[Entry]]) -> Callable[[Any], None]:
        """Return the handler that translates and keeps execution events."""

        def record(event: Any) -> None:
            try:
                entries = translate(event)
                for entry in entries:
                    self._exec_lane.append(entry)
                if entries:  # the first tells the type: a fill's stands before its order's
                    self._metrics.events_processed[EVENT_TYPE_OF[entries[0].kind]].inc()
            except CannotRecord as error:
                self._lose(event, error)
            except Exception as error:  # noqa: BLE001 - Nautilus must never see it
                self._refuse(event, error)

        return record

    def _on_engine_state(self, event: Any) -> None:
        """Begin another run when the engine is reset: ids of orders and trades come again then."""
        if getattr(event, "state", None) == ComponentState.RESETTING:
            self._resets += 1
            self._runs.clear()
            self._translator.reset()

    def _lose(self, event: Any, error: CannotRecord) -> None:
        """Name an execution event that could not be kept: this line is all that is left of it."""
        self._metrics.events_refused["full"].inc()
        log.critical("exec.lost", problem=str(error), event_text=safe_repr(event))
        if not self._has_lost:
            self._has_lost = True
            self._exec_lane.on_failure(error)

    def _refuse(self, event: Any, error: Exception) -> None:
        """Name an execution event that could not be translated: each one, nothing else tells."""
        reason = error.reason if isinstance(error, Refused) else "broken"
        self._metrics.events_refused[reason].inc()
        log.error(
            "event.refused",
            reason=reason,
            problem=f"{type(error).__name__}: {error}",
            event_text=safe_repr(event),
        )

    def _run_of(self, account_id: AccountId) -> str:
        """Return the run's id for a simulated account, the empty string for a real one."""
        run = self._runs.get(account_id)
        if run is None:
            clients = self._kernel.exec_engine._clients.values()
            simulated = any(
                client.account_id == account_id and isinstance(client, SIMULATED_CLIENTS)
                for client in clients
            )
            run = self._runs[account_id] = self._this_run() if simulated else ""
        return run

    def _this_run(self) -> str:
        instance = str(self._kernel.instance_id.value)
        return f"{instance}-{self._resets}" if self._resets else instance
