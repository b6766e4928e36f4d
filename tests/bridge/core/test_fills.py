"""bridge/core/fills.py: what an entry says, and what it may not leave out."""

from decimal import Decimal, localcontext
from typing import Any

import pytest

from bridge.core.fifo import Book, Terms, Trade
from bridge.core.fills import (
    Cost,
    Fill,
    Pair,
    cost_of,
    fill_of,
    holds,
    is_spot,
    payment_of,
    pays,
    terms_of,
    trade_of,
)
from tests.bridge.core.books import SPOT, cash, fill, realized, total, worth

D = Decimal
ENTRY = {
    "fill_id": "A|BTCUSDT-PERP.V|1|BUY|7", "cl_ord_id": "O-1", "price": "50000.50", "qty": "0.004",
    "fee": "0.10", "venue": "V", "ts_ns": "1751355900995804000", "account": "A",
    "symbol": "BTCUSDT-PERP", "side": "BUY", "base_ccy": "BTC", "quote_ccy": "USDT",
    "multiplier": "1", "inverse": "0", "fee_ccy": "USDT", "fee_quote": "0.10",
    "liquidity": "TAKER", "trade_id": "7", "venue_order_id": "1", "position_id": "P-1",
    "strategy_id": "CARRY-001", "trader_id": "DESK-001", "provisional": "0", "recon": "0",
    "event_id": "e",
}  # fmt: skip
LONGEST = "9" * 18 + "." + "9" * 18


def test_an_entry_is_a_fill() -> None:
    """Each field of the entry has its place, money exact and time whole."""
    assert fill_of(ENTRY, "DESK-001.1.1", 12) == Fill(
        fill_id="A|BTCUSDT-PERP.V|1|BUY|7",
        producer="DESK-001.1.1",
        seq=12,
        ts_ns=1_751_355_900_995_804_000,
        account="A",
        venue="V",
        symbol="BTCUSDT-PERP",
        side="BUY",
        qty=D("0.004"),
        price=D("50000.50"),
        fee=D("0.10"),
        fee_ccy="USDT",
        fee_quote=D("0.10"),
        base="BTC",
        quote="USDT",
        multiplier=D(1),
        inverse=False,
        order="1",
        strategy_id="CARRY-001",
        provisional=False,
    )


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"venue_order_id": ""}, "order", "O-1"),
        ({"venue_order_id": "", "cl_ord_id": ""}, "order", ""),
        ({"fee_quote": ""}, "fee_quote", None),
        ({"fee_quote": "9" * 36 + "." + "9" * 36}, "fee_quote", D("9" * 36 + "." + "9" * 36)),
        ({"fee": "-0.01"}, "fee", D("-0.01")),
        ({"fee": "0.00", "fee_ccy": ""}, "fee", D(0)),
        ({"price": "-3"}, "price", D(-3)),
        ({"price": "0"}, "price", D(0)),
        ({"price": LONGEST}, "price", D(LONGEST)),
        ({"provisional": "1"}, "provisional", True),
        ({"provisional": ""}, "provisional", False),
        ({"inverse": "1"}, "inverse", True),
        ({"base_ccy": ""}, "base", ""),
        ({"strategy_id": ""}, "strategy_id", ""),
    ],
)
def test_what_may_be_absent_or_odd(changes: dict[str, str], name: str, value: Any) -> None:
    """Only what no book depends on may be empty; prices may be 0 or less, fees rebates."""
    assert getattr(fill_of(ENTRY | changes), name) == value


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        *[({name: ""}, f"{name} is missing") for name in (
            "fill_id", "price", "qty", "fee", "venue", "ts_ns", "account", "symbol", "side",
            "quote_ccy", "multiplier", "inverse", "fee_ccy",
        )],
        ({"inverse": "1", "base_ccy": ""}, "base_ccy is missing"),
        ({"side": "buy"}, "side 'buy' is neither BUY nor SELL"),
        ({"qty": "0"}, "qty 0 is not above 0"),
        ({"qty": "-1"}, "qty -1 is not above 0"),
        ({"multiplier": "0"}, "multiplier 0 is not above 0"),
        ({"inverse": "yes"}, "inverse 'yes' is neither 0 nor 1"),
        ({"inverse": "1", "price": "0"}, "price 0 of an inverse contract is not above 0"),
        ({"provisional": "?"}, "provisional '?' is neither 0 nor 1"),
        *[({"price": text}, f"price {text!r} is not a decimal that books can keep") for text in (
            "NaN", "Infinity", "1e5", "1_000", " 1", "1\n", "1.", ".5", "٣", "0x1", "1,5", "\udcff",
            "1" + "0" * 18, "0." + "0" * 18 + "1",
        )],
        ({"fee_quote": "none"}, "fee_quote 'none' is not a decimal that books can keep"),
        ({"ts_ns": "-1"}, "ts_ns '-1' is not a time in nanoseconds"),
        ({"ts_ns": "1.5"}, "ts_ns '1.5' is not a time in nanoseconds"),
        ({"ts_ns": str(2**63)}, f"ts_ns '{2**63}' is not a time in nanoseconds"),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_book_can_be_kept_with_is_refused(changes: dict[str, str], error: str) -> None:
    """The error names the field and what is wrong with it."""
    with pytest.raises(ValueError) as caught:
        fill_of(ENTRY | changes)
    assert str(caught.value) == error


