"""What the ops page shows: one document of plain JSON, put together from the parts that run."""

import asyncio
import json
import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

import bridge
from bridge import verdicts
from bridge.controller import Controller
from bridge.core import contract
from bridge.exits import Exit
from bridge.metrics import Metrics
from bridge.publisher import Publisher
from bridge.readers import Places, Readers
from bridge.source import Source
from bridge.status import holdings
from bridge.status.holdings import Holdings
from bridge.status.measures import Measures, value_of
from bridge.status.recent import TRADES_MAX, Recent, Taken, recalled
from bridge.watcher import Watcher

_encoded = json.JSONEncoder(separators=(",", ":")).encode
log = structlog.get_logger("nautilus_bridge.status")

VERSION: Final = 1
LOOK_SECONDS: Final = 1.0
# So many times as long as a look at files and Redis took nobody looks again.
LOOK_SHARE: Final = 50
# From rows that were shown to the next ones: a little less than the page's second.
ROWS_SECONDS: Final = 0.8
# Rows that are older were made for somebody who has gone.
ROWS_SECONDS_MAX: Final = 3.0
VIA: Final = {"tracking": "push", "keyspace": "push (keyspace events)", "poll": "poll"}
TRADE: Final = ("symbol", "side", "qty", "price", "status", "cl_ord_id", "reason", "fee", "fee_ccy")


class Parts(NamedTuple):
    """What runs, once it was built."""

    publisher: Publisher
    controller: Controller
    watcher: Watcher
    source: Source


class Looked(NamedTuple):
    """What was read from files."""

    holdings: Holdings | None = None
    audit: Mapping[str, Any] | None = None
    acceptance: Mapping[str, Any] | None = None


