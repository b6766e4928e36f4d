"""acceptance/record.py and shape.py: the result file, its schema, and what it refuses."""

import json
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from acceptance import record
from acceptance.record import Record, RecordError
from tests.acceptance.rigs import books, result

BASE = result()
MINIMAL: dict[str, Any] = {
    "schema": 1,
    "program": "ours",
    "strategy": "basis_carry",
    "data": {"start_ns": 0, "end_ns": 10, "symbols": ["BTC"]},
}
FILL = {
    "ts": 1, "symbol": "BTC", "leg": "spot", "side": "BUY", "qty": "1.5", "px": "100", "fee": "0.1",
}  # fmt: skip


def read(tmp_path: Path, content: Any) -> Record:
    """Return the record that a file with this content is."""
    path = tmp_path / "result.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return record.load(path)


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    """What is saved is loaded, every number exact, and saving that gives the same bytes."""
    sha256 = record.save(BASE, tmp_path / "new" / "result.json")

    again = record.load(tmp_path / "new" / "result.json")

    assert again == BASE
    assert record.sha256(again) == sha256 == record.save(again, tmp_path / "again.json")


def test_a_file_has_one_notation_per_number() -> None:
    """Zeros at the end, exponents and minus zero do not show, so equal results have equal bytes."""
    texts = ["1.50", "0.00", "-0.0", "1E+3", "1E-8", "-12", "100"]

    assert [record.text_of(Decimal(text)) for text in texts] == [
        "1.5", "0", "0", "1000", "0.00000001", "-12", "100",
    ]  # fmt: skip
    assert BASE.totals is not None
    padded = replace(BASE.totals["BTC"], dust=Decimal("0.000"))
    assert record.dumps(replace(BASE, totals=BASE.totals | {"BTC": padded})) == record.dumps(BASE)


def test_saved_json_is_sorted_and_says_nothing_of_the_day() -> None:
    """Keys are in order, and nothing in it depends on when, where or how fast it was written."""
    content = json.loads(record.dumps(BASE))

    assert list(content) == sorted(content)
    assert set(content) == {
        "schema", "program", "strategy", "mode", "mock", "data", "instruments", "params", "run",
        "totals", "metrics", "days", "orders", "fills", "funding", "equity",
    }  # fmt: skip


def test_the_books_of_a_run_become_a_result() -> None:
    """Totals add up to all symbols, counts have one name each, and each fill had an order."""
    made = books()

    assert BASE.totals is not None and BASE.fills is not None and BASE.orders is not None
    net = sum(row.net for row in made.symbols.values())
    assert BASE.totals["total"].net == net == BASE.totals["BTC"].net + BASE.totals["ETH"].net
    assert BASE.run.counts == {
        "decisions": made.decisions,
        "round_trips": len(made.round_trips),
        "skipped.funding_guard": made.skipped["funding_guard"],
        "exits.basis_reverted": made.exits["basis_reverted"],
    }
    assert (BASE.run.orders, BASE.run.fills) == (len(made.fills), len(made.fills))
    first = BASE.orders[0]
    assert (first.qty, first.filled, first.mid) == (made.fills[0].qty,) * 2 + (made.fills[0].mid,)


def test_books_with_orders_keep_them() -> None:
    """Books that know orders, denied and rejected ones, are taken at their word."""

    class WithOrders:
        def __init__(self, made: Any) -> None:
            self.__dict__ = {name: getattr(made, name) for name in type(made).__slots__}
            order = record.Order(1, "BTC", "spot", "BUY", *[Decimal(1)] * 3, Decimal(0))
            self.orders, self.denied, self.rejected = [order], 1, 2
            self.counts = {"decisions": 3, "unfilled.timeout": 0}

    made = record.of_books(
        WithOrders(books()), program="x", data=BASE.data, instruments=(), params={}
    )

    assert (made.run.denied, made.run.rejected, made.run.orders) == (1, 2, 1)
    assert made.orders is not None and made.orders[0].filled == 0
    assert made.run.counts == {"decisions": 3}


