"""A fill as books need it: what an entry of exec:fills tells, what it did and what it cost."""

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from bridge.core.fifo import CONTEXT, ZERO, Terms, Trade, divided

# What numbers may look like: books keep products and sums of these exactly. A fee in quote currency
# is itself a product.
NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
PRODUCT: Final = re.compile(r"-?[0-9]{1,36}(\.[0-9]{1,36})?")
INTEGER: Final = re.compile(r"[0-9]{1,19}")
INTEGER_MAX: Final = 2**63 - 1

BUY: Final = "BUY"
SELL: Final = "SELL"


class BookKey(NamedTuple):
    """What a book is kept for."""

    account: str
    venue: str
    symbol: str


class Pair(NamedTuple):
    """The spot book that holds a currency: the one that fees in `base` are taken from."""

    account: str
    venue: str
    base: str
    quote: str


class Fill(NamedTuple):
    """A fill as books need it; `producer` is empty, and `seq` 0, for one of somebody else's.

    `order` is the venue's id of the order, or the client's. `fee_quote` is the fee in quote
    currency, None when it is not priced.
    """

    fill_id: str
    producer: str
    seq: int
    ts_ns: int
    account: str
    venue: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_ccy: str
    fee_quote: Decimal | None
    base: str
    quote: str
    multiplier: Decimal
    inverse: bool
    order: str
    strategy_id: str
    provisional: bool


class Cost(NamedTuple):
    """A fee: `amount` of `ccy` is a cost, a negative one a rebate.

    Not priced: nobody knows what it cost; it is the fee as it was charged.
    """

    fill_id: str
    ts_ns: int
    ccy: str
    amount: Decimal
    is_priced: bool


def fill_of(fields: Mapping[str, str], producer: str = "", seq: int = 0) -> Fill:
    """Return the fill that an entry of exec:fills tells of.

    Raises ValueError, naming the field, when a book cannot be kept with it. Nothing is guessed.
    """
    side = _text(fields, "side")
    if side not in (BUY, SELL):
        raise ValueError(f"side {side!r} is neither BUY nor SELL")
    qty, price, fee = (_number(fields, name) for name in ("qty", "price", "fee"))
    multiplier, inverse = _number(fields, "multiplier"), _flag(fields, "inverse")
    if qty <= 0:
        raise ValueError(f"qty {qty} is not above 0")
    if multiplier <= 0:
        raise ValueError(f"multiplier {multiplier} is not above 0")
    if inverse and price <= 0:
        raise ValueError(f"price {price} of an inverse contract is not above 0")
    if "base_ccy" not in fields:  # a stock's is empty; who does not tell it means something else
        raise ValueError("base_ccy is missing")
    return Fill(
        fill_id=_text(fields, "fill_id"),
        producer=producer,
        seq=seq,
        ts_ns=_integer(fields, "ts_ns"),
        account=_text(fields, "account"),
        venue=_text(fields, "venue"),
        symbol=_text(fields, "symbol"),
        side=side,
        qty=qty,
        price=price,
        fee=fee,
        fee_ccy=_text(fields, "fee_ccy") if fee else fields.get("fee_ccy", ""),
        fee_quote=_number(fields, "fee_quote", PRODUCT) if fields.get("fee_quote") else None,
        base=_text(fields, "base_ccy") if inverse else fields.get("base_ccy", ""),
        quote=_text(fields, "quote_ccy"),
        multiplier=multiplier,
        inverse=inverse,
        order=fields.get("venue_order_id") or fields.get("cl_ord_id", ""),
        strategy_id=fields.get("strategy_id", ""),
        provisional=_flag(fields, "provisional") if fields.get("provisional") else False,
    )


def key_of(fill: Fill) -> BookKey:
    """Return the book of a fill."""
    return BookKey(fill.account, fill.venue, fill.symbol)


def terms_of(fill: Fill) -> Terms:
    """Return the terms of a fill's instrument; those of all fills of a book are the same."""
    return Terms(fill.base, fill.quote, fill.multiplier, fill.inverse)


