"""What the result of a run consists of: one schema for the port, the legacy program and the user's.

Money, prices and sizes are exact decimals, in files as text; times are integer ns UTC; metrics are
float64. Whoever brings results of a program of his own may leave out whatever has a default here:
the gates that need it are then `not judged`, and say so.
"""

import re
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter, WithJsonSchema

VERSION: Final = 1
TOTAL: Final = "total"  # the scope of all symbols; no symbol has this name
EXACT: Final = Context(prec=120, rounding=ROUND_HALF_EVEN)  # no sum or product of numbers rounds
NUMBER: Final = r"^-?[0-9]{1,24}(\.[0-9]{1,24})?$"
POSITIVE: Final = r"^(?=.*[1-9])[0-9]{1,24}(\.[0-9]{1,24})?$"


def text_of(number: Decimal) -> str:
    """Return the one notation of a number: no exponent, no zeros at its end, no minus zero."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _number(value: object) -> Decimal:
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, str) and re.fullmatch(NUMBER, value):
        return Decimal(value)
    raise ValueError('expected a decimal number as text, such as "12.5"')


def _positive(value: object) -> Decimal:
    number = _number(value)
    if number <= 0:
        raise ValueError("expected a number above 0")
    return number


def _written(pattern: str) -> tuple[PlainSerializer, WithJsonSchema]:
    schema = WithJsonSchema({"type": "string", "pattern": pattern})
    return PlainSerializer(text_of, return_type=str), schema


Number = Annotated[Decimal, PlainValidator(_number), *_written(NUMBER)]
Positive = Annotated[Decimal, PlainValidator(_positive), *_written(POSITIVE)]
Metric = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Leg = Literal["spot", "perp"]
Side = Literal["BUY", "SELL"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Version = Annotated[int, Field(ge=1, le=1)]  # a Literal[1] would take true for it


@dataclass(frozen=True, slots=True)
class Data:
    """What was fed: `events` are the quotes and funding rows in `[start_ns, end_ns)`."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    start_ns: int
    end_ns: int
    symbols: tuple[Name, ...]
    sha256: Sha256 | None = None
    events: Count | None = None
    last_ts: int | None = None


@dataclass(frozen=True, slots=True)
class Instrument:
    """A row of the instruments table. `fee` is the taker's fraction."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    id: Name
    symbol: Name
    leg: Leg
    tick: Positive
    lot: Positive
    min_notional: Number
    fee: Number


@dataclass(frozen=True, slots=True)
class Run:
    """What the program did, as it counts itself."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    events: Count | None = None
    last_ts: int | None = None
    orders: Count | None = None
    fills: Count | None = None
    denied: Count | None = None
    rejected: Count | None = None
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """PnL in USDT, with what is left at mid; `net = price_spot + price_perp + funding - fees`.

    Positions are a symbol's; `dust` is spot too small to be sold, in `spot_position`, too.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    price_spot: Number
    price_perp: Number
    funding: Number
    fees: Number
    net: Number
    turnover: Number
    spot_position: Number | None = None
    perp_position: Number | None = None
    dust: Number | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Costs, positive when they cost. Sharpe and drawdown (USDT) only of all symbols together.

    None: not defined, as a shortfall without orders.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    is_gross_bps: Metric | None = None
    is_net_bps: Metric | None = None
    is_gross_usd: Metric | None = None
    is_net_usd: Metric | None = None
    slippage_bps: Metric | None = None
    sharpe: Metric | None = None
    max_drawdown: Metric | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """`mid` is its own instrument's when it was decided, `end_mid` when it ended."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    ts: int
    symbol: Name
    leg: Leg
    side: Side
    qty: Positive
    mid: Positive
    end_mid: Positive
    filled: Number


@dataclass(frozen=True, slots=True)
class Fill:
    """`mid` is its own instrument's when the order reached the venue."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    ts: int
    symbol: Name
    leg: Leg
    side: Side
    qty: Positive
    px: Positive
    fee: Number
    mid: Positive | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """Funding on a position of the perpetual: `amount` is received, or paid when negative."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    ts: int
    symbol: Name
    position: Number
    rate: Number
    mark: Positive
    amount: Number


@dataclass(frozen=True, slots=True)
class Record:
    """A run. `totals` and `metrics` by symbol and for `total`; `days` have cumulative totals by
    symbol at each full UTC day and the end; `equity` is the PnL at each full minute and the end.

    What is left out leaves gates unjudged, and with one of its gates unjudged a tier cannot pass,
    but for `run.counts` (counts) and `run.orders` (orders), which may be left out:
    `totals` (pnl, positions, turnover), `orders` and `fills`, or `metrics` (is_gross, is_net),
    `fills` with their mids, or `metrics` (slippage), `fills` (fills, fill_fees), with their mids
    (fill_mids), `funding` (funding_events, funding_amounts), `days` (fees_by_day, funding_by_day,
    basis_pnl_by_day), `equity` (equity, and with `metrics` left out max_drawdown and sharpe),
    `data.events` and `run.events` (events), and `data.sha256`, `data.last_ts`, `instruments`,
    `run.last_ts`, `run.denied`, `run.rejected` (inputs). The contract tier is of the gates pnl,
    is_gross, is_net and slippage only.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    schema: Version
    program: Name
    strategy: Name
    data: Data
    mode: Literal["full", "fast"] = "full"
    mock: bool = False
    instruments: tuple[Instrument, ...] | None = None
    params: dict[str, str] | None = None
    run: Run = field(default_factory=Run)
    totals: dict[str, Totals] | None = None
    metrics: dict[str, Metrics] | None = None
    days: tuple[tuple[int, dict[str, Totals]], ...] | None = None
    orders: tuple[Order, ...] | None = None
    fills: tuple[Fill, ...] | None = None
    funding: tuple[Settlement, ...] | None = None
    equity: tuple[tuple[int, Number], ...] | None = None


RECORD: Final = TypeAdapter(Record)
SCHEMA: Final = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | RECORD.json_schema()
