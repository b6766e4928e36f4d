"""Position events of Nautilus's own execution engine -> exec:positions, checked by fractions."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import (
    PositionChanged,
    PositionOpened,
)
from nautilus_trader.model.identifiers import PositionId
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.position import Position

from bridge.core.lanes import Refused
from integrations.nautilus.translate import Translator
from tests.integrations.nautilus.builders import (
    ACCOUNT,
    TRADER,
    TS_NS,
    add_position,
    cache_of,
    fields_of,
    fill_of,
    money,
    pair,
    perpetual,
    translator_of,
    uuid,
)
from tests.integrations.nautilus.desk import Desk, Trade

BTC = perpetual()
# Averages of its prices have more digits than a float can hold.
FINE = perpetual(price_digits=9)
SPOT = pair(venue="BINANCE_FUTURES", size_digits=5)
NETTED = "BTCUSDT-PERP.BINANCE_FUTURES-CARRY-001"


def expected(trades: Sequence[Trade]) -> list[tuple[str, str, Fraction, Fraction]]:
    """Return status, side, quantity and average of every event, in units and ticks, exactly."""
    events: list[tuple[str, str, Fraction, Fraction]] = []
    position, average = Fraction(0), Fraction(0)
    for units, ticks in trades:
        before, position = position, position + units
        if before * units < 0 and before * position <= 0:
            events.append(("closed", "FLAT", Fraction(0), average))
            before = Fraction(0)
        if not position:
            continue
        side = "LONG" if position > 0 else "SHORT"
        if not before:
            average = Fraction(ticks)
        elif before * units > 0:
            average = (average * abs(before) + ticks * abs(units)) / abs(position)
        events.append(("changed" if before else "opened", side, abs(position), average))
    return events


def as_expected(fields: dict[str, str], instrument: Instrument) -> Any:
    """Return what `expected` would say of an entry, average rounded as the stream rounds it."""
    qty = Fraction(fields["qty"]) * 10**instrument.size_precision
    return (fields["status"], fields["side"], qty, Fraction(fields["avg_px"]))


def rounded(event: tuple[str, str, Fraction, Fraction], instrument: Instrument) -> Any:
    price = event[3] / 10**instrument.price_precision
    scale = 10 ** (instrument.price_precision + 8)
    return (*event[:3], Fraction(round(price * scale), scale))


trades = st.lists(
    st.builds(
        Trade,
        st.integers(-(10**7), 10**7).filter(bool) | st.sampled_from([-2, -1, 1, 2, 3]),
        st.integers(1, 10**12),
    ),
    min_size=1,
    max_size=25,
)


@given(trades)
def test_quantities_and_averages_are_exact(sequence: list[Trade]) -> None:
    """Any sequence of fills: opened, changed, closed and flipped as fractions say it must be."""
    desk = Desk(FINE)
    desk.listen()

    for trade in sequence:
        desk.trade(trade)

    found = [as_expected(fields, FINE) for fields in desk.told]
    assert found == [rounded(event, FINE) for event in expected(sequence)]


@given(trades, st.integers(1, 24))
def test_a_tap_that_comes_late_catches_up(sequence: list[Trade], late: int) -> None:
    """With a position restored from Nautilus's own cache the averages are right from the start."""
    desk = Desk(FINE)
    for trade in sequence[:late]:
        desk.trade(trade)
    desk.listen()

    for trade in sequence[late:]:
        desk.trade(trade)

    told = [as_expected(fields, FINE) for fields in desk.told]
    everything = [rounded(event, FINE) for event in expected(sequence)]
    assert told == everything[len(everything) - len(told) :]
    assert len(told) == len(expected(sequence)) - len(expected(sequence[:late]))


def test_every_field_of_a_position() -> None:
    """A long position opened with a fee."""
    desk = Desk()
    desk.listen()
    desk.fill(OrderSide.BUY, "0.004", "50000.50", fee="0.10 USDT")

    assert desk.told == [
        {
            "status": "opened",
            "account": "BINANCE_FUTURES-001",
            "venue": "BINANCE",
            "symbol": "BTCUSDT-PERP",
            "strategy_id": "CARRY-001",
            "position_id": NETTED,
            "side": "LONG",
            "qty": "0.004",
            "avg_px": "50000.50",
            "realized_pnl": "-0.10000000",
            "ts_ns": str(TS_NS),
        }
    ]


def test_a_flip_closes_and_opens_under_netting() -> None:
    """One fill through zero: the old average with FLAT, then the new position, same id."""
    desk = Desk()
    desk.listen()
    for units in (10, -25, 15):
        desk.trade(Trade(units, 5000000 + units))

    assert desk.summary("status", "side", "qty", "avg_px") == [
        ("opened", "LONG", "0.010", "50000.10"),
        ("closed", "FLAT", "0.000", "50000.10"),
        ("opened", "SHORT", "0.015", "49999.75"),
        ("closed", "FLAT", "0.000", "49999.75"),
    ]
    assert {fields["position_id"] for fields in desk.told} == {NETTED}


