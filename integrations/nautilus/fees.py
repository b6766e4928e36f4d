"""A fee to the last decimal: Nautilus's own models calculate in float64."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from nautilus_trader.backtest.config import FeeModelConfig
from nautilus_trader.backtest.models import FeeModel
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.model.orders import Order

from integrations.nautilus.values import text

EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)


class ExactFeeModelConfig(FeeModelConfig, frozen=True):
    """Has no setting: the rate is the instrument's."""


class ExactFeeModel(FeeModel):
    """Charges price times quantity times the instrument's taker rate, in its quote currency."""

    def __init__(self, config: ExactFeeModelConfig | None = None) -> None:
        pass

    def get_commission(
        self, order: Order, fill_qty: Quantity, fill_px: Price, instrument: Instrument
    ) -> Money:
        """Return the fee of a fill."""
        currency = instrument.quote_currency
        fee = fee_of(
            Decimal(text(fill_px)),
            Decimal(text(fill_qty)),
            instrument.taker_fee,
            decimals=currency.precision,
        )
        return Money.from_str(f"{fee:f} {currency.code}")


def fee_of(price: Decimal, quantity: Decimal, rate: Decimal, *, decimals: int) -> Decimal:
    """Return `price * quantity * rate`, rounded half to even to `decimals`: 8 for USDT."""
    with localcontext(EXACT):
        return (price * quantity * rate).quantize(Decimal(1).scaleb(-decimals))
