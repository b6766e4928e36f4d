"""strategies/basis_carry/legacy.py: when it decides, and what it knows then."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from strategies.basis_carry import legacy
from strategies.basis_carry.legacy import Funding, Instrument, Quote
from strategies.basis_carry.params import BasisCarryParams
from tests.strategies.basis_carry_market import (
    BTC,
    FLAT,
    HELD,
    HOUR,
    MIDNIGHT,
    MINUTE,
    RICH,
    SECOND,
    START,
    basis,
    decision,
    fills,
    pair,
    rate,
    show,
    steps,
    trade,
)

D = Decimal
ROOT = Path(__file__).parents[2]


def trade_stream(stream: Iterator[Quote | Funding]) -> None:
    """Run over an iterator as it is, until a minute after the start."""
    legacy.run(
        stream,
        BTC,
        params=BasisCarryParams(),
        start_ns=START,
        end_ns=START + MINUTE,
    )


def test_it_imports_nothing_but_its_numbers() -> None:
    """The program is independent: of everything installed or written here it loads only params."""
    code = (
        "import sys; before = set(sys.modules); import strategies.basis_carry.legacy;"
        "print(*sorted({m for m in set(sys.modules) - before"
        " if m.partition('.')[0] not in sys.stdlib_module_names}))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert loaded.stdout.split() == [
        "strategies",
        "strategies.basis_carry",
        "strategies.basis_carry.legacy",
        "strategies.basis_carry.params",
    ]


def test_it_decides_at_the_offset_and_every_interval() -> None:
    """Decisions lie at start + offset + k * interval; the last one lies before the end."""
    events = [show(START + second * SECOND) for second in range(100)]

    result = trade(*events, end=START + 35 * SECOND)

    assert result.decisions == 3  # at 5, 15 and 25 s; 35 s is the end


@pytest.mark.parametrize(("late_ns", "number"), [(0, 0), (1, 1)])
def test_a_decision_sees_what_has_its_own_time(late_ns: int, number: int) -> None:
    """A quote at the decision's time is seen, one a nanosecond later waits for the next."""
    result = trade(steps(FLAT), show(decision(0) + late_ns, **RICH))

    assert fills(result)[0][0] == number
    assert result.fills[0].ts == decision(number)


def test_of_equal_times_the_last_row_counts() -> None:
    """Two quotes of an instrument at one time: the later row is the market."""
    first, second = show(decision(0), **RICH), show(decision(0), **basis("6"))
    second[0] = second[0]._replace(ask=100_001)

    result = trade([*first, *second])

    assert result.fills[0].px == D("100.001")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_instruments_of_one_time_may_come_in_any_order(order: tuple[int, ...]) -> None:
    """A rate and both legs' quotes at a decision's time are all seen, however they are sorted."""
    first = [*show(START), *show(START, "ETH", **RICH)]
    events = [rate(decision(0), 0.0001), *show(decision(0))]

    result = legacy.run(
        first + [events[index] for index in order],
        BTC + pair("ETH"),
        params=BasisCarryParams(),
        start_ns=START,
        end_ns=START + HOUR,
    )

    assert [(fill.symbol, fill.reason) for fill in result.fills[::2]][:2] == [
        ("BTC", "high_funding"),
        ("ETH", "rich_basis"),
    ]
    assert result.settlements == []  # nothing was held before that time


@pytest.mark.parametrize("old", [0, 1])
@pytest.mark.parametrize(("age_ns", "decided"), [(30 * SECOND, 1), (30 * SECOND + 1, 0)])
def test_neither_leg_may_be_stale(old: int, age_ns: int, decided: int) -> None:
    """A quote of exactly the greatest age is decided on, one a nanosecond older is not."""
    quotes = show(decision(3), **RICH)
    quotes[old] = quotes[old]._replace(ts=decision(3) - age_ns)

    result = trade(quotes, end=decision(3) + 1)

    assert (result.decisions, len(result.fills)) == (decided, 2 * decided)
    assert result.skipped == Counter(stale_quote=4 - decided)


@pytest.mark.parametrize("missing", [0, 1])
def test_both_legs_must_have_been_quoted(missing: int) -> None:
    """Without a first quote of either leg nothing is decided."""
    quotes = show(decision(0), **RICH)
    del quotes[missing]

    assert trade(quotes, end=decision(0) + 1).skipped == Counter(stale_quote=1)


def test_a_quote_without_size_is_a_quote() -> None:
    """It refreshes the age and sets the mid, though nothing can be traded on it."""
    empty = {"spot_size": "0", "perp_size": "0"}

    result = trade(steps(RICH, None, None, FLAT | empty), end=decision(6))

    assert (result.decisions, result.skipped) == (6, Counter())
    assert result.exits == Counter(basis_reverted=1)
    assert len(result.fills) == 2


GUARDED = [
    (-60 * SECOND, True),
    (-60 * SECOND + 1, False),
    (0, False),
    (60 * SECOND - 1, False),
    (60 * SECOND, True),
]


@pytest.mark.parametrize(("away_ns", "decided"), GUARDED)
def test_no_decision_strictly_within_the_funding_guard(away_ns: int, decided: bool) -> None:
    """At exactly the guard's distance from a settlement it decides, nearer it does not.

    There is no record at that time; before the first one the interval is eight hours.
    """
    ts = MIDNIGHT + 8 * HOUR + away_ns

    result = trade(show(ts), start=ts, end=ts + 1, offset_seconds=0)

    assert (result.decisions, result.skipped["funding_guard"]) == (decided, not decided)


