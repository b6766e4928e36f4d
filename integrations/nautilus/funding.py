"""Funding of perpetuals in a backtest: Nautilus 1.x publishes the rates and never settles them.

A settlement happens inside the handler of the rate, which is fed first at its time: so it charges
the position that all earlier events left. The hooks `pre_process` and `process` come too late.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any, Final

from nautilus_trader.backtest.engine import SimulatedExchange
from nautilus_trader.backtest.modules import SimulationModule
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.data import FundingRateUpdate
from nautilus_trader.model.enums import PositionAdjustmentType
from nautilus_trader.model.events import PositionAdjusted, PositionEvent
from nautilus_trader.model.objects import Money
from nautilus_trader.model.position import Position

from integrations.nautilus.values import text

EXACT: Final = Context(prec=80, rounding=ROUND_HALF_EVEN)
PRIORITY: Final = 5  # behind portfolio (10) and tap (6), in front of strategies (0)
PORTFOLIO_PRIORITY: Final = 10


class FundingModule(SimulationModule):
    """Settles each rate of its venue on the last mark price, which must be of the same time.

    Every open position's account and realized PnL change; the PositionAdjusted that says so is
    published on `events.position.<strategy>`, so that bridge and strategy are told.
    """

    def register_venue(self, exchange: SimulatedExchange) -> None:
        """Listen to the venue's rates."""
        super().register_venue(exchange)
        self.msgbus.subscribe(f"data.funding_rates.{exchange.id}.*", self.settle, PRIORITY)
        self._spare_portfolio()

    def settle(self, update: FundingRateUpdate) -> None:
        """Pay or receive a rate on what is held. Raises RuntimeError without a mark price of its
        time."""
        for position in self.cache.positions_open(instrument_id=update.instrument_id):
            mark = self.cache.mark_price(update.instrument_id)
            if mark is None or mark.ts_event != update.ts_event:
                raise RuntimeError(
                    f"{update.instrument_id}: no mark price at {update.ts_event}, when its funding "
                    "is due; feed a MarkPriceUpdate of that time before the FundingRateUpdate"
                )
            currency = position.settlement_currency
            amount = amount_of(
                signed(position),
                Decimal(text(mark.value)),
                update.rate,
                decimals=currency.precision,
            )
            self._book(position, Money.from_str(f"{amount:f} {currency.code}"), update)

    def _book(self, position: Position, amount: Money, update: FundingRateUpdate) -> None:
        self.exchange.adjust_account(amount)
        event = PositionAdjusted(
            position.trader_id,
            position.strategy_id,
            position.instrument_id,
            position.id,
            position.account_id,
            PositionAdjustmentType.FUNDING,
            None,
            amount,
            f"funding {update.rate}",
            UUID4(),
            update.ts_event,
            update.ts_init,
        )
        position.apply_adjustment(event)
        self.msgbus.publish(f"events.position.{position.strategy_id}", event)

    def _spare_portfolio(self) -> None:
        """Keep adjustments from the portfolio, whose handler raises TypeError for them."""
        handler = self.portfolio.on_position_event

        def handle(event: Any) -> None:
            if isinstance(event, PositionEvent):
                handler(event)

        self.msgbus.unsubscribe("events.position.*", handler)
        self.msgbus.subscribe("events.position.*", handle, PORTFOLIO_PRIORITY)

    def process(self, ts_now: int) -> None:
        """Do nothing: Nautilus wants it to be there."""

    def log_diagnostics(self, logger: Any) -> None:
        """Do nothing: Nautilus wants it to be there."""

    def reset(self) -> None:
        """Do nothing: nothing is kept from one settlement to the next."""


def amount_of(position: Decimal, mark: Decimal, rate: Decimal, *, decimals: int) -> Decimal:
    """Return what is received, negative when it is paid: longs pay a positive rate.

    It is `-position * mark * rate`, rounded half to even to `decimals`: 8 for USDT.
    """
    with localcontext(EXACT):
        return (-position * mark * rate).quantize(Decimal(1).scaleb(-decimals))


def signed(position: Position) -> Decimal:
    """Return what is held, exactly: Nautilus's own `signed_qty` is a float64."""
    quantity = Decimal(text(position.quantity))
    return quantity if position.is_long else -quantity
