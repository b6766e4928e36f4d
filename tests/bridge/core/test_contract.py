"""bridge/core/contract.py: the streams as they are documented, word by word."""

import json
from typing import Any

import jsonschema
import pytest

from bridge.core import contract
from bridge.core.contract import (
    EXEC_KINDS,
    MARKET_KINDS,
    STREAMS,
    ContractError,
    Entry,
    Names,
    default_names,
)

# (stream, documented fields, added fields): what the readers of this stack rely on.
STREAM_TABLE = {
    "orders": (
        "exec:orders",
        "status venue cl_ord_id symbol side qty tif ts_ns reason",
        "account order_type price filled_qty venue_order_id strategy_id trader_id recon event_id"
        " producer seq jseq v",
    ),
    "fills": (
        "exec:fills",
        "fill_id cl_ord_id price qty fee venue ts_ns",
        "account symbol side base_ccy quote_ccy multiplier inverse fee_ccy fee_quote liquidity"
        " trade_id venue_order_id position_id strategy_id trader_id provisional recon event_id"
        " producer seq jseq v",
    ),
    "positions": (
        "exec:positions",
        "status account venue symbol strategy_id position_id side qty avg_px realized_pnl ts_ns",
        "producer seq jseq v",
    ),
    "account": (
        "exec:account",
        "account ccy total free locked margin_init margin_maint ts_ns",
        "producer seq jseq v",
    ),
    "exec_funding": (
        "exec:funding",
        "account venue symbol amount ccy rate ts_ns",
        "producer seq jseq v",
    ),
    "control": (
        "exec:control",
        "state was cause reason scope canceled refused positions_left gate_ns done_ns ts_ns",
        "producer seq jseq v",
    ),
    "archive": ("exec:archive", "segment records first last root ts_ns", "archive"),
    "quotes": ("market.raw.{asset}.{symbol}", "bid_px bid_sz ask_px ask_sz mid ts_ns", "venue"),
    "trades": ("market.raw.trades.{symbol}", "price size side ts_ns trade_id", "venue"),
    "bars": ("market.raw.bars.{symbol}", "bar_type open high low close volume ts_ns", "venue"),
    "mark": ("market.raw.mark.{symbol}", "mark index ts_ns", "venue"),
    "funding": ("market.raw.funding.{symbol}", "rate interval_hours next_ts_ns ts_ns", "venue"),
}
STATUSES = (
    "initialized submitted accepted rejected denied canceled expired triggered updated"
    " pending_update pending_cancel modify_rejected cancel_rejected emulated released"
    " partially_filled filled"
)
TAIL = {"producer": "TRADER-001.0a1b2c3d.1", "seq": "1", "jseq": "7", "v": "1"}
ORDER = {
    "status": "filled", "venue": "BINANCE", "cl_ord_id": "O-1", "symbol": "BTCUSDT-PERP",
    "side": "BUY", "qty": "0.010", "tif": "GTC", "ts_ns": "1700000000000000001", "reason": "",
    "account": "BINANCE-001", "order_type": "LIMIT", "price": "50000.10", "filled_qty": "0.010",
    "venue_order_id": "77", "strategy_id": "S-1", "trader_id": "TRADER-001", "recon": "0",
    "event_id": "e1", **TAIL,
}  # fmt: skip
FILL = {
    "fill_id": "f1", "cl_ord_id": "O-1", "price": "50000.10", "qty": "0.010", "fee": "-0.0001",
    "venue": "BINANCE", "ts_ns": "1700000000000000001", "account": "BINANCE-001",
    "symbol": "BTCUSDT", "side": "SELL", "base_ccy": "BTC", "quote_ccy": "USDT", "multiplier": "1",
    "inverse": "0", "fee_ccy": "BNB", "fee_quote": "", "liquidity": "MAKER", "trade_id": "t1",
    "venue_order_id": "77", "position_id": "", "strategy_id": "S-1", "trader_id": "TRADER-001",
    "provisional": "0", "recon": "1", "event_id": "e2", **TAIL,
}  # fmt: skip
ENTRIES: dict[str, dict[str, str]] = {
    "orders": ORDER,
    "fills": FILL,
    "positions": {
        "status": "closed", "account": "A", "venue": "V", "symbol": "S", "strategy_id": "S-1",
        "position_id": "P", "side": "FLAT", "qty": "0", "avg_px": "1.5", "realized_pnl": "-3.25",
        "ts_ns": "1", **TAIL,
    },
    "account": {
        "account": "A", "ccy": "USDT", "total": "10", "free": "", "locked": "", "margin_init": "0",
        "margin_maint": "0", "ts_ns": "1", **TAIL,
    },
    "exec_funding": {
        "account": "A", "venue": "V", "symbol": "S", "amount": "-0.5", "ccy": "USDT", "rate": "",
        "ts_ns": "1", **TAIL,
    },
    "control": {
        "state": "HALTED", "was": "", "cause": "journal", "reason": "", "scope": "",
        "canceled": "3", "refused": "", "positions_left": "0", "gate_ns": "", "done_ns": "12",
        "ts_ns": "1", **TAIL,
    },
    "archive": {
        "segment": "1", "records": "1000", "first": "1", "last": "1000", "root": "0f" * 32,
        "ts_ns": "1", "archive": "5e1f",
    },
    "quotes": {
        "bid_px": "1.0", "bid_sz": "2", "ask_px": "1.1", "ask_sz": "3", "mid": "1.05",
        "ts_ns": "1", "venue": "V",
    },
    "trades": {
        "price": "1", "size": "2", "side": "BUYER", "ts_ns": "1", "trade_id": "t", "venue": "V",
    },
    "bars": {
        "bar_type": "b", "open": "1", "high": "2", "low": "1", "close": "2", "volume": "9",
        "ts_ns": "1", "venue": "V",
    },
    "mark": {"mark": "1", "index": "", "ts_ns": "1", "venue": "V"},
    "funding": {
        "rate": "0.0001", "interval_hours": "8", "next_ts_ns": "", "ts_ns": "1", "venue": "V",
    },
}  # fmt: skip
WRONG = [
    ("orders", "status", "FILLED"),
    ("orders", "side", "LONG"),
    ("orders", "venue", ""),
    ("orders", "ts_ns", "1.5"),
    ("orders", "qty", "1e3"),
    ("orders", "recon", "true"),
    ("orders", "seq", "-1"),
    ("orders", "producer", ""),
    ("fills", "price", ""),
    ("fills", "price", "nan"),
    ("fills", "fee", "+1"),
    ("fills", "side", "BUYER"),
    ("fills", "liquidity", "maker"),
    ("positions", "side", "BUY"),
    ("positions", "status", "open"),
    ("account", "total", "1,000"),
    ("control", "state", "halted"),
    ("control", "cause", ""),
    ("control", "canceled", "-1"),
    ("control", "ts_ns", ""),
    ("archive", "root", "ABC"),
    ("archive", "records", ""),
    ("quotes", "mid", ".5"),
    ("trades", "side", "BUY"),
    ("bars", "open", "0x1"),
    ("mark", "mark", ""),
    ("funding", "next_ts_ns", "soon"),
]