def test_hedging_keeps_positions_apart() -> None:
    """Each order opens a position of its own, with an average of its own."""
    desk = Desk(hedging=True)
    desk.listen()
    desk.trade(Trade(10, 5000000), position_id="P-LONG")
    desk.trade(Trade(-10, 5100000), position_id="P-SHORT")
    desk.trade(Trade(20, 5300000), position_id="P-LONG")
    desk.trade(Trade(10, 5000000), position_id="P-SHORT")

    assert desk.summary("status", "position_id", "side", "qty", "avg_px") == [
        ("opened", "P-LONG", "LONG", "0.010", "50000.00"),
        ("opened", "P-SHORT", "SHORT", "0.010", "51000.00"),
        ("changed", "P-LONG", "LONG", "0.030", "52000.00"),
        ("closed", "P-SHORT", "FLAT", "0.000", "51000.00"),
    ]


def test_an_average_keeps_eight_digits_more_than_the_tick() -> None:
    """A third is rounded there; idle zeros behind the tick's digits are not written."""
    desk = Desk()
    desk.listen()
    for units, ticks in ((1, 100), (2, 101), (1, 101)):
        desk.trade(Trade(units, ticks))
    assert desk.summary("avg_px") == [("1.00",), ("1.0066666667",), ("1.0075",)]


@pytest.mark.parametrize("late", [False, True])
def test_a_fee_in_base_currency_comes_off_the_position(late: bool) -> None:
    """A spot buy that pays in what it bought: quantity and weights are Nautilus's, net of fees."""
    desk = Desk(SPOT)
    if not late:
        desk.listen()
    desk.fill(OrderSide.BUY, "1.00000", "100.00", fee="0.001 BTC")
    if late:
        desk.listen()
    desk.fill(OrderSide.BUY, "1.00000", "200.00", fee="0.001 BTC")
    desk.fill(OrderSide.SELL, "0.50000", "300.00", fee="0.15 USDT")

    average = Fraction(99900 + 200000, 1999)
    found = [(fields["qty"], Fraction(fields["avg_px"])) for fields in desk.told[-2:]]
    assert [qty for qty, _ in found] == ["1.99800", "1.49800"]
    assert all(abs(price - average) <= Fraction(1, 2 * 10**10) for _, price in found)


def test_a_quantity_does_not_go_through_a_float() -> None:
    """Nautilus sums a position in a float; the entry tells the sum of the fills."""
    fine = perpetual(size_digits=16)
    desk = Desk(fine)
    desk.listen()
    seen: list[Any] = []
    desk.bus.subscribe("events.position.*", seen.append)
    for qty in ("1.1234567890123457", "2.0000000000000001", "3.0000000000000003"):
        desk.fill(OrderSide.BUY, qty, "50000.00")

    assert [fields["qty"] for fields in desk.told] == [
        "1.1234567890123457",
        "3.1234567890123458",
        "6.1234567890123461",
    ]
    assert [str(event.quantity) for event in seen] != [fields["qty"] for fields in desk.told]


def test_events_out_of_order_do_not_spoil_the_average() -> None:
    """Positions of nested orders are told before the one that caused them: both are right."""
    position = Position(BTC, fill_of(BTC, qty="0.010", price="100.00", trade_id="1"))
    opened = _event(PositionOpened, position, position.events[0])
    position.apply(fill_of(BTC, qty="0.030", price="200.00", trade_id="2"))
    cache = cache_of(BTC)
    add_position(cache, position)
    translator = translator_of(cache)
    changed = _event(PositionChanged, position, position.events[1])

    told = [_fields(translator, event) for event in (changed, opened)]
    position.apply(fill_of(BTC, qty="0.040", price="300.00", trade_id="3"))
    told.append(_fields(translator, _event(PositionChanged, position, position.events[2])))

    assert [(fields["qty"], fields["avg_px"]) for fields in told] == [
        ("0.040", "175.00"),
        ("0.010", "100.00"),
        ("0.080", "237.50"),
    ]


def _event(kind: Any, position: Position, fill: Any) -> Any:
    return kind.create(position, fill, uuid(3), TS_NS)


def _fields(translator: Translator, event: Any) -> dict[str, str]:
    (entry,) = translator.position(event)
    return fields_of(entry)


def test_a_position_that_nobody_knows_is_told_from_its_event() -> None:
    """Without fills in the cache Nautilus's own average is all there is."""
    position = Position(BTC, fill_of(BTC, qty="0.010", price="100.00", trade_id="1"))
    fill = fill_of(BTC, qty="0.030", price="200.50", trade_id="2")
    position.apply(fill)

    fields = _fields(translator_of(cache_of(BTC)), _event(PositionChanged, position, fill))

    assert (fields["qty"], fields["avg_px"]) == ("0.040", "175.375")


def test_a_position_event_of_a_later_nautilus_is_refused() -> None:
    """A class that the contract does not know is an error with a name."""

    class PositionTeleported(PositionOpened):
        """An event that Nautilus does not have."""

    position = Position(BTC, fill_of(BTC))
    with pytest.raises(Refused, match="PositionTeleported") as refused:
        translator_of(cache_of(BTC)).position(_raw(PositionTeleported, position))
    assert refused.value.reason == "unknown"


def _raw(kind: Any, position: Position) -> Any:
    values = (position.entry, position.side, position.signed_qty, position.quantity)
    return kind(
        *(TRADER, position.strategy_id, BTC.id, PositionId("P-1"), ACCOUNT),
        *(position.opening_order_id, *values, position.peak_qty, Quantity.from_str("0.004")),
        *(position.events[0].last_px, BTC.quote_currency, 0.0, money("0 USDT")),
        *(uuid(1), TS_NS, TS_NS),
    )
