"""What Redis says -> what may be traded: the table of execution states, and the law of the latch.

The most restrictive rule wins. A halt is latched: it ends only when it was seen to be withdrawn, or
by `resume`; never because Redis forgot it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Final, NamedTuple

from bridge.core.limits import Limits


class State(StrEnum):
    """What may leave for a venue. Cancels always may."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"  # only what brings a position closer to zero
    DISABLED = "DISABLED"  # nothing: the flag is off, or nobody can be asked
    HALTED = "HALTED"  # nothing, until it is ended on purpose


class Mode(StrEnum):
    """What the key `mode` says."""

    HALT = "halt"
    REDUCE = "reduce"
    NORMAL = "normal"
    MISSING = "missing"
    UNKNOWN = "unknown"


class WrongType:
    """Stands for the value of a key that holds no string."""

    def __repr__(self) -> str:
        return "a value of the wrong type"


WRONG_TYPE: Final = WrongType()

type Raw = bytes | WrongType | None

MODE_KEY: Final = "mode"
POSITION_KEY: Final = "risk:max_position:"
SHADOW_FLAG: Final = "features:nautilus_shadow_exec"
LIVE_FLAG: Final = "features:nautilus_live_exec"
FLAGS: Final = ("features:nautilus_engine", SHADOW_FLAG, LIVE_FLAG)
FLAG_OF_ROLE: Final = {"demo": SHADOW_FLAG, "shadow": SHADOW_FLAG, "live": LIVE_FLAG}
ON_WORDS: Final = ("1", "true", "on", "yes")


def flag_of(raw: Raw) -> bool:
    """Return whether a flag is on; missing, garbage and what is no string are off."""
    return isinstance(raw, bytes) and word_of(raw) in ON_WORDS


def mode_of(raw: Raw, normal_words: Collection[str]) -> Mode:
    """Return what `mode` says; `normal_words` let trading go on."""
    if raw is None:
        return Mode.MISSING
    word = word_of(raw)
    if word in (Mode.HALT, Mode.REDUCE):
        return Mode(word)
    return Mode.NORMAL if word in normal_words else Mode.UNKNOWN


STRICTNESS: Final = {Mode.HALT: 2, Mode.REDUCE: 1, Mode.UNKNOWN: 1}


def stricter(mode: Mode, was: Mode) -> Mode:
    """Return `mode`, unless it allows more than `was`."""
    return mode if STRICTNESS.get(mode, 0) >= STRICTNESS.get(was, 0) else was


def word_of(raw: Raw) -> str:
    """Return a value as it is compared: trimmed, case-folded; empty when it is no string."""
    return raw.decode(errors="replace").strip().casefold() if isinstance(raw, bytes) else ""


FRACTIONS: Final = ("stop_loss_pct", "max_drawdown")
# What is larger is a slip of the hand: it would be no limit, and is no number to calculate with.
AMOUNT_MAX: Final = Decimal(10) ** 15
LIMIT_NAMES: Final = (
    "max_order_notional", "max_position", "max_position_total", "max_daily_loss",
    "max_order_rate", *FRACTIONS,
)  # fmt: skip


def limit_keys(symbols: Iterable[str]) -> list[str]:
    """Return the keys of the limits in Redis, those of single symbols among them."""
    names = [f"risk:{name}" for name in LIMIT_NAMES]
    return names + [f"{POSITION_KEY}{symbol}" for symbol in symbols]


def limits_of(read: Mapping[str, Raw], configured: Limits) -> tuple[Limits, list[str]]:
    """Return the limits in force, and the keys whose values are no limits: there the configured
    ones hold."""
    values: dict[str, Decimal] = {}
    positions: dict[str, Decimal] = dict(configured.positions)
    refused = []
    for key, raw in read.items():
        name, symbol = key.removeprefix("risk:"), key.removeprefix(POSITION_KEY)
        number = _number(raw, most=Decimal(1) if name in FRACTIONS else AMOUNT_MAX)
        if number is None:
            if raw is not None:
                refused.append(key)
        elif symbol != key:
            positions[symbol] = number
        else:
            values[name] = number
    return replace(configured, **values, positions=positions), refused


def _number(raw: Raw, *, most: Decimal) -> Decimal | None:
    """Return a number from zero to `most`; None for anything else."""
    if not isinstance(raw, bytes):
        return None
    word = word_of(raw)
    if not word.isascii() or "_" in word:
        return None  # Decimal would take digits of any script, and skip what separates them
    try:
        number = Decimal(word)
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= most else None