def test_what_is_not_there_is_missing() -> None:
    """An entry of the documented fields alone, as older writers make them, cannot be booked."""
    documented = ("fill_id", "cl_ord_id", "price", "qty", "fee", "venue", "ts_ns")
    with pytest.raises(ValueError, match="side is missing"):
        fill_of({name: ENTRY[name] for name in documented})


@pytest.mark.parametrize(
    ("symbol", "base", "quote", "expected"),
    [
        ("BTCUSDT", "BTC", "USDT", True),
        ("BTC-USDT", "BTC", "USDT", True),
        ("BTC/USDT", "BTC", "USDT", True),
        ("BTC_USDC", "BTC", "USDC", True),
        ("1INCHUSDT", "1INCH", "USDT", True),
        ("BTCUSDT-PERP", "BTC", "USDT", False),
        ("BTC-USDT-SWAP", "BTC", "USDT", False),
        ("BTCUSDT", "BTC", "USD", False),
        ("USDT", "", "USDT", False),
        ("SOL_USDC-PERPETUAL", "SOL", "USDC", False),
    ],
)
def test_a_spot_symbol_is_its_two_currencies(
    symbol: str, base: str, quote: str, expected: bool
) -> None:
    """The letters and digits of a spot symbol are base and quote; a contract's have more."""
    traded = fill(1, 1, 1, symbol=symbol, base=base, quote=quote)

    assert is_spot(traded) == expected
    assert holds(traded) == (Pair("A", "V", base, quote) if expected else None)
    assert not is_spot(traded._replace(inverse=True))
    assert not is_spot(traded._replace(multiplier=D(10)))


INVERSE = {"symbol": "BTC-PERPETUAL", "quote": "USD", "inverse": True}
SPOT_TERMS = {"symbol": "BTCUSDT", "inverse": False, "multiplier": D(1)}
BNB = {"fee": D("0.1"), "fee_ccy": "BNB"}


@pytest.mark.parametrize(
    ("traded", "cost", "paid_from"),
    [
        (fill(1, 2, 100), None, None),
        (fill(1, 2, 100, fee=D("0.1")), ("USDT", D("0.1")), None),
        (fill(1, 2, 100, fee=D("-0.1"), fee_quote=D("-0.1")), ("USDT", D("-0.1")), None),
        (fill(1, 2, 100, fee=D("0.1"), fee_ccy="BTC", **SPOT), ("USDT", 10), None),
        (fill(1, 2, 100, fee=D("0.1"), fee_ccy="BTC", fee_quote=D(9)), ("USDT", 9), "BTC"),
        (fill(1, 2, 100, fee=D("0.1"), fee_ccy="BTC", **INVERSE), ("BTC", D("0.1")), None),
        (fill(1, 2, 100, fee=D(3), fee_ccy="USD", **INVERSE), ("USD", 3), None),
        (fill(1, 2, 100, fee_quote=D(60), **BNB), ("USDT", 60), "BNB"),
        (fill(1, 2, 100, fee_quote=D(60), **BNB, **INVERSE), ("USD", 60), "BNB"),
        (fill(1, 2, 100, **BNB), ("BNB", None), None),
    ],
    ids=[
        "none", "quote", "rebate", "base of spot", "base of a contract", "base of an inverse",
        "quote of an inverse", "third", "third of an inverse", "not priced",
    ],
)  # fmt: skip
def test_what_a_fee_costs_and_where_it_is_paid_from(
    traded: Fill, cost: tuple[str, Decimal | None] | None, paid_from: str | None
) -> None:
    """A fee is a cost in the currency of quote or settlement; without a price it is only told."""
    if cost is None:
        assert cost_of(traded) is None
    else:
        ccy, amount = cost
        is_priced = amount is not None
        amount = traded.fee if amount is None else amount
        assert cost_of(traded) == Cost("f1", 10**9, ccy, amount, is_priced)
    assert pays(traded) == (paid_from and Pair("A", "V", paid_from, traded.quote))