def is_spot(fill: Fill) -> bool:
    """Return whether a fill moves the base currency itself: its symbol names the two currencies."""
    if fill.inverse or fill.multiplier != 1:
        return False
    return _names_pair(fill.symbol, fill.base, fill.quote)


def holds(fill: Fill) -> Pair | None:
    """Return the currency that a fill's book holds, None unless it is a spot book."""
    return Pair(fill.account, fill.venue, fill.base, fill.quote) if is_spot(fill) else None


def pays(fill: Fill) -> Pair | None:
    """Return the currency that a fill's fee takes from another book, if there is such a book.

    None: no fee, or in the currency that the fill itself moves, or not priced.
    """
    if not fill.fee or fill.fee_quote is None or fill.fee_ccy in (fill.quote, _own_ccy(fill)):
        return None
    return Pair(fill.account, fill.venue, fill.fee_ccy, fill.quote)


def trade_of(fill: Fill) -> Trade:
    """Return what a fill does to its own book; a fee in base currency is taken from what came in,
    or goes out on top."""
    # Not `-qty`: that would round to the context of the caller.
    signed = fill.qty if fill.side == BUY else fill.qty.copy_negate()
    if fill.fee and fill.fee_ccy == fill.base and is_spot(fill):
        signed = CONTEXT.subtract(signed, fill.fee)
    return Trade(fill.fill_id, fill.ts_ns, signed, fill.price, fill.fee)


def payment_of(fill: Fill) -> Trade:
    """Return what a fill's fee does to the book of `pays(fill)`."""
    if not fill.fee or fill.fee_quote is None:
        raise ValueError(f"{fill.fill_id} pays nothing that has a price")
    price = divided(fill.fee_quote, fill.fee)
    return Trade(fill.fill_id, fill.ts_ns, fill.fee.copy_negate(), price, ZERO, is_payment=True)


def cost_of(fill: Fill) -> Cost | None:
    """Return what a fill's fee cost, None when there was none."""
    fee, ccy = fill.fee, fill.fee_ccy
    if not fee:
        return None
    if ccy == fill.quote or (fill.inverse and ccy == fill.base):
        return Cost(fill.fill_id, fill.ts_ns, ccy, fee, is_priced=True)
    if ccy == fill.base and is_spot(fill):
        worth = CONTEXT.multiply(fee, fill.price)
        return Cost(fill.fill_id, fill.ts_ns, fill.quote, worth, is_priced=True)
    if fill.fee_quote is None:
        return Cost(fill.fill_id, fill.ts_ns, ccy, fee, is_priced=False)
    return Cost(fill.fill_id, fill.ts_ns, fill.quote, fill.fee_quote, is_priced=True)


def _own_ccy(fill: Fill) -> str:
    """Return the base currency where the fill itself moves it, else nothing."""
    return fill.base if fill.inverse or is_spot(fill) else ""


@lru_cache(maxsize=4096)
def _names_pair(symbol: str, base: str, quote: str) -> bool:
    return bool(base) and "".join([each for each in symbol if each.isalnum()]) == base + quote


def _text(fields: Mapping[str, str], name: str) -> str:
    text = fields.get(name, "")
    if not text:
        raise ValueError(f"{name} is missing")
    return text


def _number(fields: Mapping[str, str], name: str, shape: re.Pattern[str] = NUMBER) -> Decimal:
    text = _text(fields, name)
    if not shape.fullmatch(text):
        raise ValueError(f"{name} {text!r} is not a decimal that books can keep")
    return Decimal(text)


def _integer(fields: Mapping[str, str], name: str) -> int:
    text = _text(fields, name)
    if not INTEGER.fullmatch(text) or int(text) > INTEGER_MAX:
        raise ValueError(f"{name} {text!r} is not a time in nanoseconds")
    return int(text)


def _flag(fields: Mapping[str, str], name: str) -> bool:
    text = _text(fields, name)
    if text not in ("0", "1"):
        raise ValueError(f"{name} {text!r} is neither 0 nor 1")
    return text == "1"
