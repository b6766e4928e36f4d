"""The legacy program over the acceptance week, or a part of it."""

from acceptance.events import Window
from integrations.binance.dataset import Dataset
from integrations.binance.planted import DAY
from strategies.basis_carry import legacy
from strategies.basis_carry.legacy import Instrument, Result
from strategies.basis_carry.params import BasisCarryParams

SYMBOLS = ("BTC", "ETH", "SOL")
SPOT, PERP = "{}USDT.BINANCE_SPOT", "{}USDT-PERP.BINANCE_FUTURES"
WEEK = 7 * DAY


def trade(july: Dataset, begin_us: int = 0, end_us: int = WEEK, **params: object) -> Result:
    """Run the program from `begin_us` to `end_us` of the week with these parameters."""
    start, end = (july.start_ns + time * 1000 for time in (begin_us, end_us))
    return legacy.run(
        Window(july, SYMBOLS, start, end).events(),
        [
            Instrument(i.id, i.symbol, i.leg, i.tick, i.lot, i.min_notional, i.fee)
            for i in july.instruments
        ],
        params=BasisCarryParams.from_mapping(params),
        start_ns=start,
        end_ns=end,
    )