def test_a_run_that_did_not_end_has_no_totals() -> None:
    """What it had brought by then is not the strategy's result."""
    made = books()
    made.days.pop()

    stopped = record.of_books(
        made, program="x", data=BASE.data, instruments=(), params={}, mode="fast"
    )

    assert made.days and stopped.totals is None
    made.days.clear()
    assert record.of_books(made, program="x", data=BASE.data, instruments=(), params={}).days == ()


def test_rows_of_one_time_have_one_order() -> None:
    """Whatever order a program made them in: by symbol as they decide, spot before perp."""
    made, again = books(), books()
    again.fills.sort(key=lambda fill: (fill.ts, fill.leg, fill.symbol), reverse=True)
    again.settlements.reverse()

    one, other = (
        record.of_books(each, program="x", data=BASE.data, instruments=(), params={})
        for each in (made, again)
    )

    assert again.fills != made.fills
    assert record.dumps(one) == record.dumps(other)


def test_fills_without_a_mid_are_no_orders() -> None:
    """What was decided on is not known, so there are no orders rather than half of them."""
    made = books()
    made.fills[3] = made.fills[3]._replace(mid=None)

    stated = record.of_books(made, program="x", data=BASE.data, instruments=(), params={})

    assert stated.orders is stated.run.orders is None
    assert stated.metrics is not None and stated.metrics["total"].is_net_bps is None


def test_a_fast_result_is_the_full_one_without_its_rows() -> None:
    """Orders, fills, funding and the curve are left out; totals and metrics are the same."""
    fast = result(mode="fast")

    left_out = dict.fromkeys(("orders", "fills", "funding", "equity"))
    assert fast == replace(BASE, mode="fast", **left_out)  # type: ignore[arg-type]


