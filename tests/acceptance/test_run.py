"""acceptance/events.py and run.py: a dataset as the legacy program reads it, and its result."""

import json
import random
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acceptance import events, golden, record, run
from integrations.binance.dataset import Dataset, Funding, Quotes
from integrations.binance.manifest import DatasetError, Instrument
from strategies.basis_carry import legacy
from strategies.basis_carry.params import BasisCarryParams

D = Decimal
DAY = 86_400 * 10**9
START = 20_270 * DAY  # 2025-07-01
END = START + 3 * DAY
SYMBOLS = ("SOL", "ADA", "BTC", "XRP", "ETH")  # in no order at all
ORDER = ("BTC", "ETH", "SOL", "ADA", "XRP")


def instrument(symbol: str, leg: str) -> Instrument:
    return Instrument(
        f"{symbol}-{leg}", symbol, leg, D("0.01"), D("0.1"), D(5), D("0.001"), symbol, "USDT"
    )


def column(*values: Any) -> Any:
    return np.array(values, dtype=np.int64)


def small(times: Any) -> Dataset:
    """Return a dataset; `times(instrument id, kind)` are the times of its rows."""
    rows = tuple(instrument(symbol, leg) for leg in ("perp", "spot") for symbol in SYMBOLS)

    def quotes(row: Instrument) -> Quotes:
        ts = column(*times(row.id, "quotes"))
        count = np.arange(len(ts))
        return Quotes(ts, 100 + count, 102 + count, 7 + count, 9 + count)

    def funding(row: Instrument) -> Funding:
        ts = column(*times(row.id, "funding"))
        return Funding(ts, 10_000 + np.arange(len(ts)), ts * 0 + 8, ts * 0 + 15_001)

    return Dataset(
        path=Path("/nowhere"),
        start_ns=START,
        end_ns=END,
        instruments=rows,
        quotes={row.id: quotes(row) for row in rows},
        trades={},
        funding={row.id: funding(row) for row in rows if row.leg == "perp"},
        sha256="a" * 64,
    )


def test_events_of_one_time_have_the_order_of_the_spec() -> None:
    """Funding, then spot, then perp; BTC, ETH, SOL, then by the alphabet; then the rows."""
    data = small(lambda name, kind: [START, START] if kind == "quotes" else [START])

    found = list(events.window(data).events())

    assert [e.symbol for e in found[:5] if isinstance(e, legacy.Funding)] == list(ORDER)
    expected = [
        (f"{s}-{leg}", bid) for leg in ("spot", "perp") for s in ORDER for bid in (100, 101)
    ]
    assert [(e.instrument, e.bid) for e in found[5:] if isinstance(e, legacy.Quote)] == expected


