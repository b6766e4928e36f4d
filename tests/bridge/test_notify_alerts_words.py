"""What notices say, how many are sent, what waits: all that needs no apprise."""

import json
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import config
from bridge.config import ConfigError
from bridge.core import notices
from bridge.core.control import Decision, Halt, State
from bridge.core.notices import DAY_NS, HOUR_NS, KINDS, MINUTE_NS, Kind, Memory
from bridge.exits import DONE, TAKEN
from bridge.ledger import Ledger
from bridge.ledger_totals import day_of
from bridge.metrics import Metrics
from bridge.notify import MEMORY, RUN, Notifier
from bridge.notify_channel import WAITING_MAX, Notice, Outbox
from bridge.notify_words import Run, decision, gaps, start, summary
from bridge.settings import Config
from tests.bridge.fills import START_NS, STREAMS, fill, funding
from tests.bridge.processes import eventually

BEGAN_NS = 1_760_000_000 * 10**9
HALT = Halt("id", "breach", "max_drawdown: 0.2", BEGAN_NS)


@given(
    pauses=st.lists(st.integers(0, HOUR_NS // 2), max_size=60),
    most=st.integers(1, 5),
    kept=st.sets(st.integers(0, 60)),
)
def test_never_more_than_so_many_within_an_hour(
    pauses: list[int], most: int, kept: set[int]
) -> None:
    """Any of the sent ones and the `most`-th behind it are an hour apart, and those that were left
    out are told exactly once, also when the memory is written down and read again in between."""
    memory, now_ns, sent, told = Memory(), BEGAN_NS, [], 0
    for number, pause in enumerate(pauses):
        now_ns += pause
        if (left_out := memory.admit("gap", now_ns, most)) is not None:
            sent.append(now_ns)
            told += left_out
        if number in kept:
            memory = Memory.of(json.loads(json.dumps(memory.as_dict())))

    assert all(last - first >= HOUR_NS for first, last in zip(sent, sent[most:], strict=False))
    final = memory.admit("gap", now_ns + HOUR_NS, most)
    assert final is not None
    assert len(pauses) == len(sent) + told + final


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_own_limit(kind: Kind) -> None:
    """What was sent of all others does not count."""
    memory = Memory()
    for other in set(KINDS) - {kind}:
        memory.admit(other, BEGAN_NS, 1)

    assert memory.admit(kind, BEGAN_NS, 1) == 0
    assert memory.admit(kind, BEGAN_NS, 1) is None


@pytest.mark.parametrize(
    "kept",
    [
        None,
        [],
        {},
        {"sent": 1},
        {"troubles": {"gap": 1}},
        {"sent": {"gap": [None, "x"]}, "left_out": [], "summary_ns": "x"},
    ],
)
def test_a_memory_that_is_none(kept: object) -> None:
    """What cannot be understood counts as nothing."""
    memory = Memory.of(kept)
    assert (memory.admit("gap", BEGAN_NS, 1), memory.summary_ns) == (0, 0)


@given(st.lists(st.sampled_from(["", "a", "b"]), max_size=40))
def test_an_end_of_what_was_told_is_always_told(troubles: list[str]) -> None:
    """Whatever comes and goes: who was told of a trouble is told of its end, at once, and there
    are no more than twice as many as the limit."""
    memory, told, sent = Memory(), "", 0
    for number, trouble in enumerate(troubles):
        if memory.knows("link", trouble):
            assert trouble == told
            continue
        is_sent = memory.admit("link", BEGAN_NS + number, 3, trouble) is not None
        assert is_sent or not (told and not trouble)
        if is_sent:
            told, sent = trouble, sent + 1
        memory = Memory.of(json.loads(json.dumps(memory.as_dict())))
    assert sent <= 6


def test_a_clock_that_was_set_back() -> None:
    """Times that are still to come keep nothing from being sent."""
    memory = Memory()
    memory.admit("gap", BEGAN_NS, 1)
    assert memory.admit("gap", BEGAN_NS - DAY_NS, 1) == 0


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 1 << 61))
def test_the_last_time_that_it_was_so_late(hours: int, minutes: int, now_ns: int) -> None:
    """It lies within the last day, at that very minute."""
    at_ns = notices.last_time_ns(f"{hours:02}:{minutes:02}", now_ns)

    assert 0 <= now_ns - at_ns < DAY_NS
    assert at_ns % DAY_NS == hours * HOUR_NS + minutes * MINUTE_NS


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (None, "nothing is known of a run before"),
        (Run(BEGAN_NS), "begun 2025-10-09 08:53:20 UTC, did not end by itself"),
        (Run(0, BEGAN_NS), "the run before was stopped 2025-10-09 08:53:20 UTC"),
        (Run(0, BEGAN_NS, TAKEN, "in use"), "2025-10-09 08:53:20 UTC with exit code 73: in use"),
    ],
)
def test_a_start(before: Run | None, said: str) -> None:
    """It says how the run before ended, as it was written down and read again."""
    kept = None if before is None else json.loads(json.dumps(before._asdict()))
    [line] = start(Run.of(kept), None).splitlines()
    assert said in line


def test_a_start_under_a_halt() -> None:
    """It says since when, and why."""
    [_, line] = start(None, HALT).splitlines()
    assert line == "a halt holds since 2025-10-09 08:53:20 UTC (breach): max_drawdown: 0.2"


@pytest.mark.parametrize(
    "kept",
    [
        {},
        [1],
        "x",
        {**Run(1)._asdict(), "code": None},
        Run(10**27)._asdict(),
        Run(-1)._asdict(),
        Run(1, 10**27)._asdict(),
        Run(1, -(10**27))._asdict(),
    ],
)
def test_a_run_that_is_none(kept: object) -> None:
    """What cannot be understood tells of no run."""
    assert Run.of(kept) is None