def test_a_users_own_result_may_say_little(tmp_path: Path) -> None:
    """Program, strategy, window and symbols are enough; the rest is not stated, never invented."""
    own = read(tmp_path, MINIMAL | {"fills": [FILL]})

    assert own.fills is not None and own.fills[0].px == 100 and own.fills[0].mid is None
    assert own.data.sha256 is own.params is own.totals is own.equity is own.run.denied is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"program": 1}, "program is 1: Input should be a valid string"),
        ({"schema": 2}, "schema is 2: Input should be less than or equal to 1"),
        ({"data": {"start_ns": 0, "end_ns": 1}}, "data.symbols is missing"),
        ({"fill": []}, "fill is not part of the schema"),
        ({"fills": [FILL, FILL | {"px": 100.5}]}, "fills.1.px is 100.5: expected a decimal"),
        ({"fills": [FILL | {"qty": "1e5"}]}, "fills.0.qty is '1e5': expected a decimal number"),
        ({"fills": [FILL | {"qty": "-1"}]}, "fills.0.qty is '-1': expected a number above 0"),
        ({"fills": [FILL | {"qty": "0.0"}]}, "fills.0.qty is '0.0': expected a number above 0"),
        ({"fills": [FILL | {"qty": "1\n"}]}, "fills.0.qty is '1\\n': expected a decimal"),
        ({"program": ""}, "program is '': String should have at least 1 character"),
        ({"fills": [FILL | {"qty": "NaN"}]}, "fills.0.qty is 'NaN': expected a decimal number"),
        ({"fills": [FILL | {"side": "buy"}]}, "fills.0.side is 'buy': Input should be 'BUY'"),
        ({"fills": [FILL | {"ts": 1.5}]}, "fills.0.ts is 1.5: Input should be a valid integer"),
        ({"fills": [FILL | {"x": 1}]}, "fills.0.x is not part of the schema"),
        ({"equity": [[1, "2", 3]]}, "equity.0"),
        ({"mock": "no"}, "mock is 'no': Input should be a valid boolean"),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_expectation(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """The message names the file, where in it, what stands there, and how to see the schema."""
    with pytest.raises(RecordError) as caught:
        read(tmp_path, MINIMAL | change)

    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/result.json: ")
    assert "python -m acceptance schema" in str(caught.value)


def test_what_is_not_stated_is_not_written(tmp_path: Path) -> None:
    """Neither parts that lack, as null, nor counts of zero."""
    made = books()
    made.round_trips.clear()
    stated = record.of_books(made, program="x", data=BASE.data, instruments=(), params={})

    assert b"null" not in record.dumps(read(tmp_path, MINIMAL)) + record.dumps(stated)
    assert "round_trips" not in stated.run.counts and "decisions" in stated.run.counts


@pytest.mark.parametrize("bad", ["", "{", "[]", "nothing", '{"schema": 1} {}'])
def test_what_is_no_result_at_all_is_refused(tmp_path: Path, bad: str) -> None:
    """Broken JSON and other JSON are errors of the file, not of the program."""
    with pytest.raises(RecordError, match=r"result\.json"):
        read(tmp_path, bad)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Its path and the system's reason are in the message."""
    with pytest.raises(RecordError, match=r"none\.json: cannot be read \(No such file"):
        record.load(tmp_path / "none.json")


def test_a_metric_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    """NaN and infinity are JSON to Python, and no metrics."""
    for bad in ("NaN", "Infinity"):
        text = json.dumps(MINIMAL | {"metrics": {"total": {"sharpe": 0.5}}}).replace("0.5", bad)
        with pytest.raises(RecordError, match=r"metrics\.total\.sharpe"):
            read(tmp_path, text)


def test_many_problems_are_counted(tmp_path: Path) -> None:
    """The first five are told, of the others how many there are."""
    with pytest.raises(RecordError, match="and 7 more"):
        read(tmp_path, MINIMAL | {"fills": [FILL | {"px": 1}] * 12})


def test_the_schema_is_a_json_schema_that_results_keep() -> None:
    """Both results of this project and a minimal one of a user's are valid by it."""
    jsonschema.Draft202012Validator.check_schema(record.SCHEMA)
    for content in (json.loads(record.dumps(BASE)), MINIMAL, MINIMAL | {"fills": [FILL]}):
        jsonschema.validate(content, record.SCHEMA)


@pytest.mark.parametrize("qty", ["0", "0.00", "-1", "", "1e5", ".5", 1, None])
def test_the_schema_knows_that_a_quantity_is_above_zero(qty: Any) -> None:
    """A checker of JSON Schema finds what loading would refuse."""
    content = MINIMAL | {"fills": [FILL | {"qty": qty}]}

    assert not jsonschema.Draft202012Validator(record.SCHEMA).is_valid(content)


def test_the_schema_refuses_what_is_refused_on_loading(tmp_path: Path) -> None:
    """Of three hundred random changes of a result, both accept the same ones."""
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    validator = jsonschema.Draft202012Validator(record.SCHEMA)
    small = json.loads(record.dumps(BASE))
    for name in ("orders", "fills", "days", "equity"):
        small[name] = small[name][:2]
    values = [None, -1, 1, 0, 7.5, "", "1", "-1", "1.0", "0", "1e5", "x", True, [], {}, ["1"]]
    agreed = {True: 0, False: 0}
    for _ in range(300):
        changed = json.loads(json.dumps(small))
        where, key = chance.choice(list(_places(changed)))
        if chance.random() < 0.2 and isinstance(where, dict):
            del where[key]
        else:
            where[key] = chance.choice(values)
        try:
            read(tmp_path, changed)
            accepted = True
        except RecordError:
            accepted = False
        assert validator.is_valid(changed) == accepted, (seed, key, where)
        agreed[accepted] += 1
    assert min(agreed.values()) > 20


def _places(content: Any) -> Any:
    """Yield each container with each of its keys."""
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], (dict, list)):
            yield from _places(content[key])
