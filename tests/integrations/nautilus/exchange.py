"""A stand-in of Binance's public market data on loopback: spot and USDT-M futures, no accounts.

It serves `exchangeInfo` and the streams of quotes and trades, from a thread of its own, and keeps
what it was asked and what it has quoted. Bids and asks have no price in common, every trade is far
from both, and every other one has one decimal more than its instrument.
"""

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
PUSH_SECONDS = 0.01
# What a websocket server adds to the client's key, by RFC 6455.
HANDSHAKE = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
STEPS = 20

# By base currency: the lowest bid.
BASES = {"BTC": Decimal(60_000), "ETH": Decimal(3_000), "SOL": Decimal(150)}


class Market(NamedTuple):
    """How a market writes its numbers: `path` of its REST interface, tick and step as sent."""

    path: str
    tick: str
    step: str


SPOT = Market("/api/v3", "0.01000000", "0.00001000")
FUTURES = Market("/fapi/v1", "0.10", "0.001")


class Asked(NamedTuple):
    """One request, with the names of its headers in lower case."""

    method: str
    target: str
    headers: frozenset[str]

    @property
    def is_signed(self) -> bool:
        """Whether it came from an account."""
        return "x-mbx-apikey" in self.headers or "signature=" in self.target


class Exchange:
    """Lists `symbols`, by base currency. Use as a context manager."""

    def __init__(self, *symbols: str) -> None:
        self.symbols = symbols or tuple(BASES)
        self.asked: list[Asked] = []
        # Every price so far, by instrument, and the number of trades.
        self.bids: dict[str, set[Decimal]] = defaultdict(set)
        self.asks: dict[str, set[Decimal]] = defaultdict(set)
        self.trades: dict[str, int] = defaultdict(int)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._is_up = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(10), "the stand-in does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    @property
    def settings(self) -> dict[str, str]:
        """The settings that make the bridge use it."""
        where = f"{HOST}:{self.port}"
        return {
            "binance__spot_http_url": f"http://{where}",
            "binance__spot_ws_url": f"ws://{where}{SPOT.path}",
            "binance__futures_http_url": f"http://{where}",
            "binance__futures_ws_url": f"ws://{where}{FUTURES.path}",
        }

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._answer, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._end.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; a connection that asks for more is made anew, or is a websocket."""
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = request.split("\r\n")
            method, target, _ = lines[0].split(" ")
            pairs = [line.partition(": ") for line in lines[1:] if line]
            headers = {name.lower(): value for name, _, value in pairs}
            self.asked.append(Asked(method, target, frozenset(headers)))
            if headers.get("upgrade") == "websocket":
                await self._stream(reader, writer, target, headers["sec-websocket-key"])
                return
            status, body = self._rest(method, target)
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close"
            writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    def _rest(self, method: str, target: str) -> tuple[str, str]:
        """Return status line and body."""
        url = urlsplit(target)
        for market, describe in ((SPOT, _spot_pair), (FUTURES, _perpetual)):
            if (method, url.path) == ("GET", f"{market.path}/exchangeInfo"):
                listed = {f"{base}USDT": describe(base) for base in self.symbols}
                wanted = json.loads(parse_qs(url.query).get("symbols", [json.dumps([*listed])])[0])
                if not listed.keys() >= set(wanted):
                    return "400 Bad Request", '{"code":-1121,"msg":"Invalid symbol."}'
                info = {"timezone": "UTC", "serverTime": _now_ms(), "rateLimits": []}
                chosen = [listed[name] for name in wanted]
                return "200 OK", json.dumps(info | {"exchangeFilters": [], "symbols": chosen})
        return "404 Not Found", '{"code":-1,"msg":"the stand-in does not serve this"}'

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, key: str
    ) -> None:
        """Serve a websocket until its client leaves."""
        accept = base64.b64encode(hashlib.sha1(key.encode() + HANDSHAKE).digest()).decode()
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
        writer.write(f"{head}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        url = urlsplit(target)
        market = SPOT if url.path.startswith(SPOT.path) else FUTURES
        streams = dict.fromkeys(parse_qs(url.query)["streams"][0].split("/"))
        pushing = asyncio.create_task(self._push(writer, market, streams))
        try:
            async for opcode, payload in _frames(reader):
                if opcode == PING:
                    writer.write(_frame(PONG, payload))
                elif opcode == TEXT:
                    order = json.loads(payload)
                    names = dict.fromkeys(order["params"])
                    for name in names:
                        streams.pop(name, None)
                    streams |= names if order["method"] == "SUBSCRIBE" else {}
                    answer = json.dumps({"result": None, "id": order["id"]})
                    writer.write(_frame(TEXT, answer.encode()))
        finally:
            pushing.cancel()

    async def _push(
        self, writer: asyncio.StreamWriter, market: Market, streams: dict[str, None]
    ) -> None:
        """Send one event of every stream in turn, for ever."""
        number = 0
        while True:
            number += 1
            for name in list(streams):
                data = self._event(name, market, number)
                message = json.dumps({"stream": name, "data": data})
                writer.write(_frame(TEXT, message.encode()))
            await writer.drain()
            await asyncio.sleep(PUSH_SECONDS)

    def _event(self, stream: str, market: Market, number: int) -> dict[str, Any]:
        """Return the next quote or trade of a stream."""
        name, _, kind = stream.upper().partition("@")
        instrument = name if market is SPOT else f"{name}-PERP"
        tick = Decimal(market.tick)
        bid = BASES[name.removesuffix("USDT")] + 2 * (number % STEPS) * tick
        size, now = Decimal(market.step) * 1_000_000, _now_ms()
        if kind == "BOOKTICKER":
            ask = bid + tick
            self.bids[instrument].add(bid)
            self.asks[instrument].add(ask)
            sizes = {"B": f"{size}", "A": f"{size}"}
            return {"s": name, "u": number, "b": f"{bid}", "a": f"{ask}"} | sizes
        self.trades[instrument] += 1
        trade = {"e": stream.partition("@")[2], "E": now, "T": now, "s": name, "m": False}
        ids = {"t": number, "a": number, "f": number, "l": number}
        more = "5" if number % 2 else ""
        return trade | ids | {"p": f"{bid * 2}{more}", "q": f"{size}{more}"}


def _spot_pair(base: str) -> dict[str, Any]:
    """Return what `exchangeInfo` says of a pair of the spot market."""
    return {
        "symbol": f"{base}USDT",
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            *_filters(SPOT),
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.0"},
        ],
        "permissions": [],
    }


def _perpetual(base: str) -> dict[str, Any]:
    """Return what `exchangeInfo` says of a perpetual of the USDT-M futures."""
    return {
        "symbol": f"{base}USDT",
        "pair": f"{base}USDT",
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "filters": [*_filters(FUTURES), {"filterType": "MIN_NOTIONAL", "notional": "5"}],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC"],
    }


def _filters(market: Market) -> Sequence[dict[str, str]]:
    prices = {"minPrice": market.tick, "maxPrice": "1000000.00", "tickSize": market.tick}
    sizes = {"minQty": market.step, "maxQty": "9000.00", "stepSize": market.step}
    return {"filterType": "PRICE_FILTER"} | prices, {"filterType": "LOT_SIZE"} | sizes


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Yield opcode and payload of each message of a client, until it closes."""
    while True:
        first, second = await reader.readexactly(2)
        opcode, length = first & 0x0F, second & 0x7F
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2))
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length)
        if opcode == CLOSE:
            return
        yield opcode, bytes(_unmasked(masked, mask))


def _unmasked(masked: bytes, mask: bytes) -> Iterator[int]:
    for number, byte in enumerate(masked):
        yield byte ^ mask[number % 4]


def _frame(opcode: int, payload: bytes) -> bytes:
    """Return one message of a server."""
    length = len(payload)
    head = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)
    return bytes([0x80 | opcode]) + head + payload


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