def validator(kind: str) -> jsonschema.Draft202012Validator:
    """Return the validator of one kind of entry, reached as a reader would reach it."""
    schema = contract.json_schema(default_names())
    reference = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": f"#/$defs/{kind}"}
    return jsonschema.Draft202012Validator(reference)


def test_the_kinds_are_the_documented_ones() -> None:
    """There are these streams and no others, exec and market apart."""
    assert list(STREAMS) == list(STREAM_TABLE)
    assert EXEC_KINDS == ("orders", "fills", "positions", "account", "exec_funding", "control")
    assert MARKET_KINDS == ("quotes", "trades", "bars", "mark", "funding")


@pytest.mark.parametrize("kind", STREAM_TABLE)
def test_fields_stand_in_the_documented_order(kind: str) -> None:
    """Documented fields first, added ones behind them, exactly these and in this order."""
    template, documented, added = STREAM_TABLE[kind]

    assert STREAMS[kind].template == template
    assert list(STREAMS[kind].documented) == documented.split()
    assert list(STREAMS[kind].fields) == [*documented.split(), *added.split()]


@pytest.mark.parametrize("kind", STREAM_TABLE)
def test_only_exec_streams_carry_the_tail(kind: str) -> None:
    """producer, seq, jseq and v are the lane's to fill in, on exec streams only."""
    tail = ["producer", "seq", "jseq", "v"] if kind in EXEC_KINDS else []

    assert list(STREAMS[kind].fields)[len(STREAMS[kind].names) :] == tail