class Halt(NamedTuple):
    """A halt that holds. `is_sighted`: a read showed `mode` halt together with this very `id`.

    `is_fresh`: the id was written beside `mode` halt, and no read has shown another mode since. So
    no older copy of Redis has it beside a normal word. To forget this, as the disk does, is safe.
    """

    id: str
    cause: str
    reason: str
    since_ns: int
    is_sighted: bool = False
    is_fresh: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that decides. `link` is why Redis cannot be relied on, None while it can."""

    flag: bool = False
    mode: Mode = Mode.MISSING
    link: str | None = "Redis was not asked yet"
    halt: Halt | None = None


class Decision(NamedTuple):
    """A state, what led to it, in a word and in a sentence."""

    state: State
    cause: str
    reason: str


class Rule(NamedTuple):
    """One row of the table."""

    state: State
    cause: str
    applies: Callable[[Inputs], bool]
    reason: Callable[[Inputs], str]


RULES: Final = (
    Rule(State.HALTED, "latch", lambda i: i.halt is not None, lambda i: _told(i.halt)),
    Rule(State.HALTED, "mode", lambda i: i.mode is Mode.HALT, lambda _: "mode is halt"),
    Rule(State.DISABLED, "link", lambda i: i.link is not None, lambda i: i.link or ""),
    Rule(State.DISABLED, "flag", lambda i: not i.flag, lambda _: "the flag is off"),
    Rule(State.REDUCING, "mode", lambda i: i.mode is Mode.REDUCE, lambda _: "mode is reduce"),
    Rule(
        State.REDUCING,
        "mode",
        lambda i: i.mode is Mode.UNKNOWN,
        lambda _: "mode is no word that is known (control.normal_modes)",
    ),
    Rule(State.ACTIVE, "clear", lambda _: True, lambda _: ""),
)


def decide(inputs: Inputs) -> Decision:
    """Return the first rule that applies; a latched halt tells its own cause."""
    rule = next(rule for rule in RULES if rule.applies(inputs))
    cause = rule.cause if rule.cause != "latch" or inputs.halt is None else inputs.halt.cause
    return Decision(rule.state, cause, rule.reason(inputs))


def _told(halt: Halt | None) -> str:
    return "" if halt is None else halt.reason


class Latch(NamedTuple):
    """What is kept on the disk: the halt that holds, None when none does, and the id of the last
    one that was ended."""

    halt: Halt | None = None
    ended: str = ""


class Sight(NamedTuple):
    """One read of Redis, in this order: `halt_id` of `bridge:latch:<role>` (empty: none), `mode`;
    and what `python -m bridge` asks: `order` to halt, as `<id> <reason>`, id of a halt to end.

    `is_whole`: all was read, in that order, in one go. Else what is not known is left empty, `mode`
    UNKNOWN, and nothing is sighted or ended.
    """

    halt_id: str = ""
    mode: Mode = Mode.MISSING
    order: str = ""
    resume: str = ""
    is_whole: bool = True


KEEP: Final = None
# Between the first id of a halt and what makes a later one of it.
RENEWED: Final = "~"


class Step(NamedTuple):
    """What follows from a read: the latch, and what to write at `bridge:latch:<role>`.

    `put` is an id, empty to delete the key, KEEP to leave it.
    """

    latch: Latch
    put: str | None


def step(latch: Latch, sight: Sight, *, new_id: str, now_ns: int) -> Step:
    """Return what a read makes of the latch. `new_id` names a halt that begins here.

    Nothing is ever ended by what is missing. A normal word ends a halt only when Redis still has
    its id, and a read showed that id together with `mode` halt before: else Redis may have been set
    back behind it. For the same reason the id changes when `mode` becomes halt later than the id
    was written: an older copy of Redis may hold the first one, and a normal word.
    """
    halt, is_halt = latch.halt, sight.mode is Mode.HALT
    id_, _, reason = sight.order.partition(" ")
    if id_ and id_ not in (*_names(latch.ended), *_names(halt.id if halt else "")):
        ordered = Halt(id_, "command", reason, now_ns, is_fresh=is_halt)
        return Step(Latch(ordered, latch.ended), id_)
    if halt is None:
        return _unlatched(latch, sight, new_id, now_ns)
    if not sight.is_whole:
        return Step(latch._replace(halt=halt._replace(is_fresh=halt.is_fresh and is_halt)), KEEP)
    if sight.resume == halt.id and not is_halt:
        return Step(Latch(None, halt.id), "")
    if is_halt and not (halt.is_fresh or halt.is_sighted):
        renewed = f"{_names(halt.id)[-1]}{RENEWED}{new_id}"
        return Step(latch._replace(halt=halt._replace(id=renewed, is_fresh=True)), renewed)
    if sight.halt_id != halt.id:
        unsighted = halt._replace(is_sighted=False, is_fresh=is_halt)
        return Step(latch._replace(halt=unsighted), halt.id)
    if is_halt:
        return Step(latch._replace(halt=halt._replace(is_sighted=True)), KEEP)
    if sight.mode is Mode.NORMAL and halt.is_sighted:
        return Step(Latch(None, halt.id), "")
    return Step(latch._replace(halt=halt._replace(is_fresh=False)), KEEP)


def _unlatched(latch: Latch, sight: Sight, new_id: str, now_ns: int) -> Step:
    if sight.mode is Mode.HALT:
        halt = Halt(new_id, "mode", "mode is halt", now_ns, is_fresh=True)
        return Step(Latch(halt, latch.ended), new_id)
    if not sight.halt_id:
        return Step(latch, KEEP)
    if sight.halt_id in _names(latch.ended):
        return Step(latch, "")
    reason = f"Redis holds the halt {sight.halt_id}, which was set before this folder was made"
    return Step(Latch(Halt(sight.halt_id, "restored", reason, now_ns), latch.ended), KEEP)


def _names(id_: str) -> tuple[str, str]:
    """Return the id of a halt, and the one it began with."""
    return id_, id_.partition(RENEWED)[0]


def latched(latch: Latch, cause: str, reason: str, *, new_id: str, now_ns: int) -> Latch:
    """Return the latch with a halt that begins now; one that holds already stays what it is."""
    if latch.halt is not None:
        return latch
    return latch._replace(halt=Halt(new_id, cause, reason, now_ns))
