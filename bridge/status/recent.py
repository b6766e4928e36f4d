"""The newest execution entries, kept for who looks on: taken in the trading loop, as they pass."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bridge.core.contract import STREAMS
from bridge.preflight import client_of

TRADES_MAX: Final = 100
CONTROL_MAX: Final = 50
POSITIONS_MAX: Final = 500
# It may be under way when the bridge is told to stop.
ANSWER_SECONDS_MAX: Final = 0.5
KINDS: Final = ("orders", "fills", "control")
_POSITION: Final = [*STREAMS["positions"].fields]
_ACCOUNT, _SYMBOL, _ID, _SIDE = [
    _POSITION.index(name) for name in ("account", "symbol", "position_id", "side")
]
# Where the tail of an entry has the producer and the number, from its end.
_NUMBER: Final = slice(-4, -2)
WHOLE_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = 19

# A kind, and the values of an entry with its tail, in wire order.
type Taken = tuple[str, tuple[str, ...]]


class Recent:
    """The last orders and fills, the last of exec:control, and the positions that were told open.

    `last_fill` stays however many orders follow it. `take` runs for every execution entry, also on
    the thread of Nautilus's timers: one append.
    """

    def __init__(self) -> None:
        self.trades: deque[Taken] = deque(maxlen=TRADES_MAX)
        self.control: deque[Taken] = deque(maxlen=CONTROL_MAX)
        self.positions: dict[tuple[str, str, str], tuple[str, ...]] = {}
        self.last_fill: tuple[str, ...] | None = None
        # The highest number of a fill, by its producer, of those that were recalled.
        self._recalled: dict[str, int] = {}
        self._queues = {"orders": self.trades, "fills": self.trades, "control": self.control}

    def take(self, kind: str, values: tuple[str, ...]) -> None:
        """Take an entry as the lane kept it, `values` with its tail."""
        queue = self._queues.get(kind)
        if queue is not None:
            queue.append((kind, values))
            if kind == "fills":
                self.last_fill = values
        elif kind == "positions":
            self._position(values)

    def _position(self, values: tuple[str, ...]) -> None:
        key = values[_ACCOUNT], values[_SYMBOL], values[_ID]
        if values[_SIDE] == "FLAT":
            self.positions.pop(key, None)
        elif key in self.positions or len(self.positions) < POSITIONS_MAX:
            self.positions[key] = values

    def fills_told(self) -> dict[str, int]:
        """Return the highest number of a fill that is known, by its producer."""
        told = dict(self._recalled)
        if (last := self.last_fill) is not None:
            producer, seq = last[_NUMBER]
            told[producer] = max(told.get(producer, 0), int(seq))
        return told

    def recall(self, before: Sequence[Taken]) -> None:
        """Put what was `recalled` in front of what was taken, as far as there is room."""
        fills = [values for kind, values in before if kind == "fills"]
        for producer, seq in [values[_NUMBER] for values in fills]:
            self._recalled[producer] = max(self._recalled.get(producer, 0), int(seq))
        self.last_fill = self.last_fill or (fills[-1] if fills else None)
        for queue in (self.trades, self.control):
            known = {(kind, values[_NUMBER]) for kind, values in list(queue)}
            older = [
                (kind, values)
                for kind, values in before
                if self._queues[kind] is queue and (kind, values[_NUMBER]) not in known
            ]
            room = (queue.maxlen or 0) - len(queue)
            queue.extendleft(reversed(older[-room:] if room else []))


def recalled(url: str, streams: Mapping[str, str], producer_id: str) -> list[Taken]:
    """Return what Redis holds of the last entries of this bridge, in all its incarnations, in the
    order they were told. Raises redis.RedisError, OSError.

    Anybody may write to a stream: what has no number of ours is left out.
    """
    client = client_of(url, ANSWER_SECONDS_MAX)
    found: list[tuple[str, int, Taken]] = []
    # When the first entry of an incarnation came: what its numbers are behind.
    began: dict[str, int] = {}
    try:
        for kind in KINDS:
            count = CONTROL_MAX if kind == "control" else TRADES_MAX
            answer: Any = client.xrevrange(streams[kind], count=count)
            for entry_id, fields in answer:
                told = {
                    name.decode(): text.decode(errors="replace") for name, text in fields.items()
                }
                producer, ms = told.get("producer", ""), int(entry_id.partition(b"-")[0])
                jseq, seq = whole(told.get("jseq", "")), whole(told.get("seq", ""))
                is_ours = producer.startswith(f"{producer_id}.")
                if is_ours and jseq is not None and seq is not None:
                    began[producer] = min(ms, began.get(producer, ms))
                    values = tuple([told.get(name, "") for name in STREAMS[kind].fields])
                    found.append((producer, jseq, (kind, values)))
    finally:
        client.close()
    found.sort(key=lambda each: (began[each[0]], each[1]))
    return [taken for _, _, taken in found]


def whole(text: str) -> int | None:
    """Return a number of 63 bits, as times and numbers of entries are; None for any other text."""
    if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS_MAX:
        return None
    number = int(text)
    return number if number <= WHOLE_MAX else None