def test_order_statuses_are_the_documented_ones() -> None:
    """The status words are a closed set."""
    assert tuple(STATUSES.split()) == contract.ORDER_STATUSES


def test_version_is_one() -> None:
    """This is version 1 of the contract, under its documented keys."""
    assert contract.VERSION == 1
    assert (contract.CONTRACT_KEY, contract.METRICS_KEY) == (
        "bridge:contract",
        "metrics:nautilus_bridge",
    )


@pytest.mark.parametrize("kind", STREAM_TABLE)
def test_pack_orders_values(kind: str) -> None:
    """Values come out in wire order whatever the order of the mapping, and without the tail."""
    names = STREAMS[kind].names

    assert STREAMS[kind].pack({name: f"<{name}>" for name in reversed(names)}) == tuple(
        f"<{name}>" for name in names
    )


def test_pack_refuses_a_missing_field() -> None:
    """The error names the stream and the field."""
    with pytest.raises(ContractError, match=r"mark: field 'index' is missing"):
        STREAMS["mark"].pack({"mark": "1", "ts_ns": "1", "venue": "V"})


def test_pack_refuses_an_unknown_field() -> None:
    """The error names the stream and the fields that it does not have."""
    values = {"mark": "1", "index": "", "ts_ns": "1", "venue": "V", "mid": "1", "last": "2"}

    with pytest.raises(ContractError, match=r"mark: unknown fields \['last', 'mid'\]"):
        STREAMS["mark"].pack(values)


def test_entry_refuses_the_tail() -> None:
    """The source cannot number entries itself."""
    with pytest.raises(ContractError, match="unknown fields"):
        contract.entry("orders", ORDER)


def test_entry_packs() -> None:
    """An entry is its kind and its values in wire order."""
    values = {name: ORDER[name] for name in STREAMS["orders"].names}

    assert contract.entry("orders", values) == Entry("orders", tuple(values.values()))


def test_an_entry_may_have_an_identity() -> None:
    """What `once` names becomes 16 bytes, equal for equal names only; without a name none."""
    values = {name: ORDER[name] for name in STREAMS["orders"].names}
    names = ["fill|1", "fill|1", "fill|2", "order|1"]

    identities = [contract.entry("orders", values, once=name).once for name in names]

    assert {len(each) for each in identities} == {16}
    assert identities[0] == identities[1]
    assert len(set(identities)) == 3
    assert contract.entry("orders", values).once == b""


def test_a_hole_is_told_by_a_control_entry() -> None:
    """Cause `base`, and as reason the stream, the producer, the first and the last number."""
    kind, values, once = contract.hole("exec:fills", "T.0.1", 3, 17, 42)

    told = {name: value for name, value in zip(STREAMS[kind].names, values, strict=True) if value}
    assert (kind, once) == ("control", b"")
    assert told == {"cause": "base", "reason": "exec:fills T.0.1 3-17", "ts_ns": "42"}
    validator("control").validate(contract.to_dict("control", (*values, *TAIL.values())))


@pytest.mark.parametrize("kind", STREAM_TABLE)
def test_to_dict_names_the_values(kind: str) -> None:
    """An entry read back has every field by name, in wire order."""
    values = tuple(ENTRIES[kind].values())

    assert list(contract.to_dict(kind, values).items()) == list(ENTRIES[kind].items())