def test_events_are_in_order_whatever_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On random times with many ties it is the order of a plain sort, at any chunk size."""
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    data = small(
        lambda name, kind: sorted(START + chance.randrange(25) for _ in range(chance.randrange(40)))
    )

    def key(event: Any) -> tuple[int, int, int]:
        if isinstance(event, legacy.Funding):
            return event.ts, 0, ORDER.index(event.symbol)
        symbol, leg = event.instrument.split("-")
        return event.ts, 1 + (leg == "perp"), ORDER.index(symbol)

    for chunk in (1, 3, 1000):
        monkeypatch.setattr(events, "CHUNK", chunk)
        found = list(events.window(data).events())
        assert found == sorted(found, key=key), seed
        assert len(found) == events.window(data).fed()[0], seed
        for name, quotes in data.quotes.items():
            mine = [e for e in found if isinstance(e, legacy.Quote) and e.instrument == name]
            assert [e.bid for e in mine] == quotes.bid.tolist(), (seed, name)


def test_settlements_between_two_quotes_are_in_order() -> None:
    """Also when no quote parts them, and the later one is of the first symbol."""
    times = {"BTC-perp": [START + 5], "ETH-perp": [START]}
    data = small(lambda name, kind: times.get(name, []) if kind == "funding" else [])

    assert [event.ts for event in events.window(data).events()] == [START, START + 5]


def test_an_event_has_the_values_of_its_row() -> None:
    """Quotes are the file's integers; rate and mark are floats that write as the file's value."""
    data = small(lambda name, kind: [START + 5] if name.startswith("BTC") else [])

    settled, spot, perp = events.window(data).events()

    assert spot == legacy.Quote(START + 5, "BTC-spot", 100, 102, 7, 9)
    assert perp == spot._replace(instrument="BTC-perp")
    assert settled == legacy.Funding(START + 5, "BTC", 0.0001, 8, 150.01)
    assert (D(repr(settled.rate)), D(repr(settled.mark))) == (D("0.0001"), D("150.01"))


def test_every_rate_and_mark_comes_back_exactly() -> None:
    """Of a thousand random values up to fifteen digits, the float's text is the file's value."""
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    rates = [chance.randrange(-(10 ** chance.randrange(1, 9)), 10**8) for _ in range(500)]
    marks = [chance.randrange(1, 10 ** chance.randrange(1, 15)) for _ in range(500)]
    data = small(lambda name, kind: [START] * 500 if name == "BTC-perp" else [])
    funding = replace(data.funding["BTC-perp"], rate=column(*rates), mark=column(*marks))
    changed = replace(data, funding={**data.funding, "BTC-perp": funding})

    found = [e for e in events.window(changed).events() if isinstance(e, legacy.Funding)]

    assert [D(repr(e.rate)) for e in found] == [D(rate).scaleb(-8) for rate in rates], seed
    assert [D(repr(e.mark)) for e in found] == [D(mark).scaleb(-2) for mark in marks], seed


def test_a_window_is_whole_days_with_both_ends() -> None:
    """From midnight of the first to midnight behind the last; what is outside is not fed."""
    times = [START, START + DAY - 1, START + DAY, START + 2 * DAY - 1, START + 2 * DAY]
    data = small(lambda name, kind: times)

    window = events.window(data, ["BTC"], date(2025, 7, 2), date(2025, 7, 2))

    assert (window.start_ns, window.end_ns) == (START + DAY, START + 2 * DAY)
    assert {e.ts for e in window.events()} == set(times[2:4])
    assert window.fed() == (6, times[3])
    assert events.window(data).fed() == (5 * 15, times[4])


def test_an_empty_window_was_fed_nothing() -> None:
    """No event, no last time."""
    window = events.window(small(lambda name, kind: []))

    assert (window.fed(), list(window.events())) == ((0, None), [])


def test_symbols_are_chosen_and_ordered() -> None:
    """Only theirs are fed, in the order of the spec, whichever was named first."""
    data = small(lambda name, kind: [START])

    window = events.window(data, ["XRP", "ETH"])

    assert window.symbols == ("ETH", "XRP")
    assert [row.id for row in window.instruments()] == [
        "ETH-spot", "XRP-spot", "ETH-perp", "XRP-perp",
    ]  # fmt: skip
    assert len(list(window.events())) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["BTC", "DOGE"],), "has no DOGE; it has ADA, BTC, ETH, SOL, XRP"),
        (([], date(2025, 6, 30)), "has 2025-07-01 00:00 to 2025-07-04 00:00, not the window"),
        (([], None, date(2025, 7, 4)), "not the window 2025-07-01 00:00 to 2025-07-05 00:00"),
        (([], date(2025, 7, 3), date(2025, 7, 2)), "not the window 2025-07-03 00:00 to 2025-07-03"),
    ],
)
def test_what_the_dataset_does_not_have_is_refused(arguments: Any, message: str) -> None:
    """The message says what there is."""
    with pytest.raises(DatasetError, match=message):
        events.window(small(lambda name, kind: []), *arguments)


def test_progress_goes_up() -> None:
    """It is told fractions from 0 on, one per part."""
    data = small(lambda name, kind: [START, START + 5])
    seen: list[float] = []

    list(events.window(data).events(seen.append))

    assert seen[0] == 0 and seen == sorted(seen) and all(0 <= each < 1 for each in seen)


def test_a_result_states_all_parameters() -> None:
    """Each number in its one notation, whatever type it has; those left at their default, too."""
    params = {"max_gross": "0.50", "interval_seconds": 5, "entry_basis_bps": 4}

    name, stated = run.named("strategies.basis_carry.port:NautilusBasisCarryStrategy", params)

    assert name == "basis_carry"
    assert stated == run.texts(BasisCarryParams.from_mapping(params))
    assert stated.keys() == set(BasisCarryParams.__dataclass_fields__)
    shown = ("max_gross", "interval_seconds", "entry_basis_bps", "equity", "initial_interval_hours")
    assert [stated[each] for each in shown] == ["0.5", "5", "4", "500000", "8"]
    assert (stated["allow_reverse"], stated["initial_rate"]) == ("false", "0")
    assert stated["entry_funding_annual"] == "0.1"


def test_another_strategy_states_what_it_was_given() -> None:
    """Its defaults are not known here."""
    found = run.named("mine:Grid", {"step": 0.5, "on": True})

    assert found == ("mine:Grid", {"step": "0.5", "on": "True"})


def test_the_week_is_judged_from_its_dataset(week_data: Dataset) -> None:
    """A day of the generated week: what is fed is processed, trades, and agrees with itself."""
    params = BasisCarryParams()

    made = run.legacy(week_data, params, ("BTC",), date(2025, 7, 2), date(2025, 7, 2))

    window = events.window(week_data, ("BTC",), date(2025, 7, 2), date(2025, 7, 2))
    assert made.data == run.fed(window)
    assert (made.run.events, made.run.last_ts) == (made.data.events, made.data.last_ts)
    assert made.run.fills and made.program == "legacy"
    assert made.data.sha256 == week_data.sha256
    assert made.params == run.texts(params)
    assert made.instruments is not None and len(made.instruments) == 2
    content = json.loads(record.dumps(made))
    assert len(content["equity"]) == 1441 and len(content["days"]) == 2


def test_two_runs_have_the_same_bytes(week_data: Dataset) -> None:
    """Nothing in a result depends on when it was made."""
    day = date(2025, 7, 1)

    first, second = (
        run.legacy(week_data, BasisCarryParams(), ("SOL",), day, day) for _ in range(2)
    )

    assert record.sha256(first) == record.sha256(second)


def test_the_whole_week_is_the_pinned_one(week_data: Dataset) -> None:
    """The legacy program on the generated week gives the golden result of the repository."""
    gate = golden.check(run.legacy(week_data, BasisCarryParams()))

    assert gate.passed, gate.why