@pytest.mark.parametrize("kept", ['{"began_ns": 1' + "0" * 27 + "}", "[" * 200_000, "\x00", "7"])
@pytest.mark.parametrize("code", [DONE, TAKEN])
def test_damaged_files_stop_no_bridge(tmp_path: Path, kept: str, code: int) -> None:
    """Whatever they hold, a notifier starts, ticks and ends, and keeps the run."""
    (tmp_path / RUN).write_text(kept.replace("}", ', "ended_ns": 0, "code": 0, "reason": ""}'))
    (tmp_path / MEMORY).write_text(kept)
    notifier = Notifier(Config(), tmp_path, Metrics())
    notifier.start()
    notifier.up(lambda: None)
    notifier.tick(str)
    notifier.end(code, "why")


@pytest.mark.parametrize(
    ("state", "cause", "was", "said"),
    [
        (State.HALTED, "breach", "ACTIVE", ("breach", "HALTED (breach): why")),
        (State.HALTED, "mode", "ACTIVE", ("halt", "HALTED (mode): why")),
        (State.DISABLED, "flag", "HALTED", ("halt", "the halt has ended: DISABLED (flag): why")),
        (State.DISABLED, "link", "ACTIVE", None),
        (State.REDUCING, "mode", "ACTIVE", None),
    ],
)
def test_decisions(state: State, cause: str, was: str, said: tuple[str, str] | None) -> None:
    """Halts are told, when they begin and when they end; nothing else is."""
    assert decision(Decision(state, cause, "why"), was) == said


def test_the_end_of_a_halt() -> None:
    """Nothing is told of a state that needs no reason."""
    assert decision(Decision(State.ACTIVE, "clear", ""), "HALTED") == (
        "halt",
        "the halt has ended: ACTIVE",
    )


def test_a_halt_of_a_damaged_latch() -> None:
    """A time that is none is not told; the halt is."""
    [_, line] = start(None, HALT._replace(since_ns=10**27)).splitlines()
    assert line == "a halt holds since an unknown time (breach): max_drawdown: 0.2"


def test_gaps() -> None:
    """More, fewer and none are told apart by the numbers."""
    said = [gaps("ledger", now, before) for before, now in pairwise([0, 2, 1, 0])]
    assert [each.partition(";")[0] for each in said] == [
        "ledger: entries that are nowhere: 2 (before: 0)",
        "ledger: entries that are nowhere: 1 (before: 2)",
        "ledger: the entries that were missing are found (1)",
    ]


def test_a_summary(tmp_path: Path) -> None:
    """It has the exact sums of the day before by currency, and what is open now."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    next_day = {"ts_ns": str(START_NS + DAY_NS)}
    ledger.take(
        [
            fill(1, qty="3", price="100", fee="0.1"),
            fill(2, side="SELL", qty="1", price="110.000000000001", fee="0.25"),
            fill(3, side="SELL", qty="1", price="500", **next_day),
            fill(4, qty="1", fee="0.5", fee_ccy="XYZ", fee_quote=""),
            funding(1),
            funding(2, ccy="USDC", amount="0.5"),
        ],
        {},
    )
    ledger.close()

    assert summary(tmp_path / "ledger.db", START_NS + DAY_NS).splitlines() == [
        f"realized on {day_of(START_NS)} (UTC):",
        "USDC: net 0.5 = price 0 - fees 0 + funding 0.5",
        "USDT: net 8.150000000001 = price 10.000000000001 - fees 0.35 + funding -1.5",
        "open lots now: 2",
        "fees without a price, in no sum: 1",
    ]


def test_a_summary_of_nothing(tmp_path: Path) -> None:
    """A day without a fill says so."""
    Ledger.open(tmp_path / "ledger.db", STREAMS).close()

    said = summary(tmp_path / "ledger.db", START_NS).splitlines()
    assert said[1:] == ["no gain, fee or funding that day", "open lots now: 0"]


def test_a_summary_of_a_day_before_the_first(tmp_path: Path) -> None:
    """What was opened since that day is told apart; marks are told where they are known."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    ledger.take([fill(1), fill(2)], {})
    ledger.close()

    said = summary(tmp_path / "ledger.db", START_NS + HOUR_NS, "-12.50").splitlines()
    assert said[1:] == [
        "no gain, fee or funding that day",
        "with open positions at their marks, net, in dollars: -12.50",
        "open lots now: 2, 2 of them opened since",
    ]


def test_a_full_queue_drops_the_oldest() -> None:
    """It holds so many; of those that wait the oldest give way."""
    release, dropped, handled = threading.Event(), [], []

    def handle(notice: Notice) -> None:
        handled.append(notice.at_ns)
        release.wait()

    outbox = Outbox("test", handle, lambda notice: dropped.append(notice.at_ns))
    outbox.put(Notice("gap", "", "", 0, ""))
    eventually(lambda: handled, "the first")
    for number in range(1, WAITING_MAX + 4):
        outbox.put(Notice("gap", "", "", number, ""))
    release.set()

    assert outbox.drain(time.monotonic() + 10) == 0
    assert dropped == [1, 2, 3]
    assert handled == [0, *range(4, WAITING_MAX + 4)]


def test_a_word_that_is_no_url() -> None:
    """The settings are refused; what was given may be half a secret and is not repeated."""
    with pytest.raises(ConfigError) as caught:
        config.load(None, environ={"BRIDGE_NOTIFY__URLS": "json://a/5ecret, 5ecret"}, overrides={})

    [problem] = caught.value.problems
    assert "notify.urls: *** is refused: number 2 is no URL" in problem
    assert "5ecret" not in problem
