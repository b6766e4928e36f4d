"""bridge/core/control.py: what Redis says, whatever it says, and what may be traded then."""

import dataclasses
import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import control
from bridge.core.control import (
    AMOUNT_MAX,
    FLAG_OF_ROLE,
    FLAGS,
    LIMIT_NAMES,
    WRONG_TYPE,
    Decision,
    Halt,
    Inputs,
    Mode,
    Raw,
    State,
    decide,
    flag_of,
    limits_of,
    mode_of,
    word_of,
)
from bridge.core.limits import Limits

BREACH = Halt("h1", "breach", "max_daily_loss: 2 lost", 1)
SIGHTED = Halt("h2", "mode", "mode was halt", 1, is_sighted=True)
COMBINATIONS = list(
    itertools.product((False, True), Mode, (None, "it died"), (None, BREACH, SIGHTED))
)
NORMAL_WORDS = ("normal", "auto", "run", "live", "failover")
OFF = (
    None, WRONG_TYPE, b"", b" ", b"0", b"false", b"off", b"no", b"2", b"11", b"01", b"1 1", b"1.0",
    b"y", b"enabled", b"yes!", b"1\x00", b"\xff", b"1\xff", b"\xfe1", b'"1"', b"true\xc3",
)  # fmt: skip
NO_LIMITS = (
    b"1_000",
    "\uff11".encode(),
    WRONG_TYPE, b"", b" ", b"-1", b"-0.1", b"nan", b"NaN", b"snan", b"-nan", b"inf", b"-Infinity",
    b"1e999999", b"1e16", b"1000000000000001", b"ten", b"5 USD", b"1,5", b"0x10", b"\xff", b"1\xff",
    b"none", b'"5"', b"5\x00",
)  # fmt: skip
CONFIGURED = Limits(
    max_order_notional=Decimal(1),
    max_position=Decimal(2),
    max_position_total=Decimal(3),
    max_daily_loss=Decimal(4),
    max_order_rate=Decimal(5),
    stop_loss_pct=Decimal("0.6"),
    max_drawdown=Decimal("0.7"),
    positions={"ETHUSDT": Decimal(8)},
)


def expected(flag: bool, mode: Mode, link: str | None, halt: Halt | None) -> tuple[State, str]:
    """Return the state and its cause, by the table of the design."""
    if halt is not None:
        return State.HALTED, halt.cause
    if mode is Mode.HALT:
        return State.HALTED, "mode"
    if link is not None:
        return State.DISABLED, "link"
    if flag is False:
        return State.DISABLED, "flag"
    if mode is Mode.REDUCE or mode is Mode.UNKNOWN:
        return State.REDUCING, "mode"
    return State.ACTIVE, "clear"


@pytest.mark.parametrize(
    ("flag", "mode", "link", "halt"),
    COMBINATIONS,
)
def test_every_combination(flag: bool, mode: Mode, link: str | None, halt: Halt | None) -> None:
    """The most restrictive rule wins, and its cause is told."""
    decision = decide(Inputs(flag, mode, link, halt))
    assert decision[:2] == expected(flag, mode, link, halt)
    assert bool(decision.reason) is (decision.state is not State.ACTIVE)


def test_few_combinations_are_open() -> None:
    """Of all 60 combinations, two let everything pass, and two more what reduces."""
    states = [decide(Inputs(*each)).state for each in COMBINATIONS]
    assert len(states) == 60
    assert states.count(State.ACTIVE) == 2
    assert states.count(State.REDUCING) == 2


def test_closed_by_default() -> None:
    """Before anything is known, nothing may leave; nor with everything known but Redis's word."""
    assert decide(Inputs()) == Decision(State.DISABLED, "link", "Redis was not asked yet")
    assert decide(Inputs(flag=True, mode=Mode.NORMAL)).state is State.DISABLED
    assert decide(Inputs(link=None)) == Decision(State.DISABLED, "flag", "the flag is off")


def test_a_halt_tells_its_own_reason() -> None:
    """The reason is that of the latched halt, also while `mode` is halt and Redis is away."""
    decision = decide(Inputs(False, Mode.HALT, "it died", BREACH))
    assert decision == Decision(State.HALTED, "breach", "max_daily_loss: 2 lost")


def test_every_role_has_a_flag() -> None:
    """Each role is gated by a flag that the table knows; only live by the live one."""
    assert set(FLAG_OF_ROLE.values()) <= set(FLAGS)
    assert [role for role, flag in FLAG_OF_ROLE.items() if "live" in flag] == ["live"]


@pytest.mark.parametrize(
    "raw", [b"1", b"true", b"on", b"yes", b" 1\n", b"TRUE", b"\tOn ", b"Yes\r\n"]
)
def test_flags_that_are_on(raw: bytes) -> None:
    """The four words are on, trimmed and case-folded."""
    assert flag_of(raw)


@pytest.mark.parametrize("raw", OFF)
def test_flags_that_are_off(raw: Raw) -> None:
    """Anything else is off: missing, garbage, of the wrong type, bytes that are no UTF-8."""
    assert not flag_of(raw)


