"""The record of what an engine emitted, and the part of a stream's entry it is compared with.

A record is a file of JSON lines: one where a process begins, `{"life": pid}`, and one an event,
`{"id": ..., "thread": ..., "entries": [[kind, values], ...]}`, the values in the order of `FIELDS`.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

# What is compared, by kind of stream: what Nautilus's event says, and nothing the bridge adds.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "orders": (
        *("event_id", "status", "cl_ord_id", "venue_order_id", "account", "symbol", "side"),
        *("qty", "strategy_id", "trader_id", "recon", "ts_ns"),
    ),
    "fills": (
        *("event_id", "cl_ord_id", "venue_order_id", "trade_id", "account", "symbol", "side"),
        *("price", "qty", "fee", "fee_ccy", "liquidity", "position_id", "strategy_id"),
        *("trader_id", "recon", "ts_ns"),
    ),
    "positions": (
        *("status", "account", "symbol", "strategy_id", "position_id", "side", "qty"),
        *("realized_pnl", "ts_ns"),
    ),
    "account": ("account", "ccy", "total", "free", "locked", "ts_ns"),
    "exec_funding": ("account", "symbol", "amount", "ccy", "ts_ns"),
    "control": ("cause", "reason"),
}

type Values = tuple[str, ...]


class Event(NamedTuple):
    """One event that a handler had returned for: its id, and the entries it must have become.

    `life` counts the processes of the record, from 0. `thread`: a live node's timers emit on one of
    their own, and between two threads there is no order.
    """

    life: int
    id: str
    entries: tuple[tuple[str, Values], ...]
    thread: int = 0


class Found(NamedTuple):
    """An entry of a stream. `producer` is empty where the writer gives no numbers."""

    producer: str
    seq: int
    jseq: int
    values: Values


def read(path: Path) -> list[Event]:
    """Return the events of a record. The last line of a process that was killed may be cut."""
    events: list[Event] = []
    life = -1
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            told = json.loads(line)
        except ValueError:
            continue  # its process was killed in the middle: this event was in hand
        if "life" in told:
            life += 1
        else:
            entries = tuple((kind, _shared(values)) for kind, values in told["entries"])
            events.append(Event(life, told["id"], entries, told["thread"]))
    return events


def found(kind: str, entries: Iterable[Mapping[str, str]]) -> Iterator[Found]:
    """Yield what is compared of the entries of a stream."""
    names = FIELDS[kind]
    for fields in entries:
        values = _shared([fields.get(name, "") for name in names])
        producer = fields.get("producer", "")
        yield Found(producer, int(fields.get("seq", 0)), int(fields.get("jseq", 0)), values)


def _shared(values: Iterable[str]) -> Values:
    """Return the values, each text once in memory: record and streams hold the same ones."""
    return tuple([sys.intern(each) for each in values])
