"""bridge/core/fifo.py against Nautilus: what its Position has realized when it is flat."""

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.position import Position

from bridge.core.fifo import Book, Terms, Trade
from tests.bridge.core.books import realized
from tests.integrations.nautilus.builders import fill_of, inverse, limit, perpetual

D = Decimal
LINEAR = perpetual()
MULTIPLIED = perpetual(multiplier=Quantity.from_str("0.01"))
INVERSE = inverse()
BOOKS = 40


def terms_of(instrument: CryptoPerpetual) -> Terms:
    return Terms(
        instrument.base_currency.code,
        instrument.quote_currency.code,
        instrument.multiplier.as_decimal(),
        instrument.is_inverse,
    )


class Netted:
    """Nautilus's positions of one instrument; it splits a flip, as its engine does."""

    def __init__(self, instrument: CryptoPerpetual) -> None:
        self.instrument = instrument
        self.position: Position | None = None
        self.made = Fraction()  # by positions that are closed, commissions added back
        self.fills = 0

    def apply(self, trade: Trade) -> None:
        held = D(0) if self.position is None else self.position.signed_decimal_qty()
        closes = min(abs(held), abs(trade.qty)) if held * trade.qty < 0 else D(0)
        for qty in (closes, abs(trade.qty) - closes):
            if qty:
                self._fill(qty, trade)

    def _fill(self, qty: Decimal, trade: Trade) -> None:
        self.fills += 1
        fill = fill_of(
            self.instrument,
            limit(self.instrument, name=f"O-{self.fills}"),
            trade_id=str(self.fills),
            side=OrderSide.BUY if trade.qty > 0 else OrderSide.SELL,
            qty=f"{qty:f}",
            price=f"{trade.price:f}",
            fee=f"0.07 {self.instrument.settlement_currency.code}",
        )
        if self.position is None:
            self.position = Position(self.instrument, fill)
        else:
            self.position.apply(fill)
        if self.position.is_closed:
            amounts = [self.position.realized_pnl, *self.position.commissions()]
            self.made += sum([Fraction(each.as_decimal()) for each in amounts])
            self.position = None


def random_trades(rng: random.Random, instrument: CryptoPerpetual) -> list[Trade]:
    """Return trades that end flat, with flips and partial closes in between.

    Nautilus takes the mean of opening prices, which is right for linear contracts only: an inverse
    position is opened at one price.
    """
    unit = D(10) ** -instrument.size_precision
    tick = D(10) ** -instrument.price_precision
    trades: list[Trade] = []
    held, opened = D(0), D(0)
    for number in range(rng.randint(2, 30)):
        qty = rng.randint(1, 50) * unit * rng.choice([1, -1])
        price = rng.randint(20_000, 90_000) * tick
        if instrument.is_inverse and held * qty > 0:
            price = opened
        if held * (held + qty) <= 0:
            opened = price
        held += qty
        trades.append(Trade(str(number), number, qty, price))
    if held:
        trades.append(Trade("last", len(trades), -held, rng.randint(20_000, 90_000) * tick))
    return trades


@pytest.mark.parametrize(
    "instrument", [LINEAR, MULTIPLIED, INVERSE], ids=["linear", "multiplied", "inverse"]
)
def test_once_flat_nautilus_has_realized_as_much(instrument: CryptoPerpetual) -> None:
    """Gains are what Nautilus's positions realized, before commissions. It rounds at each fill, to
    a digit of its currency."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    rng = random.Random(seed)
    digit = Fraction(1, 10**instrument.settlement_currency.precision)
    for _ in range(BOOKS):
        book, netted, made = Book(terms_of(instrument)), Netted(instrument), Fraction()
        for trade in random_trades(rng, instrument):
            made += realized(book.apply(trade))
            netted.apply(trade)

        assert not book.lots and netted.position is None
        assert abs(made - netted.made) <= netted.fills * digit


def test_nautilus_averages_prices_of_an_inverse_contract() -> None:
    """Where an inverse position was opened at two prices, Nautilus's figure is not what came in:
    the book's is."""
    book, netted = Book(terms_of(INVERSE)), Netted(INVERSE)
    trades = [
        Trade("1", 1, D(10), D(20_000)), Trade("2", 2, D(10), D(80_000)),
        Trade("3", 3, D(-20), D(50_000)),
    ]  # fmt: skip
    gains = []
    for trade in trades:
        gains += book.apply(trade)
        netted.apply(trade)

    cash = Fraction(100, 20_000) + Fraction(100, 80_000) - Fraction(200, 50_000)
    assert realized(gains) == cash == Fraction(9, 4000)
    assert netted.made == 0
