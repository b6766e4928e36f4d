"""bridge/core: nothing passes a closed gate, and nothing that is out can break a limit.

Random sequences of flags, modes, halts, limits, orders, changes, cancels and fills, against an
oracle that knows the rules of the design, and that looks at every order in which orders may fill.
"""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.control import WRONG_TYPE
from tests.bridge.core.desk import UNITS, Desk, Order

FLAGS = {b"1": True, b" ON\n": True, b"0": False, b"?": False, WRONG_TYPE: False, None: False}
MODES = {
    b"normal": "ACTIVE", b" Auto": "ACTIVE", None: "ACTIVE", b"halt": "HALTED",
    b"reduce": "REDUCING", b"holt": "REDUCING", WRONG_TYPE: "REDUCING",
}  # fmt: skip
NORMAL_WORDS = (b"normal", b" Auto")
# What Redis may say of limits, and what then holds.
LIMITS = {
    "risk:max_order_notional": {b"200": 200, b"500": 500, None: 400, b"-1": 400},
    "risk:max_position:A": {b"200": 200, b"600": 600, None: 300, b"nan": 300},
    "risk:max_position_total": {b"300": 300, b"900": 900, None: 500, WRONG_TYPE: 500},
}
ORDERS_MAX = 4

# What happens, each as often as it stands here.
EVENTS = (
    *["open"] * 7, *["reduce"] * 5, *["submit"] * 12, *["fill"] * 14, "leave", "leave", "cancel",
    "change", "change", "told", "flag", "mode", "limit", "limit", "order", "resume", "breach",
    "flush", "restart", "link down", "link up", "read",
)  # fmt: skip


@functools.cache
def reach(position: int, out: tuple[tuple[int, int, bool], ...]) -> tuple[int, int]:
    """Return the lowest and highest position that fills may lead to, in whatever order they come:
    orders are (sign, quantity, whether the venue takes it as reduce-only)."""
    lowest = highest = position
    for at, (sign, qty, reduces) in enumerate(out):
        filled = min(qty, max(0, -sign * position)) if reduces else qty
        found = reach(position + sign * filled, out[:at] + out[at + 1 :])
        lowest, highest = min(lowest, found[0]), max(highest, found[1])
    return lowest, highest