class Feed:
    """`document` returns how it all stands, `state` what makes a document due at once.

    `recent` takes the execution entries as they pass, `follow` the parts once they are built,
    `tick` the metrics once a second. `problem` says why the bridge is not healthy, None: it is.
    """

    def __init__(
        self,
        places: Places,
        readers: Readers,
        metrics: Metrics,
        state_directory: Path,
        redis_text: str,
        problem: Callable[[], str | None],
    ) -> None:
        self.recent = Recent()
        self.measures = Measures(metrics)
        self._config = places.config
        self._places = places
        self._readers = readers
        self._metrics = metrics
        self._state_directory = state_directory
        self._redis_text = redis_text
        self._problem = problem
        self._parts: Parts | None = None
        self._began = time.monotonic()
        self._looked = Looked()
        self._looking: asyncio.Task[None] | None = None
        self._look_at = 0.0
        self._is_recalled = False
        # The tables, which are long, as JSON without its braces; made beside the loop.
        self._rows = self._written({})
        self._writing: asyncio.Task[bytes] | None = None
        self._shown_at = -math.inf

    def follow(self, parts: Parts) -> None:
        """Show these from now on."""
        self._parts = parts

    def tick(self, now: Mapping[str, str]) -> None:
        """Take the metrics as they stand, as `Metrics.snapshot` gives them."""
        self.measures.tick(now)

    def state(self) -> object:
        """Return what is shown at once when it is another than before."""
        self._prepare()
        if self._parts is None:
            return None
        is_old = time.monotonic() - self._shown_at > ROWS_SECONDS_MAX and not self._is_written
        return self._problem(), self._state() | {"reason": ""}, self._link(), is_old

    def document(self) -> bytes:
        """Return the document as JSON. Runs on the loop; what is long, or has to be read, is made
        by a thread, and shown in the next one."""
        self._prepare()
        if self._is_written:
            assert self._writing is not None
            writing, self._writing = self._writing, None
            self._shown_at = time.monotonic()
            self._rows = writing.result()
        return b"%b,%b}" % (_encoded(self._document())[:-1].encode(), self._rows)

    def _document(self) -> dict[str, Any]:
        config, parts, problem = self._config, self._parts, self._problem()
        producer = "" if parts is None else parts.publisher.exec.lane.producer
        return {
            "v": VERSION,
            "ts_ns": time.time_ns(),
            "role": config.role,
            "version": bridge.VERSION,
            "producer": producer or config.producer_id,
            "prefix": config.stream_prefix,
            "redis": self._redis_text,
            "state": self._state() if parts is not None else None,
            "link": self._link() if parts is not None else None,
            "node": {
                "ready": problem is None,
                "status": problem or "running",
                "uptime_seconds": round(time.monotonic() - self._began),
            },
            "rates": self.measures.rates(),
            "latency_ms": self.measures.latency_ms(),
            "journal": self.measures.journal(),
            "pnl": self._pnl(),
            "readers": self._read(),
            "audit": self._looked.audit,
            "acceptance": self._looked.acceptance,
        }

    # The parts of it.

    def _state(self) -> dict[str, Any]:
        assert self._parts is not None
        controller = self._parts.controller
        decision, fields = controller.decision, [*controller.fields()]
        told = dict(zip(fields[::2], fields[1::2], strict=True))
        halt = told["latched"]
        return {
            "state": decision.state.value,
            "cause": decision.cause,
            "reason": decision.reason,
            "flag": told["flag"] == "1",
            "flag_key": controller.keys.flag,
            "mode": told["mode"],
            "latched": halt and f"{decision.cause}: {decision.reason} (id {halt})",
            "since_ns": int(told.get("gate_ns") or 0) or None,
        }

    def _link(self) -> dict[str, str]:
        assert self._parts is not None
        publisher, controller, watcher, _ = self._parts
        lanes = {"exec": publisher.exec.link, "market": publisher.market.link}
        said = {
            name: "up" if link.is_up else str(link.problem or "down")
            for name, link in lanes.items()
        }
        said["control"] = controller.link_problem or "up"
        return said | {"control_via": VIA.get(watcher.via, watcher.via)}

    def _trades(self) -> list[dict[str, Any]]:
        newest = [*self.recent.trades][: -TRADES_MAX - 1 : -1]
        return [_trade(kind, contract.to_dict(kind, values)) for kind, values in newest]

    def _control(self) -> list[dict[str, Any]]:
        names = ("state", "was", "cause", "reason", "canceled", "refused", "positions_left")
        newest = [*self.recent.control][::-1]
        told = [contract.to_dict(kind, values) for kind, values in newest]
        return [
            {"ts_ns": _ns(each["ts_ns"])} | {name: each[name] for name in names} for each in told
        ]

    def _positions(self, marks: holdings.Marks) -> list[dict[str, Any]]:
        """Return what the ledger holds; without one, what the node has told since it runs."""
        known = self._looked.holdings
        if known is not None:
            return holdings.positions(known, marks)
        told = [contract.to_dict("positions", each) for each in [*self.recent.positions.values()]]
        names = ("account", "venue", "symbol", "side", "qty", "avg_px", "realized_pnl")
        unknown: dict[str, Any] = {"unrealized_pnl": "", "ccy": "", "lots": []}
        return [{name: each[name] for name in names} | unknown for each in told]

    def _marks(self) -> holdings.Marks:
        known = self._looked.holdings
        # A source that was written for an earlier version has none.
        ask = None if self._parts is None else getattr(self._parts.source, "marks", None)
        if known is None or ask is None:
            return {}
        marks: holdings.Marks = ask({(each.venue, each.symbol) for each in known.open})
        return marks

    def _pnl(self) -> dict[str, str] | None:
        known = self._looked.holdings
        return None if known is None else {"realized_day": holdings.plain(known.day), "ccy": "USD"}

    def _read(self) -> list[dict[str, Any]]:
        return [self._reader(each.name, each.failure, each.gaps) for each in self._readers.feeds]

    def _reader(self, name: str, failure: str | None, gaps: int) -> dict[str, Any]:
        if self._places.reader_of(name) == "alone":
            unknown: dict[str, Any] = {"lag_entries": None, "gaps": None}
            return {"name": name, "state": "a process of its own"} | unknown
        lag = int(value_of(self._metrics.reader_lag[name]))
        return {"name": name, "state": failure or "reads", "lag_entries": lag, "gaps": gaps}

    # What is made or read beside the loop.

    @property
    def _is_written(self) -> bool:
        return self._writing is not None and self._writing.done()

    def _prepare(self) -> None:
        """Begin to look, and to write the tables, when it is time to."""
        now = time.monotonic()
        if self._looking is None and now >= self._look_at:
            self._looking = asyncio.create_task(self._look())
        if self._writing is None and now >= self._shown_at + ROWS_SECONDS:
            written = asyncio.to_thread(self._written, self._marks())
            self._writing = asyncio.create_task(written)

    def _written(self, marks: holdings.Marks) -> bytes:
        # One row at a time: the encoder lets no other thread run.
        tables = {
            "feed": self._trades(),
            "positions": self._positions(marks),
            "control": self._control(),
        }
        texts = [f'"{name}":[{",".join(map(_encoded, rows))}]' for name, rows in tables.items()]
        return ",".join(texts).encode()

    async def _look(self) -> None:
        began = time.monotonic()
        try:
            self._looked = await asyncio.to_thread(self._read_files)
            if not self._is_recalled:
                self.recent.recall(await asyncio.to_thread(self._recall))
                self._is_recalled = True
        except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
            log.debug("status.not_recalled", problem=f"{type(error).__name__}: {error}")
        finally:
            wait = LOOK_SHARE * (time.monotonic() - began)
            self._look_at = time.monotonic() + max(LOOK_SECONDS, wait)
            self._looking = None

    def _read_files(self) -> Looked:
        held = None
        if self._places.reader_of("ledger") != "off":
            try:
                held = holdings.read(self._places.ledger, time.time_ns())
            except (Exit, sqlite3.Error):  # it is not there yet, or its reader tells
                held = self._looked.holdings
        return Looked(
            held,
            verdicts.audit(self._state_directory),
            verdicts.acceptance(self._config.status.acceptance),
        )

    def _recall(self) -> list[Taken]:
        return recalled(self._places.url, self._places.streams, self._config.producer_id)


def _trade(kind: str, told: Mapping[str, str]) -> dict[str, Any]:
    row = {name: told.get(name, "") for name in TRADE}
    return {"kind": kind.removesuffix("s"), "ts_ns": _ns(told["ts_ns"])} | row


def _ns(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
