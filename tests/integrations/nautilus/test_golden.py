"""Golden vectors: what entries look like at the edges of what Nautilus can hold.

tests/golden/<kind>.json are committed and compared byte for byte. A change of the contract is made
on purpose: write them again with

    python -m tests.integrations.nautilus.test_golden --write

and read the difference before committing it.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from nautilus_trader.model.data import (
    Bar,
    BarType,
    FundingRateUpdate,
    IndexPriceUpdate,
    MarkPriceUpdate,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.enums import AccountType, AggressorSide, OrderSide
from nautilus_trader.model.enums import PositionAdjustmentType as Adjustment
from nautilus_trader.model.events import (
    AccountState,
    OrderAccepted,
    OrderRejected,
    PositionChanged,
    PositionClosed,
    PositionOpened,
)
from nautilus_trader.model.identifiers import TradeId
from nautilus_trader.model.objects import AccountBalance, MarginBalance, Money, Price, Quantity
from nautilus_trader.model.position import Position

from bridge.core.contract import (
    ARCHIVE_KIND,
    EXEC_KINDS,
    STREAMS,
    Entry,
    default_names,
    head,
    hole,
    json_schema,
)
from integrations.nautilus import market
from integrations.nautilus.market import MarkPrices, Routes, Trim
from tests.integrations.nautilus.builders import (
    ACCOUNT,
    ALIAS,
    TS_NS,
    adjustment,
    cache_of,
    currency,
    event_of,
    fields_of,
    fill_of,
    inverse,
    limit,
    money,
    perpetual,
    translator_of,
    uuid,
)
from tests.integrations.nautilus.ranges import PRICE_MAX, QUANTITY_MAX, written

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = default_names("shadow:")

BTC = perpetual()
ODD = perpetual("币安人生|USDT")
WHOLE = 10**16
TS_MAX = 2**64 - 1

# By case: a price and a quantity that differ from their neighbors in the last digit they have.
PRICES = {
    "smallest": Price.from_raw(1, 16),
    "largest": Price.from_raw(PRICE_MAX * WHOLE, 16),
    "negative": Price.from_raw(-PRICE_MAX * WHOLE, 0),
    "highest precision": Price.from_raw(123456789012345678901234567889, 16),
    "everyday": Price.from_str("50000.50"),
}
QUANTITIES = {
    "smallest": Quantity.from_raw(1, 16),
    "largest": Quantity.from_raw(QUANTITY_MAX * WHOLE, 16),
    "negative": Quantity.from_str("1"),
    "highest precision": Quantity.from_raw(234567890123456789012345678998, 16),
    "everyday": Quantity.from_str("0.010"),
}
TIMES = dict.fromkeys(PRICES, TS_NS) | {"smallest": 0, "largest": TS_MAX}
TAILS = dict.fromkeys(PRICES, ("DESK-001.5e1f0a9c.1", "42", "77", "1")) | {
    "smallest": ("D.00000000.1", "1", "1", "1"),
    "largest": ("DESK-001.ffffffff.4294967295", str(2**63 - 1), str(2**63 - 1), "1"),
}

type Case = tuple[str, str, dict[str, str]]
"""What it shows, the name of its stream, and its fields in wire order."""


def market_cases(kind: str, encode: market.Encode, event: Callable[..., Any]) -> Iterator[Case]:
    """Yield one case each of PRICES; `event(instrument_id, case, ...)` makes the tick."""
    for case in PRICES:
        instrument = ODD if case == "smallest" else BTC
        tick = event(instrument.id, PRICES[case], QUANTITIES[case], TIMES[case])
        (entry,) = written(kind, encode([tick]))
        yield case, entry.key, entry.fields


def routes() -> Routes:
    return Routes(NAMES, cache_of(BTC, ODD), venue_alias=ALIAS, trim=Trim(100_000))


def quote_cases() -> Iterator[Case]:
    def quote(instrument_id: Any, ask: Price, size: Quantity, ts: int) -> QuoteTick:
        tick = 10 ** (16 - ask.precision)
        bid = Price.from_raw(ask.raw - tick, ask.precision) if ask.raw > 0 else ask
        return QuoteTick(instrument_id, bid, ask, Quantity.zero(size.precision), size, ts, 0)

    return market_cases("quotes", market.quote_encoder(routes()), quote)


def trade_cases() -> Iterator[Case]:
    ids = iter(("-", "x" * 36, "a,b|c", "T-5c4eb946e84ad7d4-001", "77001"))
    sides = iter((*AggressorSide, *AggressorSide))

    def trade(instrument_id: Any, price: Price, size: Quantity, ts: int) -> TradeTick:
        return TradeTick(instrument_id, price, size, next(sides), TradeId(next(ids)), ts, 0)

    return market_cases("trades", market.trade_encoder(routes()), trade)


def bar_cases() -> Iterator[Case]:
    def bar(instrument_id: Any, price: Price, size: Quantity, ts: int) -> Bar:
        bar_type = BarType.from_str(f"{instrument_id}-1-MINUTE-LAST-EXTERNAL")
        return Bar(bar_type, price, price, price, price, size, ts, 0)

    return market_cases("bars", market.plain_encoder(routes(), "bars", market.bar_values), bar)


def mark_cases() -> Iterator[Case]:
    marks = MarkPrices()

    def mark(instrument_id: Any, price: Price, _: Quantity, ts: int) -> MarkPriceUpdate:
        if price != PRICES["smallest"]:  # that one comes before any index price
            marks.on_index(IndexPriceUpdate(instrument_id, price, ts, 0))
        return MarkPriceUpdate(instrument_id, price, ts, 0)

    return market_cases("mark", market.plain_encoder(routes(), "mark", marks.values), mark)


def funding_cases() -> Iterator[Case]:
    encode = market.plain_encoder(routes(), "funding", market.funding_values)
    for case, rate, minutes, next_ns in (
        ("smallest", "1E-28", None, None),
        ("largest", "3.000000", 60 * 24 * 365, TS_MAX),
        ("negative", "-0.00030000", 30, TS_NS),
        ("highest precision", "0.0001234567890123456789012345678", 480, TS_NS),
        ("everyday", "0.00010000", 480, TS_NS),
    ):
        times = (TIMES[case], 0, minutes, next_ns)
        (entry,) = written("funding", encode([FundingRateUpdate(BTC.id, Decimal(rate), *times)]))
        yield case, entry.key, entry.fields


def tailed(case: str, entry: Entry) -> Case:
    tail = dict(zip(("producer", "seq", "jseq", "v"), TAILS[case], strict=True))
    return case, NAMES.key(entry.kind), fields_of(entry) | tail


def order_cases() -> Iterator[Case]:
    for case in PRICES:
        order = limit(BTC, price=PRICES[case], qty=QUANTITIES[case])
        cache = cache_of(BTC)
        cache.add_order(order)
        kind, given = OrderAccepted, {"ts_event": TIMES[case]}
        if case == "negative":
            kind, given = OrderRejected, {"reason": "UNKNOWN", "reconciliation": True}
        event = event_of(kind, order, **given)
        order.apply(event)
        yield tailed(case, translator_of(cache).order(event)[0])


def fill_cases() -> Iterator[Case]:
    fees = {
        "smallest": "0.00000001 USDT",
        "largest": f"{PRICE_MAX} USDT",
        "negative": "-0.02500000 USDT",
        "highest precision": "12345678901.12345678 BTC",
        "everyday": "0.10 USDT",
    }
    for case, fee in fees.items():
        instrument = inverse() if case == "negative" else BTC
        order = limit(instrument, side=OrderSide.SELL if case == "negative" else OrderSide.BUY)
        terms: dict[str, Any] = {"price": PRICES[case], "qty": QUANTITIES[case]}
        fill = fill_of(instrument, order, fee=fee, ts_event=TIMES[case], **terms)
        run = uuid(5).value if case == "smallest" else ""
        yield tailed(case, translator_of(cache_of(instrument), run).order(fill)[0])


def position_cases() -> Iterator[Case]:
    for case in PRICES:
        instrument = perpetual(size_digits=QUANTITIES[case].precision)
        order = limit(instrument, side=OrderSide.SELL if case == "negative" else OrderSide.BUY)
        terms: dict[str, Any] = {"price": PRICES[case], "qty": QUANTITIES[case]}
        if case == "highest precision":  # more than a float can hold, and Nautilus holds a float
            terms = {"price": "0.1234567890123456", "qty": "1.1234567890123457"}
        fill = fill_of(instrument, order, ts_event=TIMES[case], fee="-0.5 USDT", **terms)
        position = Position(instrument, fill)
        translator = translator_of(cache_of(instrument))
        (entry,) = translator.position(PositionOpened.create(position, fill, uuid(1), 0))
        if case == "everyday":
            for kind, side, price, qty in (
                (PositionChanged, OrderSide.BUY, "50000.51", "0.020"),
                (PositionClosed, OrderSide.SELL, "49000.00", "0.030"),
            ):
                fill = fill_of(instrument, side=side, price=price, qty=qty, trade_id=price)
                position.apply(fill)
                (entry,) = translator.position(kind.create(position, fill, uuid(1), 0))
                yield tailed(case, entry)
        else:
            yield tailed(case, entry)


def account_cases() -> Iterator[Case]:
    units = {"smallest": 1, "largest": PRICE_MAX * 10**8, "negative": -PRICE_MAX * 10**8}
    for case, amount in units.items():
        total = Money.from_raw(amount * 10**8, currency("USDT"))
        balance = AccountBalance(total, money("0 USDT"), total)
        margins = [MarginBalance(money("0.00000001 USDC"), money("1 USDC"), BTC.id)]
        kind = AccountType.MARGIN
        times = (uuid(1), TIMES[case], 0)
        state = AccountState(ACCOUNT, kind, None, True, [balance], margins, {}, *times)
        for entry in translator_of(cache_of()).account(state):
            yield tailed(case, entry)


def exec_funding_cases() -> Iterator[Case]:
    amounts = {
        "smallest": "0.00000001 BTC",
        "largest": f"{PRICE_MAX} USDT",
        "negative": "-5.00005000 USDT",
    }
    for case, amount in amounts.items():
        cache = cache_of(BTC)
        if case == "negative":
            cache.add_funding_rate(FundingRateUpdate(BTC.id, Decimal("1.0E-7"), TS_NS, 0))
        event = adjustment(BTC, Adjustment.FUNDING, amount)
        yield tailed(case, translator_of(cache).position(event)[0])


def control_cases() -> Iterator[Case]:
    yield tailed("smallest", hole("s", "p", 1, 1, 0))
    yield tailed("largest", hole("exec:orders", "T.0.1", 2**63, 2**64 - 1, 2**64 - 1))


def archive_cases() -> Iterator[Case]:
    for case, number, digit in (("smallest", 0, "0"), ("largest", 2**64 - 1, "f")):
        yield case, NAMES.key("archive"), head(*[number] * 4, digit * 64, number, digit * 32)


CASES: dict[str, Callable[[], Iterator[Case]]] = dict(
    zip(
        STREAMS,
        (
            *(order_cases, fill_cases, position_cases, account_cases, exec_funding_cases),
            *(control_cases, archive_cases),
            *(quote_cases, trade_cases, bar_cases, mark_cases, funding_cases),
        ),
        strict=True,
    )
)


def vectors(kind: str) -> str:
    """Return the text of the golden file of `kind`."""
    cases = [
        {"case": case, "stream": stream, "entry": entry} for case, stream, entry in CASES[kind]()
    ]
    return json.dumps(cases, indent=2, ensure_ascii=False) + "\n"


def path_of(kind: str) -> Path:
    return GOLDEN / f"{kind}.json"


def committed(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path_of(kind).read_text(encoding="utf-8"))
    return found


def test_every_kind_of_stream_has_its_vectors() -> None:
    """No stream without a golden file, and no file without a stream."""
    assert set(CASES) == set(STREAMS) == {path.stem for path in GOLDEN.glob("*.json")}


@pytest.mark.parametrize("kind", STREAMS)
def test_entries_are_what_they_were(kind: str) -> None:
    """What is written today is byte for byte what was agreed."""
    assert vectors(kind).encode() == path_of(kind).read_bytes(), __doc__


@pytest.mark.parametrize("kind", STREAMS)
def test_the_schema_allows_every_vector(kind: str) -> None:
    """Every golden entry is valid by the JSON Schema that stands at bridge:contract."""
    schema: Any = json_schema(NAMES)
    validator = jsonschema.Draft202012Validator(schema["$defs"][kind])
    for vector in committed(kind):
        validator.validate(vector["entry"])


@pytest.mark.parametrize("kind", STREAMS)
def test_the_vectors_reach_the_edges(kind: str) -> None:
    """Smallest, largest and negative values of each stream, documented fields first."""
    cases = committed(kind)
    edges = {"smallest", "largest"}
    if kind not in ("control", ARCHIVE_KIND):  # they have no number that can be negative
        edges |= {"negative"}
    assert edges <= {vector["case"] for vector in cases}
    names = list(STREAMS[kind].documented)
    assert all(list(vector["entry"])[: len(names)] == names for vector in cases)
    assert all(("producer" in vector["entry"]) == (kind in EXEC_KINDS) for vector in cases)


def main(arguments: Sequence[str]) -> int:
    """Write the golden files again; needs `--write`, so that nobody does it by accident."""
    if list(arguments) != ["--write"]:
        sys.stderr.write(__doc__ or "")
        return 2
    for kind in STREAMS:
        path_of(kind).write_text(vectors(kind), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