class Oracle:
    """What must be, by the rules of the design; it drives a `Desk`, and compares."""

    def __init__(self, *positions: int) -> None:
        self.desk = Desk(dict(zip(UNITS, positions, strict=True)))
        self.count = 0
        self.flag = False
        self.mode: object = None
        self.is_linked = False
        self.is_halted = self.is_sighted = False
        self.limits = {key: says[None] for key, says in LIMITS.items()}

    @property
    def state(self) -> str:
        if self.is_halted or MODES[self.mode] == "HALTED":
            return "HALTED"
        return MODES[self.mode] if self.flag and self.is_linked else "DISABLED"

    def do(self, event: str, number: int) -> None:
        desk = self.desk
        if event in ("submit", "leave", "fill", "cancel", "change", "told"):
            self._trade(event, number)
        elif event == "restart":
            desk.start()
            self.flag, self.mode, self.is_linked = False, None, False
            self.limits = {key: says[None] for key, says in LIMITS.items()}
        elif event.startswith("link"):
            self.is_linked = event == "link up"
            desk.link(None if self.is_linked else "it died")
        elif event == "breach":
            desk.breach()
            self.is_halted = True
        else:
            self._write(event, number)
            self._read()
        assert desk.state == self.state
        if self.state == "ACTIVE":
            for order in desk.orders.values():
                order.must_reduce = False

    # Redis.

    def _write(self, event: str, number: int) -> None:
        redis = self.desk.redis
        match event:
            case "open":
                redis |= {"flag": b"1", "mode": b"normal"}
                self.is_linked = True
                self.desk.link(None)
                if self.desk.latch.halt is not None:
                    redis["resume"] = self.desk.latch.halt.id
            case "reduce":
                redis["mode"] = b"reduce"
            case "flag":
                redis["flag"] = list(FLAGS)[number % len(FLAGS)]
            case "mode":
                redis["mode"] = list(MODES)[number % len(MODES)]
            case "limit":
                key = list(LIMITS)[number % len(LIMITS)]
                redis[key] = list(LIMITS[key])[number // len(LIMITS) % len(LIMITS[key])]
            case "order":
                redis["order"] = f"{self.desk.new_id()} stop"
            case "resume":
                redis["resume"] = redis.get("latch", "")
            case "flush":
                redis.clear()

    def _read(self) -> None:
        redis = self.desk.redis
        self.flag, self.mode = FLAGS[redis.get("flag")], redis.get("mode")
        self.limits = {key: says[redis.get(key)] for key, says in LIMITS.items()}
        is_halt, has_id = MODES[self.mode] == "HALTED", bool(redis.get("latch"))
        halt = self.desk.latch.halt
        if redis.get("order"):
            self.is_halted, self.is_sighted = True, is_halt
        elif is_halt:
            self.is_halted = self.is_sighted = True
        elif halt is not None and redis.get("resume") == halt.id:
            self.is_halted = self.is_sighted = False
        elif not has_id:
            self.is_sighted = False
        elif self.mode in NORMAL_WORDS and self.is_sighted:
            self.is_halted = self.is_sighted = False
        self.desk.read()

    # Orders.

    def _trade(self, event: str, number: int) -> None:
        desk = self.desk
        if event == "submit":
            self._submit(number)
            return
        if not desk.orders:
            return
        order = list(desk.orders.values())[number % len(desk.orders)]
        if event == "leave" and not order.is_out:
            self._leave(order)
        elif event == "fill" and order.is_out:
            self._fill(order, 1 + number // 8 % order.left)
        elif event == "cancel":
            self._end(order)
        elif event == "change" and order.is_out and order.asked is None:
            left = 1 + number // 8 % 4
            expected = None if left == order.left else self._expected(order, left)
            expected = self.state if self.state in ("HALTED", "DISABLED") else expected
            assert desk.change(order, left) == expected
            order.asked = left if expected is None else None
        elif event == "told" and order.asked is not None:
            order.left, order.asked = order.asked, None
            self._told(order)

    def _submit(self, number: int) -> None:
        if len(self.desk.orders) == ORDERS_MAX:
            return
        self.count += 1
        sign, reduces = (-1 if number & 1 else 1), number & 6 == 6
        qty = 1 + number // 8 % 4
        order = Order(f"o{self.count}", "B" if number & 96 == 96 else "A", sign, qty, reduces)
        cause = self.desk.submit(order)
        assert cause == self._expected(order, qty)
        if cause is None:
            self.desk.orders[order.key] = order
            if number % 5:
                self._leave(order)

    def _leave(self, order: Order) -> None:
        """Have an order pass the last gate: what the state forbids by now stays here."""
        cause = self.desk.submit(order)
        expected = self._expected(order, order.left)
        if expected in ("HALTED", "DISABLED", "REDUCING"):
            assert cause == expected
            self._end(order)
        else:
            assert cause is None
            order.is_out, order.must_reduce = True, self.state == "REDUCING"

    def _fill(self, order: Order, qty: int) -> None:
        positions, symbol = self.desk.positions, order.symbol
        before = positions[symbol]
        if order.reduces:
            qty = min(qty, max(0, -order.sign * before))
            if not qty:
                self._end(order)  # as venues do with one that finds nothing to reduce
                return
        after = positions[symbol] = before + order.sign * qty
        if order.must_reduce:
            assert abs(after) <= abs(before)
            assert after * before >= 0
        order.left -= qty
        order.asked = max(0, order.asked - qty) if order.asked and order.left else None
        self.desk.fill(order, qty)
        self._told(order)

    def _told(self, order: Order) -> None:
        if order.most:
            self.desk.follow(order)
        else:
            self._end(order)

    def _end(self, order: Order) -> None:
        order.left, order.asked = 0, None
        self.desk.follow(order)
        del self.desk.orders[order.key]

    def _expected(self, order: Order, qty: int) -> str | None:
        """Return why an order of this size may not leave, None when it may."""
        if self.state in ("HALTED", "DISABLED"):
            return self.state
        symbol, sign = order.symbol, order.sign
        position = self.desk.positions[symbol]
        others = self._out(symbol, but=order)
        if self.state == "REDUCING":
            same_side = sum([each[1] for each in others if each[0] == sign])
            if same_side + qty > -sign * position:
                return "REDUCING"
        most_order, most, most_total = self.limits.values()
        most = most if symbol == "A" else 300
        unit = UNITS[symbol]
        if qty * unit > most_order:
            return "max_order_notional"
        was = reach(position, others)
        will = reach(position, tuple(sorted((*others, (sign, qty, order.reduces)))))
        farthest = max(sign * each for each in will)
        if farthest <= max(0, *(sign * each for each in was)):
            return None
        if farthest * unit > most:
            return "max_position"
        is_more = max(map(abs, will)) > max(map(abs, was))
        (other,) = set(UNITS) - {symbol}
        beside = max(map(abs, reach(self.desk.positions[other], self._out(other))))
        if is_more and max(map(abs, will)) * unit + beside * UNITS[other] > most_total:
            return "max_position_total"
        return None

    def _out(self, symbol: str, *, but: Order | None = None) -> tuple[tuple[int, int, bool], ...]:
        orders = [o for o in self.desk.orders.values() if o.symbol == symbol and o is not but]
        return tuple(sorted([(o.sign, o.most, o.reduces) for o in orders]))


def check(events: bytes) -> None:
    """Live through events: a byte for what happens, one for how; before them the positions that
    the node finds at its start."""
    oracle = Oracle(events[0] % 7 - 3, events[1] % 7 - 3)
    assert oracle.desk.state == "DISABLED"
    events = events[2:]
    for event, number in zip(events[::2], events[1::2], strict=True):
        oracle.do(EVENTS[event % len(EVENTS)], number)


SEQUENCES = given(events=st.binary(min_size=46, max_size=46))


@settings(max_examples=1500)
@SEQUENCES
def test_laws(events: bytes) -> None:
    """No order passes a closed gate, not even before Redis was asked. Each is refused exactly when
    some order of fills of all that is out could break a limit, or, while only reducing is allowed,
    could bring a position further from zero or through it."""
    check(events)


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=10_000)
@SEQUENCES
def test_laws_at_length(events: bytes) -> None:
    """The same, for 10,000 sequences."""
    check(events)
