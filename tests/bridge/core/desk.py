"""A bridge, its Redis and its venue, without any I/O: events in, orders admitted or refused.

The bridge's part calls bridge/core as bridge/controller.py and integrations/nautilus/guard.py do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from bridge.core.control import (
    KEEP,
    Inputs,
    Latch,
    Raw,
    Sight,
    State,
    decide,
    flag_of,
    latched,
    limits_of,
    mode_of,
    step,
)
from bridge.core.limits import Book, Bucket, Exposure, Intent, Limits, Mark, Refusal, Terms

CONFIGURED = Limits(
    max_order_notional=Decimal(400),
    max_position=Decimal(300),
    max_position_total=Decimal(500),
    max_daily_loss=Decimal(1),
    max_order_rate=Decimal(10**6),
    stop_loss_pct=Decimal(1),
    max_drawdown=Decimal(1),
)
TERMS = {"A": Terms("A"), "B": Terms("B", Decimal(40), is_inverse=True)}
MARKS = {"A": Mark(Decimal(100), Decimal(100)), "B": Mark(Decimal(7), Decimal(7), Decimal(2))}
# What one of each is worth.
UNITS = {"A": 100, "B": 80}


@dataclass
class Order:
    """An order as its sender and the venue know it. `asked`: a change that was not told yet."""

    key: str
    symbol: str
    sign: int
    left: int
    reduces: bool
    asked: int | None = None
    is_out: bool = False
    must_reduce: bool = False

    @property
    def most(self) -> int:
        return max(self.left, self.asked or 0)

    def intent(self, qty: int) -> Intent:
        return Intent(self.key, self.sign, Decimal(qty), reduces=self.reduces)


class Desk:
    """The bridge: latch, decision and book."""

    def __init__(self, positions: dict[str, int]) -> None:
        self.redis: dict[str, Any] = {}
        self.latch = Latch()
        self.ids = 0
        self.positions = positions
        self.orders: dict[str, Order] = {}
        self.start()

    # As the controller does.

    def start(self) -> None:
        """Begin a process: it knows the disk, and what the venue holds."""
        halt = self.latch.halt
        if halt is not None:
            self.latch = self.latch._replace(halt=halt._replace(is_fresh=False))
        self.inputs = Inputs(halt=self.latch.halt)
        self.limits, self.bucket, self.book = CONFIGURED, Bucket(), Book()
        for symbol, qty in self.positions.items():
            self.exposure(symbol).fill(1, Decimal(qty), Decimal(1))
        self.orders = {key: order for key, order in self.orders.items() if order.is_out}
        for order in self.orders.values():
            self.book.put(self.exposure(order.symbol), order.intent(order.most))

    @property
    def state(self) -> State:
        return decide(self.inputs).state

    def read(self) -> None:
        """Read Redis, obey it, write what follows, and read again where that was anything."""
        asked = {name: str(self.redis.get(name, "")) for name in ("latch", "order", "resume")}
        mode = mode_of(self.redis.get("mode"), ("normal", "auto"))
        sight = Sight(asked["latch"], mode, asked["order"], asked["resume"])
        self.latch, put = step(self.latch, sight, new_id=self.new_id(), now_ns=1)
        risk: Mapping[str, Raw] = {
            key: value for key, value in self.redis.items() if key.startswith("risk:")
        }
        self.limits, _ = limits_of(risk, CONFIGURED)
        flag = flag_of(self.redis.get("flag"))
        self.inputs = replace(self.inputs, flag=flag, mode=mode, halt=self.latch.halt)
        self.redis |= {"order": "", "resume": ""}
        if put is not KEEP:
            self.redis["latch"] = put
            self.read()

    def link(self, problem: str | None) -> None:
        self.inputs = replace(self.inputs, link=problem)

    def breach(self) -> None:
        self.latch = latched(self.latch, "breach", "", new_id=self.new_id(), now_ns=1)
        self.inputs = replace(self.inputs, halt=self.latch.halt)

    def new_id(self) -> str:
        self.ids += 1
        return f"h{self.ids}"

    # As the guard does.

    def submit(self, order: Order) -> str | None:
        """Have an order pass a gate; return why it may not. A new one is counted from then on."""
        exposure, intent = self.exposure(order.symbol), order.intent(order.most)
        is_new = order.key not in self.book.orders
        refusal = self._closed()
        if refusal is None and self.state is State.REDUCING:
            refusal = self.book.reducing_refusal(exposure, intent)
        if refusal is None and is_new:
            refusal = self.book.refusal(exposure, intent, self.limits)
            refusal = refusal or self.bucket.take(self.limits.max_order_rate, 1)
            if refusal is None:
                self.book.put(exposure, intent)
        return None if refusal is None else refusal.cause

    def change(self, order: Order, left: int) -> str | None:
        """Ask for another size; return why that may not be. Until it is told, the larger counts."""
        refusal = self._closed()
        exposure, before = self.book.orders[order.key]
        intent = before._replace(qty=Decimal(left))
        if refusal is None and intent != before:
            if self.state is State.REDUCING:
                refusal = self.book.reducing_refusal(exposure, intent)
            refusal = (
                refusal
                or self.book.refusal(exposure, intent, self.limits)
                or self.bucket.take(self.limits.max_order_rate, 1)
            )
            if refusal is None:
                self.book.put(exposure, intent._replace(qty=max(intent.qty, before.qty)))
        return None if refusal is None else refusal.cause

    def fill(self, order: Order, qty: int) -> None:
        self.exposure(order.symbol).fill(order.sign, Decimal(qty), Decimal(1))

    def follow(self, order: Order) -> None:
        """Bring what the book holds of an order to what is left of it."""
        if order.most:
            self.book.put(self.exposure(order.symbol), order.intent(order.most))
        else:
            self.book.end(order.key)

    def exposure(self, symbol: str) -> Exposure:
        exposure = self.book.exposure(symbol, TERMS[symbol])
        exposure.mark = MARKS[symbol]
        return exposure

    def _closed(self) -> Refusal | None:
        if self.state in (State.HALTED, State.DISABLED):
            return Refusal(self.state, "closed")
        return None