@pytest.mark.parametrize(("hour", "guarded"), [(8, False), (6, True), (4, False), (9, True)])
def test_the_guard_follows_the_interval_published_last(hour: int, guarded: bool) -> None:
    """From its record on, a symbol's funding times are the multiples of its own interval."""
    ts = MIDNIGHT + hour * HOUR
    records = [rate(START, 0.0, hours=1), rate(START + MINUTE, 0.0, hours=3)]

    result = trade(records, [*show(ts), *show(ts, "ETH")], table=BTC + pair("ETH"), end=ts + SECOND,
                   offset_seconds=(ts - START) / SECOND)  # fmt: skip

    eth_guarded = hour == 8  # by the eight hours that hold before its first record
    assert result.skipped == Counter(funding_guard=guarded + eth_guarded)


BRIEF = 5  # s: what is not quoted right before a decision is stale
SPOT_UP = [show(decision(3) - SECOND, spot="100.25")[0]]  # as high as the perp was last seen


def test_a_skipped_decision_does_not_exit() -> None:
    """The spot moves so that the basis is gone, but the perp is stale: nothing happens."""
    events = steps(RICH, None, None, None, HELD)

    result = trade(events, SPOT_UP, max_quote_age_seconds=BRIEF)

    assert (result.decisions, len(result.fills), result.exits) == (2, 2, Counter())


def test_a_skipped_decision_does_not_find_flat() -> None:
    """Sold at number 1, then stale until number 10: only there it is flat and begins to cool."""
    events = steps(RICH, FLAT, *[None] * 8, *[RICH] * 8)

    result = trade(events, max_quote_age_seconds=BRIEF)

    assert result.round_trips[0].flat_ts == decision(10)
    assert [number for number, *_ in fills(result)] == [0, 1, 16]


def test_a_skipped_decision_does_not_arm() -> None:
    """A basis that is down while the perp is stale does not count as seen."""
    events = steps(RICH, basis("25"), basis("25"), None, *[RICH] * 9)
    fresh = [show(decision(3) - SECOND, perp="100.25")[1]]

    result = trade(events, SPOT_UP, max_quote_age_seconds=BRIEF)

    assert [number for number, *_ in fills(result)] == [0, 1]
    result = trade(events, SPOT_UP, fresh, max_quote_age_seconds=BRIEF)
    assert [number for number, *_ in fills(result)] == [0, 1, 8]


def test_fractions_of_a_second_make_a_fast_clock() -> None:
    """For a demo the clock may run by tenths of a second."""
    result = trade(
        show(START, **RICH),
        show(START + 2 * SECOND),
        end=START + 3 * SECOND,
        interval_seconds=0.1,
        offset_seconds=0.05,
    )

    assert result.decisions == 30
    assert [fill.ts - START for fill in result.fills[::2]] == [50_000_000, 2_050_000_000]
    assert result.round_trips[0].flat_ts == START + 2_150_000_000


def test_events_outside_the_run_are_not_read() -> None:
    """Neither a quote nor a rate from before the start counts, and nothing from the end on."""
    early = [rate(START - 1, 1.0), *show(START - 1, **RICH)]
    late = show(START + 30 * SECOND, **RICH)

    result = trade(early, show(START), show(START + 26 * SECOND), late, end=START + 30 * SECOND)

    assert (result.events, result.last_ts, result.fills) == (4, START + 26 * SECOND, [])
    assert result.decisions == 3


def test_it_stops_reading_at_the_end() -> None:
    """A stream may go on for ever: the first event at the end is the last one taken."""
    stream = iter([*show(START), *show(START + MINUTE), *show(START + 2 * MINUTE)])

    trade_stream(stream)

    assert len(list(stream)) == 3


def test_time_does_not_go_back() -> None:
    """Events out of order are refused, not sorted in silence."""
    stream = iter([*show(START + 2), *show(START + 1)])

    with pytest.raises(ValueError, match="goes back in time"):
        trade_stream(stream)


def test_an_unknown_instrument_is_refused() -> None:
    """A quote that belongs to no row of the table is not ignored."""
    with pytest.raises(KeyError, match="XRP-spot"):
        trade([Quote(START, "XRP-spot", 1, 1, 1, 1)])
    with pytest.raises(KeyError, match="XRP"):
        trade([rate(START, 0.0, "XRP")])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (BTC[:1], "not one spot and one perp per symbol: BTC-spot"),
        ([*BTC, BTC[0]._replace(id="BTC-2")], "not one spot and one perp per symbol"),
        (pair(perp={"lot": "0.003"}, spot={"lot": "0.002"}), "BTC: lot 0.003 is not a multiple"),
    ],
)
def test_a_table_that_makes_no_pairs_is_refused(table: list[Instrument], message: str) -> None:
    """Each symbol has one spot and one perp, and one lot is a multiple of the other."""
    with pytest.raises(ValueError, match=message):
        trade(table=table)


def test_an_empty_run_says_so() -> None:
    """Without events there is no last time, no decision and no trade."""
    result = trade(end=START + 15 * SECOND)

    assert (result.events, result.last_ts, result.decisions, result.fills) == (0, None, 0, [])
