"""What the ops page shows: one document of plain JSON, put together from the parts that run."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

import bridge
from bridge import verdicts
from bridge.controller import Controller
from bridge.core import contract
from bridge.exec_shipper import ExecShipper
from bridge.market_shipper import MarketShipper
from bridge.metrics import Metrics
from bridge.publisher import SILENT_SECONDS_MAX, Publisher
from bridge.readers import Places, Readers
from bridge.source import Source
from bridge.status import holdings
from bridge.status.books import Books
from bridge.status.measures import Measures, value_of
from bridge.status.recent import TRADES_MAX, Recent, recalled, whole
from bridge.watcher import Watcher

# What is no number would make a document that no browser reads.
_encoded = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
log = structlog.get_logger("nautilus_bridge.status")

VERSION: Final = 2
LOOK_SECONDS: Final = 1.0
# So many times as long as a look at files and Redis took nobody looks again.
LOOK_SHARE: Final = 50
# From rows that were shown to the next ones: a little less than the page's second.
ROWS_SECONDS: Final = 0.8
# Rows that are older were made for somebody who has gone.
ROWS_SECONDS_MAX: Final = 3.0
# How often Redis is asked for what was before this process; each pause is twice the last.
RECALLS_MAX: Final = 8
RECALL_SECONDS: Final = 2.0
VIA: Final = {"tracking": "push", "keyspace": "push (keyspace events)", "poll": "poll"}
TRADE: Final = ("symbol", "side", "qty", "price", "status", "cl_ord_id", "reason", "fee", "fee_ccy")


class Parts(NamedTuple):
    """What runs, once it was built."""

    publisher: Publisher
    controller: Controller
    watcher: Watcher
    source: Source


class Verdicts(NamedTuple):
    """What was read from files."""

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
        self._books = Books(places, self.recent)
        self._config = places.config
        self._places = places
        self._readers = readers
        self._metrics = metrics
        self._state_directory = state_directory
        self._redis_text = redis_text
        self._problem = problem
        self._parts: Parts | None = None
        self._began = time.monotonic()
        self._verdicts = Verdicts()
        self._looking: asyncio.Task[None] | None = None
        self._look_at = 0.0
        self._recalls = 0
        self._recall_at = 0.0
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
                "problem": problem or "",
                "status": self._status(problem),
                "uptime_seconds": round(time.monotonic() - self._began),
            },
            "rates": self.measures.rates(),
            "latency_ms": self.measures.latency_ms(),
            "journal": self.measures.journal(),
            "books": self._books.document(),
            "pnl": {"realized_day": self._books.day()},
            "readers": self._read(),
            "audit": self._verdicts.audit,
            "acceptance": self._verdicts.acceptance,
            "last_fill": self._last_fill(),
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
            "since_ns": whole(told.get("gate_ns", "")) or None,
        }

    def _status(self, problem: str | None) -> str:
        """Return how the node itself is, whatever Redis does."""
        if self._parts is None or problem == "stopping":
            return problem or "starting"
        return "running" if self._parts.source.is_running else "not running"

    def _link(self) -> dict[str, str]:
        assert self._parts is not None
        publisher, controller, watcher, _ = self._parts
        said = {"exec": _lane(publisher.exec), "market": _lane(publisher.market)}
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
            {"ts_ns": whole(each["ts_ns"])} | {name: each[name] for name in names} for each in told
        ]

    def _last_fill(self) -> dict[str, Any] | None:
        values = self.recent.last_fill
        return None if values is None else _trade("fills", contract.to_dict("fills", values))

    def _marks(self) -> holdings.Marks:
        wanted = self._books.instruments()
        # A source that was written for an earlier version has none.
        ask = None if self._parts is None else getattr(self._parts.source, "marks", None)
        if not wanted or ask is None:
            return {}
        marks: holdings.Marks = ask(wanted)
        return marks

    def _read(self) -> list[dict[str, Any]]:
        return [self._reader(each.name, each.failure, each.gaps) for each in self._readers.feeds]

    def _reader(self, name: str, failure: str | None, gaps: int) -> dict[str, Any]:
        if self._places.reader_of(name) == "alone":
            return {
                "name": name,
                "state": "a process of its own",
                "lag_entries": self._books.behind if name == "ledger" else None,
                "gaps": None,
            }
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
            "positions": self._books.positions(marks),
            "control": self._control(),
        }
        texts = [f'"{name}":[{",".join(map(_encoded, rows))}]' for name, rows in tables.items()]
        return ",".join(texts).encode()

    async def _look(self) -> None:
        began = time.monotonic()
        try:
            self._verdicts = await asyncio.to_thread(self._read_files)
            if self._recalls < RECALLS_MAX and began >= self._recall_at:
                await self._recall()
        finally:
            wait = LOOK_SHARE * (time.monotonic() - began)
            self._look_at = time.monotonic() + max(LOOK_SECONDS, wait)
            self._looking = None

    def _read_files(self) -> Verdicts:
        self._books.look()
        return Verdicts(
            verdicts.audit(self._state_directory),
            verdicts.acceptance(self._config.status.acceptance),
        )

    async def _recall(self) -> None:
        """Ask Redis for what was before this process; now and then, until it has answered."""
        places, producer_id = self._places, self._config.producer_id
        try:
            before = await asyncio.to_thread(recalled, places.url, places.streams, producer_id)
            self.recent.recall(before)
            self._recalls = RECALLS_MAX
        except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
            self._recall_at = time.monotonic() + RECALL_SECONDS * 2**self._recalls
            self._recalls += 1
            tell = log.warning if self._recalls == RECALLS_MAX else log.debug
            tell("status.not_recalled", problem=f"{type(error).__name__}: {error}")


def _lane(shipper: ExecShipper | MarketShipper) -> str:
    """Return `up`, for how long Redis has not answered, or why there is no connection."""
    if not shipper.link.is_up:
        return shipper.link.problem or "down"
    silent_seconds = shipper.silent_seconds
    if silent_seconds > SILENT_SECONDS_MAX:
        return f"silent: no answer for {silent_seconds:.0f} s"
    return "up"


def _trade(kind: str, told: Mapping[str, str]) -> dict[str, Any]:
    row = {name: told.get(name, "") for name in TRADE}
    return {"kind": kind.removesuffix("s"), "ts_ns": whole(told["ts_ns"])} | row