@pytest.mark.parametrize(
    ("qty", "fee", "net"),
    [(2, "0.1", "1.9"), (-2, "0.1", "-2.1"), (2, "-0.1", "2.1"), (-2, "-0.1", "-1.9")],
)
def test_a_fee_in_base_currency_is_part_of_the_quantity(qty: int, fee: str, net: str) -> None:
    """Of a spot purchase the fee does not come in; with a sale it goes out on top."""
    in_base = {"fee": D(fee), "fee_ccy": "BTC"}
    assert trade_of(fill(1, qty, 100, **in_base, **SPOT)).qty == D(net)
    assert trade_of(fill(1, qty, 100, **in_base)).qty == qty  # of a contract


def test_base_fees_leave_what_the_account_has() -> None:
    """Bought and sold with fees in base currency, PnL less costs is what came and went."""
    in_base = {"fee": D("0.1"), "fee_ccy": "BTC", **SPOT}
    fills = [fill(1, 2, 100, **in_base), fill(2, "-1.8", 130, **in_base)]
    book = Book(terms_of(fills[0]))

    gains = [gain for each in fills for gain in book.apply(trade_of(each))]
    costs = [cost_of(each) for each in fills]

    assert book.position == 0
    paid, received = 2 * 100, D("1.8") * 130
    assert realized(gains) - total([cost.amount for cost in costs if cost]) == received - paid


@pytest.mark.parametrize("sign", [1, -1])
def test_a_payment_is_worth_the_fee(sign: int) -> None:
    """A fee of a third currency goes out at the price it was valued at, a rebate comes in."""
    paying = fill(1, 2, 100, fee=sign * D("0.3"), fee_ccy="BNB", fee_quote=sign * D(180))

    assert payment_of(paying) == Trade("f1", 10**9, -sign * D("0.3"), D(600), D(0), True)


def test_only_what_has_a_price_is_a_payment() -> None:
    """A fee that is not priced is never taken as one of zero."""
    with pytest.raises(ValueError, match="f1 pays nothing that has a price"):
        payment_of(fill(1, 2, 100, **BNB))


@pytest.mark.parametrize("inverse", ["0", "1"])
def test_the_longest_numbers_are_booked_exactly(inverse: str) -> None:
    """18 digits on both sides of the point, in each factor, at the default context's 28: exact."""
    longest = {"qty": LONGEST, "multiplier": LONGEST, "fee": LONGEST, "inverse": inverse}
    tiny = {"qty": "0." + "0" * 17 + "1", "price": "0." + "0" * 17 + "1"}
    entries = [
        longest | {"price": LONGEST},
        longest | tiny | {"side": "SELL"},
        longest | {"price": "1.000000000000000007", "side": "SELL"},
        longest | {"price": LONGEST, "side": "SELL"},
    ]
    with localcontext(prec=28):
        fills = [fill_of(ENTRY | entry) for entry in entries]
        trades = [trade_of(each) for each in fills]
        in_base = trade_of(fills[0]._replace(fee_ccy="BTC", fee=D("0.3"), **SPOT_TERMS))
        payment = payment_of(fills[0]._replace(fee_ccy="BNB", fee_quote=D("9" * 36 + ".1")))
        book = Book(terms_of(fills[0]))
        gains = [gain for each in trades for gain in book.apply(each)]
        mark = D(LONGEST)
        made = realized(gains) + total([book.unrealized(mark)])
        paid = Book(Terms("BNB", "USDT", D(1), inverse=False))
        paid.apply(payment._replace(qty=payment.qty.copy_negate()))

    assert trades[3].qty == D("-" + LONGEST)
    assert in_base.qty == D("9" * 18 + "." + "6" + "9" * 17)
    assert total([trade.qty for trade in trades]) == total([book.position])
    assert made == cash(book.terms, trades) + worth(book.terms, book.position, mark)
    assert paid.position == D(LONGEST)
