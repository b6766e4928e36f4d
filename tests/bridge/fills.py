"""Makes entries of exec:fills and exec:funding, as the fields a reader hands on."""

import itertools
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from bridge.core import contract
from bridge.reading import Item, item_of

DAY_NS: Final = 86_400 * 10**9
START_NS: Final = 1_760_000_000 * 10**9
STREAMS: Final = {"fills": "exec:fills", "exec_funding": "exec:funding"}
PRODUCER: Final = "T.0123abcd.1"

FILL: Final = {
    "account": "A-1",
    "base_ccy": "BTC",
    "quote_ccy": "USDT",
    "symbol": "BTCUSDT",
    "venue": "BINANCE",
    "multiplier": "1",
    "inverse": "0",
    "side": "BUY",
    "qty": "1",
    "price": "100",
    "fee": "0",
    "fee_ccy": "USDT",
    "liquidity": "TAKER",
    "strategy_id": "S-1",
    "trader_id": "T-1",
    "provisional": "0",
    "recon": "0",
}
FUNDING: Final = {
    "account": "A-1",
    "venue": "BINANCE",
    "symbol": "BTCUSDT-PERP",
    "amount": "-1.5",
    "ccy": "USDT",
    "rate": "0.0001",
}
PERP: Final = {"symbol": "BTCUSDT-PERP"}
BNB: Final = {"symbol": "BNBUSDT", "base_ccy": "BNB"}
INVERSE: Final = {
    "symbol": "BTC-PERPETUAL",
    "venue": "DERIBIT",
    "quote_ccy": "USD",
    "multiplier": "10",
    "inverse": "1",
    "fee_ccy": "BTC",
}


def fill(seq: int, *, producer: str = PRODUCER, entry_id: str = "", **changes: str) -> Item:
    """Return a fill of our own: a purchase of 1 BTC at 100 USDT, with changes."""
    known = FILL | {
        "fill_id": f"{producer}-f{seq}",
        "cl_ord_id": f"{producer}-o{seq}",
        "venue_order_id": f"{producer}-v{seq}",
        "trade_id": str(seq),
        "event_id": f"{producer}-e{seq}",
        "ts_ns": str(START_NS + seq * 10**9),
    }
    values = known | {"fee_quote": (known | changes)["fee"]} | changes
    return _item("fills", values, seq, producer, entry_id or f"{seq}-0")


def funding(seq: int, *, producer: str = PRODUCER, entry_id: str = "", **changes: str) -> Item:
    """Return a settlement of funding: 1.5 USDT were paid, with changes."""
    values = FUNDING | {"ts_ns": str(START_NS + seq * 10**9)} | changes
    return _item("exec_funding", values, seq, producer, entry_id or f"{seq}-0")


def foreign(entry_id: str, *, without: Sequence[str] = (), **changes: str) -> Item:
    """Return a fill that somebody else wrote, who may have left some fields out."""
    made = fill(0, **changes).fields
    pairs = itertools.batched(made[:-8], 2)
    kept = [each for pair in pairs if pair[0].decode() not in without for each in pair]
    return item_of("fills", entry_id, kept)


def _item(kind: str, values: dict[str, str], seq: int, producer: str, entry_id: str) -> Item:
    tail = {"producer": producer, "seq": str(seq), "jseq": str(seq), "v": str(contract.VERSION)}
    named = {name: (values | tail).get(name, "") for name in contract.STREAMS[kind].fields}
    fields = [text.encode() for pair in named.items() for text in pair]
    return item_of(kind, entry_id, fields)


def random_fills(chance: random.Random, count: int, producer: str = PRODUCER) -> list[Item]:
    """Return fills of several books in their producer's order, as a bad day would bring them.

    Spot, perpetual and inverse books; fees in quote, base and a third currency, rebates, fees
    without a price; fills made up in reconciliation and those of the venue that replace them.
    """
    return list(itertools.islice(_fills(chance, producer), count))


def _fills(chance: random.Random, producer: str) -> Iterator[Item]:
    ts_ns, waiting = START_NS, list[dict[str, str]]()
    for seq in itertools.count(1):
        ts_ns += chance.choice((0, 1, 10**9, 3600 * 10**9))
        book = chance.choice(({}, {}, PERP, PERP, BNB, INVERSE))
        values = book | {
            "side": chance.choice(("BUY", "SELL")),
            "qty": str(Decimal(chance.randint(1, 5_000)) / 1_000),
            "price": str(Decimal(chance.randint(5_000, 15_000)) / 100),
            "strategy_id": chance.choice(("S-1", "S-2")),
            "ts_ns": str(ts_ns - chance.choice((0, 0, 0, 2 * 10**9))),
        }
        if book is INVERSE:
            values["fee"] = "0.00001"
        else:
            values |= _fee(chance)
        if chance.random() < 0.08:
            values |= {"provisional": "1", "fee": "0", "fee_quote": "0"}
            values["venue_order_id"] = f"{producer}-p{seq}"
            waiting.append(values)
        elif waiting and chance.random() < 0.5:
            values = _venues_own(chance, waiting)
        yield fill(seq, producer=producer, **values)


def _fee(chance: random.Random) -> dict[str, str]:
    return chance.choice(
        (
            {"fee": "0.05", "fee_quote": "0.05"},
            {"fee": "-0.02", "fee_quote": "-0.02"},
            {"fee": "0.0001", "fee_ccy": "BTC", "fee_quote": "0.01"},
            {"fee": "0.001", "fee_ccy": "BNB", "fee_quote": "0.4"},
            {"fee": "0.001", "fee_ccy": "BNB", "fee_quote": ""},
        )
    )


def _venues_own(chance: random.Random, waiting: list[dict[str, str]]) -> dict[str, str]:
    """Return a fill of an order that was made up before: a part of it, or what is left."""
    order = chance.choice(waiting)
    left, part = Decimal(order["qty"]), Decimal(chance.randint(1, 5_000)) / 1_000
    qty = min(left, part)
    changes = {"qty": str(qty), "provisional": "0"}
    if qty == left:
        waiting.remove(order)
        return order | changes
    made = order | changes
    order["qty"] = str(left - qty)
    return made


def as_dict(item: Item, *, but: Sequence[str] = ()) -> dict[str, str]:
    """Return what an entry says, without the tail and what is not wanted."""
    texts = [each.decode() for each in item.fields]
    said = dict(itertools.batched(texts, 2))
    return {name: said[name] for name in contract.STREAMS[item.kind].names if name not in but}
