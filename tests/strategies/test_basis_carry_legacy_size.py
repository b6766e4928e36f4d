"""strategies/basis_carry/legacy.py: how large a position it opens."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from strategies.basis_carry.legacy import Quote, Result
from tests.strategies.basis_carry_market import (
    BTC,
    FLAT,
    HELD,
    RICH,
    basis,
    decision,
    pair,
    show,
    steps,
    trade,
)

D = Decimal
ALL = ("ETH", "SOL", "BTC", "ADA")
TABLE = [instrument for symbol in ALL for instrument in pair(symbol)]


def bought(result: Result) -> dict[str, Decimal]:
    """Return the spot bought per symbol, in the order of the fills."""
    amounts: dict[str, Decimal] = {}
    for fill in result.fills:
        if fill.leg == "spot" and fill.side == "BUY":
            amounts[fill.symbol] = amounts.get(fill.symbol, D(0)) + fill.qty
    return amounts


def everywhere(*markets: dict[str, Any] | None) -> Iterator[Quote]:
    """Yield the same markets for all symbols."""
    for symbol in ALL:
        yield from steps(*markets, symbol=symbol)


@pytest.mark.parametrize(
    ("params", "quantity"),
    [
        ({}, "500"),  # 50,000 is half of 0.2 * 500,000, and the most
        ({"max_notional": 30_000}, "300"),
        ({"max_gross": 0.1}, "250"),
        ({"equity": 100_000}, "100"),
        ({"size_fraction": 0.1}, "50"),
        ({"size_fraction": 0.1, "max_notional": 30_000}, "30"),
        ({"max_notional": 30_000.999}, "300"),  # 300.00999 in lots of 0.01
        ({"max_notional": 30_001}, "300.01"),
    ],
)
def test_the_size_is_the_smaller_of_half_the_room_and_the_most(
    params: dict[str, object], quantity: str
) -> None:
    """Both scale with the size fraction; the quantity is rounded down to the larger lot."""
    result = trade(steps(RICH), **params)

    assert bought(result) == {"BTC": D(quantity)}


def test_the_size_is_taken_at_the_ask() -> None:
    """What it costs counts, not the mid."""
    assert bought(trade(steps(RICH | {"spread": "0.4"}))) == {"BTC": D("499.00")}


@pytest.mark.parametrize(("lots", "quantity"), [(("0.1", "0.01"), "3"), (("0.02", "0.1"), "3")])
def test_the_larger_lot_counts(lots: tuple[str, str], quantity: str) -> None:
    """Of the two legs' lots the larger one, a multiple of the other, is what is traded in."""
    table = pair(spot={"lot": lots[0]}, perp={"lot": lots[1]})
    quotes = show(decision(0), perp="100.05", table=table)

    result = trade(quotes, table=table, max_notional=309)

    assert bought(result) == {"BTC": D(quantity)}


@pytest.mark.parametrize(("least", "enters"), [(2500, True), ("2500.001", False)])
def test_too_small_a_position_is_not_opened(least: object, enters: bool) -> None:
    """The least notional is compared with the full size, before the size fraction."""
    result = trade(
        steps(RICH), equity=25_000, size_fraction=0.1, min_notional=least, max_notional=10_000
    )

    assert bought(result) == {"BTC": D("2.5")} if enters else result.fills == []


def test_less_than_a_lot_is_no_entry() -> None:
    """A quantity of zero opens no record, and so no exit and no cooldown either."""
    table = pair(spot={"min_notional": "0"}, perp={"min_notional": "0", "lot": "1000"})
    rich = show(decision(0), perp="100.05", table=table)
    gone = show(decision(1), perp="100", table=table)

    result = trade(rich, gone, table=table)

    assert (result.fills, result.unfilled) == ([], {})


@pytest.mark.parametrize(("most", "enters"), [("40", True), ("39.99", False)])
def test_a_position_below_the_clip_minimum_is_not_opened(most: str, enters: bool) -> None:
    """What could never be sent, twice the larger minimum of the legs, opens no record."""
    result = trade(steps(RICH, FLAT), min_notional=1, max_notional=most)

    assert (bool(result.fills), bool(result.exits + result.unfilled)) == (enters, enters)


@pytest.mark.parametrize(("most", "enters"), [(40, False), (41, True)])
def test_the_clip_minimum_of_an_entry_is_priced_at_the_cheaper_side(
    most: int, enters: bool
) -> None:
    """A perp below the spot makes the position worth less: 0.40 at 99.9 are not 40, 0.41 are."""
    below = {"entry_basis_bps": -10, "exit_basis_bps": -20, "min_notional": 1}

    result = trade(steps(basis("-10"), basis("-20")), max_notional=most, **below)

    assert (bool(result.fills), result.unfilled) == (enters, Counter())


def test_symbols_share_the_room_in_their_order() -> None:
    """BTC, ETH, SOL, then by the alphabet: each takes half of what those before it left."""
    result = trade(everywhere(RICH), table=TABLE)

    assert list(bought(result).items()) == [
        ("BTC", D("500.00")), ("ETH", D("250.00")), ("SOL", D("125.00")), ("ADA", D("62.50")),
    ]  # fmt: skip


def test_the_room_counts_what_an_entry_set_out_to_buy() -> None:
    """A record takes its whole notional, before it is filled and without the perp."""
    result = trade(
        steps(RICH | {"spot_size": "0"}), steps(RICH, symbol="ETH"), table=BTC + pair("ETH")
    )

    assert bought(result) == {"ETH": D("250.00")}


def test_the_room_counts_at_the_ask_of_the_entry() -> None:
    """What a symbol takes is frozen: a price that doubled since does not take more."""
    doubled = {"spot": "200", "perp": "200.1"}
    markets = steps(RICH, doubled | {"perp": "200.06"})

    result = trade(markets, steps(FLAT, RICH, symbol="ETH"), table=BTC + pair("ETH"),
                   hedge_divergence_bps=1000)  # fmt: skip

    assert bought(result) == {"BTC": D("500.00"), "ETH": D("250.00")}


def test_a_symbol_takes_room_until_its_own_decision_finds_it_flat() -> None:
    """ETH is sold out at number 1. At number 2 BTC, which decides first, still finds it there,
    and SOL, which decides after it, does not."""
    events = [
        *steps(FLAT, FLAT, RICH),
        *steps(RICH, FLAT, FLAT, symbol="ETH"),
        *steps(FLAT, FLAT, RICH, symbol="SOL"),
    ]

    result = trade(events, table=TABLE)

    assert list(bought(result).items()) == [
        ("ETH", D("500.00")), ("BTC", D("250.00")), ("SOL", D("375.00")),
    ]  # fmt: skip


def test_a_record_without_a_fill_takes_room_until_found_flat() -> None:
    """Its exit fired at number 1; the room is free from its decision number 2 on."""
    empty = {"spot_size": "0"}
    other = {"table": BTC + pair("ETH")}

    during = trade(steps(RICH | empty, FLAT), steps(FLAT, RICH, symbol="ETH"), **other)
    after = trade(steps(RICH | empty, FLAT, FLAT), steps(FLAT, FLAT, RICH, symbol="ETH"), **other)

    assert (bought(during), bought(after)) == ({"ETH": D("250.00")}, {"ETH": D("500.00")})


def test_the_quantity_is_frozen_at_the_entry() -> None:
    """A price that falls during the entry does not buy more."""
    slow = {"spot_size": "300"}

    result = trade(steps(RICH | slow, {"spot": "80", "perp": "80.02", **slow}, HELD))

    assert bought(result) == {"BTC": D("500.00")}