@pytest.mark.parametrize(
    ("raw", "mode"),
    [
        (None, Mode.MISSING),
        (WRONG_TYPE, Mode.UNKNOWN),
        (b"halt", Mode.HALT),
        (b" HALT\r\n", Mode.HALT),
        (b"Reduce", Mode.REDUCE),
        *[(word.encode(), Mode.NORMAL) for word in NORMAL_WORDS],
        (b"\tFailOver ", Mode.NORMAL),
        # The names of the other two modes are no words.
        *[(raw, Mode.UNKNOWN) for raw in (b"missing", b"unknown", b"", b" ", b"halted", b"stop")],
        *[(raw, Mode.UNKNOWN) for raw in (b"\xff", b"halt\xff", b"normal\x00", b'"normal"', b"1")],
    ],
)
def test_modes(raw: Raw, mode: Mode) -> None:
    """A missing mode is normal; what is no known word is unknown, never normal."""
    assert mode_of(raw, NORMAL_WORDS) is mode


def test_normal_words_are_a_setting() -> None:
    """Only the words that are configured are normal; halt and reduce keep their meaning."""
    assert mode_of(b"normal", ("go",)) is Mode.UNKNOWN
    assert mode_of(b"GO", ("go",)) is Mode.NORMAL
    assert mode_of(b"halt", ("halt", "reduce")) is Mode.HALT


@given(raw=st.binary(max_size=12))
def test_any_bytes(raw: bytes) -> None:
    """Any bytes have a meaning; words are compared trimmed and case-folded."""
    word = raw.decode(errors="replace").strip().casefold()
    assert word_of(raw) == word
    assert flag_of(raw) is (word in {"1", "true", "on", "yes"})
    known = {"halt": Mode.HALT, "reduce": Mode.REDUCE} | dict.fromkeys(NORMAL_WORDS, Mode.NORMAL)
    assert mode_of(raw, NORMAL_WORDS) is known.get(word, Mode.UNKNOWN)


def test_limits_from_redis() -> None:
    """Each key that is read changes its limit, that of one symbol only its own."""
    keys = control.limit_keys(["BTCUSDT", "ETHUSDT"])
    assert len(keys) == len(set(keys)) == len(LIMIT_NAMES) + 2
    read: dict[str, Raw] = dict.fromkeys(keys)
    assert limits_of(read, CONFIGURED) == (CONFIGURED, [])
    for number, name in enumerate(LIMIT_NAMES):
        text = f"0.{number}5"
        limits, refused = limits_of(read | {f"risk:{name}": f" {text}\n".encode()}, CONFIGURED)
        assert refused == []
        assert limits == dataclasses.replace(CONFIGURED, **{name: Decimal(text)})


def test_positions_by_symbol() -> None:
    """A symbol's own limit comes from Redis, else from the configuration, else is the general one.

    Symbols keep their case."""
    read: dict[str, Raw] = {"risk:max_position:BTCUSDT": b"9", "risk:max_position:SOLUSDT": None}
    limits, refused = limits_of(read, CONFIGURED)
    assert refused == []
    found = [limits.position_of(each) for each in ("BTCUSDT", "btcusdt", "ETHUSDT", "SOLUSDT")]
    assert found == [Decimal(9), Decimal(2), Decimal(8), Decimal(2)]
    assert CONFIGURED.positions == {"ETHUSDT": Decimal(8)}


@pytest.mark.parametrize("name", [*LIMIT_NAMES, "max_position:ETHUSDT"])
@pytest.mark.parametrize("raw", NO_LIMITS)
def test_what_is_no_limit(name: str, raw: Raw) -> None:
    """For garbage, negative, endless or absurdly large numbers the configured value holds, and the
    key is told."""
    assert limits_of({f"risk:{name}": raw}, CONFIGURED) == (CONFIGURED, [f"risk:{name}"])


@pytest.mark.parametrize("name", ["stop_loss_pct", "max_drawdown"])
def test_fractions(name: str) -> None:
    """A fraction is at most 1: who writes 5 for 5 % gets the configured one."""
    for raw, number in ((b"0", Decimal(0)), (b"1", Decimal(1)), (b"5e-2", Decimal("0.05"))):
        limits, refused = limits_of({f"risk:{name}": raw}, CONFIGURED)
        assert (getattr(limits, name), refused) == (number, [])
    for raw in (b"5", b"1.0000001", b"100"):
        assert limits_of({f"risk:{name}": raw}, CONFIGURED) == (CONFIGURED, [f"risk:{name}"])


@pytest.mark.parametrize("name", sorted(set(LIMIT_NAMES) - {"stop_loss_pct", "max_drawdown"}))
def test_amounts(name: str) -> None:
    """An amount is any number from 0, which lets nothing pass, up to the largest one."""
    for raw in (b"0", b"1e15", b"1E+3", b"0.000000000000000000000000000001"):
        limits, refused = limits_of({f"risk:{name}": raw}, CONFIGURED)
        assert (getattr(limits, name), refused) == (Decimal(raw.decode()), [])


@given(read=st.dictionaries(st.sampled_from(control.limit_keys(["A"])), st.binary(max_size=8)))
def test_limits_are_never_unlimited(read: dict[str, Raw]) -> None:
    """Whatever Redis holds, each limit is finite and not negative, or the configured one."""
    limits, refused = limits_of(read, CONFIGURED)
    values = dataclasses.asdict(limits)
    positions = values.pop("positions")
    for number in (*values.values(), *positions.values()):
        assert number.is_finite() and 0 <= number <= AMOUNT_MAX
    assert max(limits.stop_loss_pct, limits.max_drawdown) <= 1
    for key in refused:
        name = key.removeprefix("risk:")
        if name in LIMIT_NAMES:
            assert getattr(limits, name) == getattr(CONFIGURED, name)
        else:
            assert limits.position_of("A") == limits.max_position
