"""The stream contract: every stream, key and field name, and the entries built from them.

One table, `STREAMS`, is the source of everything: the entries that are written, the JSON
Schema at `bridge:contract`, the golden vectors of the tests and the tables of the README.
All values are strings. See the README, "Stream contract", for their meaning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

from bridge.core.fields import (
    COUNT,
    DECIMAL,
    FLAG,
    NAME,
    NS,
    OPTIONAL_COUNT,
    OPTIONAL_DECIMAL,
    OPTIONAL_NS,
    ORDER_SIDE,
    TEXT,
    FieldType,
    one_of,
)

VERSION = 1

CONTRACT_KEY = "bridge:contract"
METRICS_KEY = "metrics:nautilus_bridge"

# fmt: off
ORDER_STATUSES = (
    "initialized", "submitted", "accepted", "rejected", "denied", "canceled", "expired",
    "triggered", "updated", "pending_update", "pending_cancel", "modify_rejected",
    "cancel_rejected", "emulated", "released", "partially_filled", "filled",
)
# fmt: on


STATE = FieldType(
    "^(ACTIVE|REDUCING|DISABLED|HALTED|)$", "an execution state; empty when it did not change"
)


class ContractError(ValueError):
    """An entry or a stream name that the contract does not allow."""


# Who wrote an exec entry: the lane adds these four behind what the source translated.
TAIL: Mapping[str, FieldType] = {"producer": NAME, "seq": COUNT, "jseq": COUNT, "v": COUNT}


@dataclass(frozen=True)
class Stream:
    """One kind of stream.

    `documented` are the fields existing readers rely on: always present, in this order, first.
    `added` follow. `tailed` streams end with the fields of `TAIL`.
    """

    kind: str
    template: str
    documented: Mapping[str, FieldType]
    added: Mapping[str, FieldType]
    tailed: bool = False

    @cached_property
    def fields(self) -> dict[str, FieldType]:
        """All fields in wire order."""
        return {**self.documented, **self.added, **(TAIL if self.tailed else {})}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the fields that the source fills in, in wire order (no tail)."""
        return (*self.documented, *self.added)

    def pack(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return the values in wire order, without the tail.

        Raises ContractError when a field is missing or not part of the stream.
        """
        try:
            packed = tuple([values[name] for name in self.names])
        except KeyError as error:
            raise ContractError(f"{self.kind}: field {error} is missing") from None
        if len(values) != len(packed):
            unknown = sorted(set(values) - set(self.names))
            raise ContractError(f"{self.kind}: unknown fields {unknown}")
        return packed


STREAMS: Mapping[str, Stream] = {
    stream.kind: stream
    for stream in (
        Stream(
            "orders",
            "exec:orders",
            {
                "status": one_of(*ORDER_STATUSES),
                "venue": NAME,
                "cl_ord_id": NAME,
                "symbol": NAME,
                "side": FieldType("^(BUY|SELL|)$", "BUY or SELL; empty when not known"),
                "qty": OPTIONAL_DECIMAL,
                "tif": TEXT,
                "ts_ns": NS,
                "reason": TEXT,
            },
            {
                "account": TEXT,
                "order_type": TEXT,
                "price": OPTIONAL_DECIMAL,
                "filled_qty": OPTIONAL_DECIMAL,
                "venue_order_id": TEXT,
                "strategy_id": NAME,
                "trader_id": NAME,
                "recon": FLAG,
                "event_id": NAME,
            },
            tailed=True,
        ),
        Stream(
            "fills",
            "exec:fills",
            {
                "fill_id": NAME,
                "cl_ord_id": NAME,
                "price": DECIMAL,
                "qty": DECIMAL,
                "fee": DECIMAL,
                "venue": NAME,
                "ts_ns": NS,
            },
            {
                "account": NAME,
                "symbol": NAME,
                "side": ORDER_SIDE,
                "base_ccy": TEXT,
                "quote_ccy": NAME,
                "multiplier": OPTIONAL_DECIMAL,
                "inverse": FieldType("^[01]?$", "0 or 1; empty when not known"),
                "fee_ccy": NAME,
                "fee_quote": OPTIONAL_DECIMAL,
                "liquidity": one_of("MAKER", "TAKER", "NO_LIQUIDITY_SIDE"),
                "trade_id": NAME,
                "venue_order_id": TEXT,
                "position_id": TEXT,
                "strategy_id": NAME,
                "trader_id": NAME,
                "provisional": FLAG,
                "recon": FLAG,
                "event_id": NAME,
            },
            tailed=True,
        ),
        Stream(
            "positions",
            "exec:positions",
            {
                "status": one_of("opened", "changed", "closed"),
                "account": NAME,
                "venue": NAME,
                "symbol": NAME,
                "strategy_id": NAME,
                "position_id": NAME,
                "side": one_of("LONG", "SHORT", "FLAT"),
                "qty": DECIMAL,
                "avg_px": DECIMAL,
                "realized_pnl": DECIMAL,
                "ts_ns": NS,
            },
            {},
            tailed=True,
        ),
        Stream(
            "account",
            "exec:account",
            {
                "account": NAME,
                "ccy": NAME,
                "total": OPTIONAL_DECIMAL,
                "free": OPTIONAL_DECIMAL,
                "locked": OPTIONAL_DECIMAL,
                "margin_init": DECIMAL,
                "margin_maint": DECIMAL,
                "ts_ns": NS,
            },
            {},
            tailed=True,
        ),
        Stream(
            "exec_funding",
            "exec:funding",
            {
                "account": NAME,
                "venue": NAME,
                "symbol": NAME,
                "amount": DECIMAL,
                "ccy": NAME,
                "rate": OPTIONAL_DECIMAL,
                "ts_ns": NS,
            },
            {},
            tailed=True,
        ),
        Stream(
            "control",
            "exec:control",
            {
                "state": STATE,
                "was": STATE,
                "cause": NAME,
                "reason": TEXT,
                "scope": TEXT,
                "canceled": OPTIONAL_COUNT,
                "refused": OPTIONAL_COUNT,
                "positions_left": OPTIONAL_COUNT,
                "gate_ns": OPTIONAL_NS,
                "done_ns": OPTIONAL_NS,
                "ts_ns": NS,
            },
            {},
            tailed=True,
        ),
        Stream(
            "archive",
            "exec:archive",
            {
                "segment": COUNT,
                "records": COUNT,
                "first": COUNT,
                "last": COUNT,
                "root": FieldType("^[0-9a-f]{64}$", "SHA-256, hexadecimal"),
                "ts_ns": NS,
            },
            {"archive": NAME},
        ),
        Stream(
            "quotes",
            "market.raw.{asset}.{symbol}",
            {
                "bid_px": DECIMAL,
                "bid_sz": DECIMAL,
                "ask_px": DECIMAL,
                "ask_sz": DECIMAL,
                "mid": DECIMAL,
                "ts_ns": NS,
            },
            {"venue": NAME},
        ),
        Stream(
            "trades",
            "market.raw.trades.{symbol}",
            {
                "price": DECIMAL,
                "size": DECIMAL,
                "side": one_of("BUYER", "SELLER", "NONE"),
                "ts_ns": NS,
                "trade_id": NAME,
            },
            {"venue": NAME},
        ),
        Stream(
            "bars",
            "market.raw.bars.{symbol}",
            {
                "bar_type": NAME,
                "open": DECIMAL,
                "high": DECIMAL,
                "low": DECIMAL,
                "close": DECIMAL,
                "volume": DECIMAL,
                "ts_ns": NS,
            },
            {"venue": NAME},
        ),
        Stream(
            "mark",
            "market.raw.mark.{symbol}",
            {"mark": DECIMAL, "index": OPTIONAL_DECIMAL, "ts_ns": NS},
            {"venue": NAME},
        ),
        Stream(
            "funding",
            "market.raw.funding.{symbol}",
            {
                "rate": DECIMAL,
                "interval_hours": OPTIONAL_DECIMAL,
                "next_ts_ns": OPTIONAL_NS,
                "ts_ns": NS,
            },
            {"venue": NAME},
        ),
    )
}

EXEC_KINDS = tuple(kind for kind, stream in STREAMS.items() if stream.tailed)
# What the archive tells of itself: no lane carries it, and no reader of ours takes it.
ARCHIVE_KIND = "archive"
MARKET_KINDS = tuple(kind for kind in STREAMS if kind not in (*EXEC_KINDS, ARCHIVE_KIND))


class Entry(NamedTuple):
    """One exec entry as the source translated it: `values` in wire order, without the tail.

    `once` is its identity, 16 bytes, when the same may be reported again and must not be kept
    twice; empty otherwise.
    """

    kind: str
    values: tuple[str, ...]
    once: bytes = b""


def entry(kind: str, values: Mapping[str, str], *, once: str = "") -> Entry:
    """Return an exec entry of `kind`; `once` names what must not be kept twice.

    Raises ContractError when the fields are not the stream's.
    """
    return Entry(kind, STREAMS[kind].pack(values), identity(once) if once else b"")


def hole(stream: str, producer: str, first: int, last: int, ts_ns: int) -> Entry:
    """Return what tells that numbers of a producer will never come: they are nowhere any more."""
    values = dict.fromkeys(STREAMS["control"].names, "")
    told = {"cause": "base", "reason": f"{stream} {producer} {first}-{last}", "ts_ns": str(ts_ns)}
    return entry("control", values | told)


def head(
    segment: int, records: int, first: int, last: int, root: str, ts_ns: int, archive: str
) -> dict[str, str]:
    """Return what the archive publishes of itself: where it ends, and the digest that proves it.

    `records` is how many the segment holds so far, `first` and `last` are their numbers, `archive`
    is its id.
    """
    values = (segment, records, first, last, root, ts_ns, archive)
    return dict(zip(STREAMS[ARCHIVE_KIND].names, map(str, values), strict=True))


def identity(text: str) -> bytes:
    """Return the 16 bytes that stand for `text`: among 10^9 of them a pair is equal by 10^-21."""
    return blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Names:
    """Where the entries of each kind go: `prefix` and one template a kind.

    Placeholders of market templates: {asset} {symbol} {venue} {base} {quote}.
    """

    prefix: str
    templates: Mapping[str, str]

    def key(self, kind: str, parts: Mapping[str, str] | None = None) -> str:
        """Return the name of the stream of `kind`, for the instrument described by `parts`.

        Raises ContractError when the name would hold a brace: braces move a key to another
        Cluster slot, away from what is written together with it.
        """
        name = self.prefix + self.templates[kind].format_map(parts or {})
        if "{" in name or "}" in name:
            raise ContractError(
                f"stream name {name!r} holds a brace; change the symbol or streams.{kind}"
            )
        return name

    def prefixed(self, key: str) -> str:
        """Return a plain key (`bridge:contract`, `metrics:nautilus_bridge`) with the prefix."""
        return self.prefix + key


def default_names(prefix: str = "") -> Names:
    """Return the documented stream names behind `prefix`."""
    return Names(prefix, {kind: stream.template for kind, stream in STREAMS.items()})


def json_schema(names: Names) -> dict[str, object]:
    """Return the contract as JSON Schema (2020-12), one definition a kind of stream."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Entries of the Nautilus-Redis bridge",
        "version": VERSION,
        "streams": {names.prefix + names.templates[kind]: f"#/$defs/{kind}" for kind in STREAMS},
        "$defs": {stream.kind: _definition(stream) for stream in STREAMS.values()},
    }


def _definition(stream: Stream) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "pattern": field.pattern, "description": field.about}
            for name, field in stream.fields.items()
        },
        "required": list(stream.fields),
        "additionalProperties": False,
        "documented": list(stream.documented),
    }


def to_dict(kind: str, values: tuple[str, ...]) -> dict[str, str]:
    """Return an entry's fields by name; `values` in wire order, with the tail where it has one."""
    return dict(zip(STREAMS[kind].fields, values, strict=True))
