"""What a node records that trades on two accounts: the entries that the readers' rows are fed."""

import itertools
import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from bridge.core import contract
from bridge.core.contract import Entry

TRADER = "BENCH-001"
LIVES_PER_FUNDING = 100
START_NS = 1_795_166_000_000_000_000
POSITION_MAX = Decimal(1)
SPOT = "BINANCE-SPOT-master"
FUTURES = "BINANCE_FUTURES-USDT_FUTURE-master"
BNB_PRICE = 600


class Market(NamedTuple):
    """An instrument, and the currency in which its fees are charged."""

    account: str
    symbol: str
    base: str
    price: int
    fee_ccy: str


MARKETS = (
    Market(SPOT, "BTCUSDT", "BTC", 60_000, "BNB"),
    Market(SPOT, "ETHUSDT", "ETH", 3_000, "ETH"),
    Market(SPOT, "BNBUSDT", "BNB", BNB_PRICE, "USDT"),
    Market(FUTURES, "BTCUSDT-PERP", "BTC", 60_000, "USDT"),
    Market(FUTURES, "ETHUSDT-PERP", "ETH", 3_000, "BNB"),
    Market(FUTURES, "SOLUSDT-PERP", "SOL", 150, "USDT"),
)


def entries() -> Iterator[Entry]:
    """Yield entries without end, the same ones each time: orders, each filled in two parts."""
    chance, positions = random.Random(5), dict.fromkeys(MARKETS, Decimal(0))
    for number in itertools.count():
        market = chance.choice(MARKETS)
        yield from _life(chance, positions, market, number)
        if number % LIVES_PER_FUNDING == 0:
            yield _funding(number)


def _life(
    chance: random.Random, positions: dict[Market, Decimal], market: Market, number: int
) -> Iterator[Entry]:
    """Yield what becomes of one order; large ones turn a position over."""
    position = positions[market]
    side = chance.choice(("BUY", "SELL"))
    if abs(position) > POSITION_MAX:
        side = "SELL" if position > 0 else "BUY"
    half = Decimal(chance.randint(1, 800)) / 1_000
    price = Decimal(market.price) * chance.randint(9_500, 10_500) / 10_000
    known = {
        "venue": "BINANCE",
        "account": market.account,
        "symbol": market.symbol,
        "side": side,
        "price": f"{price:.2f}",
        "cl_ord_id": f"O-20261120-093015-001-000-{number}",
        "strategy_id": f"CARRY-00{number % 3}",
        "trader_id": TRADER,
        "recon": "0",
    }
    placed = f"{8_389_765_000 + number}"
    yield _order(known, "initialized", number, half)
    yield _order(known, "submitted", number, half)
    known["venue_order_id"] = placed
    yield _order(known, "accepted", number, half)
    for part, status in enumerate(("partially_filled", "filled"), start=1):
        before = positions[market]
        after = positions[market] = before + (half if side == "BUY" else -half)
        yield _fill(known, market, number, part, half)
        yield _order(known, status, number, half, part)
        yield _position(known, number, before, after)
        yield _account(market.account, number)


def _order(
    known: Mapping[str, str], status: str, number: int, half: Decimal, part: int = 0
) -> Entry:
    values = {
        "status": status,
        "qty": f"{2 * half}",
        "tif": "GTC",
        "reason": "",
        "order_type": "LIMIT",
        "filled_qty": f"{part * half}",
        "venue_order_id": "",
        "ts_ns": _ts_ns(number, part),
        "event_id": f"{status:>16.16}".encode().hex()[:16] + f"{number:016x}",
    }
    return contract.entry("orders", values | known)


def _fill(known: Mapping[str, str], market: Market, number: int, part: int, qty: Decimal) -> Entry:
    worth = qty * Decimal(known["price"]) / 1_000
    rates = {"USDT": 1, "BNB": BNB_PRICE, market.base: Decimal(known["price"])}
    fee = (worth / rates[market.fee_ccy]).quantize(Decimal("1e-8"))
    trade = f"{5_129_774_000 + 2 * number + part}"
    instrument = f"{market.symbol}.BINANCE"
    values = {
        "fill_id": f"{market.account}|{instrument}|{known['venue_order_id']}|{trade}",
        "qty": f"{qty}",
        "fee": f"{fee}",
        "base_ccy": market.base,
        "quote_ccy": "USDT",
        "multiplier": "1",
        "inverse": "0",
        "fee_ccy": market.fee_ccy,
        "fee_quote": f"{fee * rates[market.fee_ccy]:f}",
        "liquidity": "MAKER",
        "trade_id": trade,
        "position_id": f"{instrument}-{known['strategy_id']}",
        "provisional": "0",
        "ts_ns": _ts_ns(number, part),
        "event_id": f"{part:016x}{number:016x}",
    }
    return contract.entry("fills", values | known, once=f"fill|{values['fill_id']}")


def _position(known: Mapping[str, str], number: int, before: Decimal, after: Decimal) -> Entry:
    status = "changed" if before and after else "opened" if after else "closed"
    values = {
        "status": status,
        "position_id": f"{known['symbol']}.BINANCE-{known['strategy_id']}",
        "side": "LONG" if after > 0 else "SHORT" if after else "FLAT",
        "qty": f"{abs(after)}",
        "avg_px": known["price"],
        "realized_pnl": "0.00000000",
        "ts_ns": _ts_ns(number, 2),
    }
    names = ("account", "venue", "symbol", "strategy_id")
    return contract.entry("positions", values | {name: known[name] for name in names})


def _account(account: str, number: int) -> Entry:
    total = f"{1_000_000 + number % 9_973}.12345678"
    values = {"account": account, "ccy": "USDT", "total": total, "free": total}
    margins = {"locked": "0.00000000", "margin_init": "0", "margin_maint": "0"}
    return contract.entry("account", values | margins | {"ts_ns": _ts_ns(number, 2)})


def _funding(number: int) -> Entry:
    values = {"account": FUTURES, "venue": "BINANCE", "symbol": "BTCUSDT-PERP", "ccy": "USDT"}
    amount = {"amount": f"-0.{1 + number % 97:04}", "rate": "0.0001", "ts_ns": _ts_ns(number, 2)}
    return contract.entry("exec_funding", values | amount)


def _ts_ns(number: int, part: int) -> str:
    return str(START_NS + number * 1_000_000_000 + part * 1_000)
