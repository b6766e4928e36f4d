"""Which files a dataset has, and how each of their columns is stored."""

from collections.abc import Mapping
from typing import NamedTuple

MANIFEST = "MANIFEST.json"
RATE_DECIMALS = 8
SIDES = {"BUYER": 1, "SELLER": -1}


class Column(NamedTuple):
    """How a column is stored. `unit` picks its decimals; `least` counts units of the last one."""

    arrow: str
    unit: str = ""
    least: int | None = None


TEXT = Column("string")
INTEGER = Column("int64")
PRICE = Column("double", "price", least=1)
SIZE = Column("double", "size", least=1)
SHOWN = Column("double", "size", least=0)  # an empty touch is a fact, an empty trade is not
RATE = Column("double", "rate")
HOURS = Column("int64", least=1)

type Layout = Mapping[str, Column]
QUOTES: Layout = {
    "ts": INTEGER,
    "symbol": TEXT,
    "bid": PRICE,
    "ask": PRICE,
    "bid_size": SHOWN,
    "ask_size": SHOWN,
}
TRADES: Layout = {
    "ts": INTEGER,
    "symbol": TEXT,
    "price": PRICE,
    "size": SIZE,
    "side": TEXT,
    "trade_id": INTEGER,
}
FUNDING: Layout = {
    "ts": INTEGER,
    "calc_time": INTEGER,
    "symbol": TEXT,
    "rate": RATE,
    "interval_hours": HOURS,
    "mark": PRICE,
}
FILES: Mapping[str, tuple[str, Layout]] = {
    "spot.parquet": ("spot", QUOTES),
    "perp.parquet": ("perp", QUOTES),
    "spot_trades.parquet": ("spot", TRADES),
    "perp_trades.parquet": ("perp", TRADES),
    "funding.parquet": ("perp", FUNDING),
}
REQUIRED = ("spot.parquet", "perp.parquet", "funding.parquet")  # trades are welcome