def test_to_dict_refuses_a_wrong_number_of_values() -> None:
    """A short entry is an error and not one with fields left out."""
    with pytest.raises(ValueError, match="shorter"):
        contract.to_dict("mark", ("1", "", "1"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("orders", "exec:orders"),
        ("exec_funding", "exec:funding"),
        ("control", "exec:control"),
        ("quotes", "market.raw.crypto.BTCUSDT-PERP"),
        ("trades", "market.raw.trades.BTCUSDT-PERP"),
        ("bars", "market.raw.bars.BTCUSDT-PERP"),
        ("mark", "market.raw.mark.BTCUSDT-PERP"),
        ("funding", "market.raw.funding.BTCUSDT-PERP"),
    ],
)
def test_stream_names(kind: str, name: str) -> None:
    """Default names are the documented ones, and a prefix stands in front of each."""
    parts = {"asset": "crypto", "symbol": "BTCUSDT-PERP", "venue": "BINANCE"}

    assert default_names().key(kind, parts) == name
    assert default_names("shadow:").key(kind, parts) == f"shadow:{name}"


def test_plain_keys_carry_the_prefix() -> None:
    """`bridge:contract` and `metrics:nautilus_bridge` are kept apart by prefix as well."""
    assert default_names("demo:").prefixed(contract.CONTRACT_KEY) == "demo:bridge:contract"


def test_templates_may_name_every_part() -> None:
    """A template of the config is filled from the instrument's parts."""
    names = Names("p:", {"quotes": "q.{asset}.{venue}.{base}-{quote}.{symbol}"})
    parts = {"asset": "fx", "venue": "V", "base": "EUR", "quote": "USD", "symbol": "S"}

    assert names.key("quotes", parts) == "p:q.fx.V.EUR-USD.S"


@pytest.mark.parametrize("symbol", ["{BTC}", "BTC}", "{BTC"])
def test_braces_of_a_symbol_are_refused(symbol: str) -> None:
    """Braces would move the stream to another Cluster slot; the error says what to change."""
    with pytest.raises(ContractError, match=r"brace; change the symbol or streams\.mark"):
        default_names().key("mark", {"symbol": symbol})


def test_braces_of_a_prefix_are_refused() -> None:
    """A prefix may not choose a slot either."""
    with pytest.raises(ContractError, match="brace"):
        default_names("{a}:").key("orders")


@pytest.mark.parametrize("prefix", ["", "backtest:r1:"])
def test_schema_is_valid(prefix: str) -> None:
    """The contract is JSON Schema 2020-12, survives JSON, and maps stream names to definitions."""
    schema: Any = json.loads(json.dumps(contract.json_schema(default_names(prefix))))

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["version"] == 1
    assert schema["streams"] == {
        prefix + template: f"#/$defs/{kind}" for kind, (template, _, _) in STREAM_TABLE.items()
    }
    assert list(schema["$defs"]) == list(STREAM_TABLE)


@pytest.mark.parametrize("kind", STREAM_TABLE)
def test_schema_names_the_documented_fields(kind: str) -> None:
    """A reader learns from the schema which fields it may rely on."""
    definition: Any = contract.json_schema(default_names())["$defs"]

    assert definition[kind]["documented"] == STREAM_TABLE[kind][1].split()
    assert list(definition[kind]["properties"]) == list(ENTRIES[kind])


@pytest.mark.parametrize("kind", STREAM_TABLE)
def test_schema_accepts_an_entry(kind: str) -> None:
    """A sample of each stream is valid."""
    validator(kind).validate(ENTRIES[kind])


@pytest.mark.parametrize(("kind", "field", "value"), WRONG)
def test_schema_rejects_a_wrong_value(kind: str, field: str, value: str) -> None:
    """A value outside its type is invalid, and for that field only."""
    errors = list(validator(kind).iter_errors(ENTRIES[kind] | {field: value}))

    assert [list(error.path) for error in errors] == [[field]]


@pytest.mark.parametrize("kind", STREAM_TABLE)
def test_schema_requires_every_field_and_no_other(kind: str) -> None:
    """Leaving out any field is invalid, and so is one more."""
    check, sample = validator(kind), ENTRIES[kind]

    for field in sample:
        assert not check.is_valid({name: sample[name] for name in sample if name != field})
    assert not check.is_valid(sample | {"more": ""})
