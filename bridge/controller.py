"""What Redis, the disk and the limits say -> the gates; what was done -> exec:control.

The gate comes first: closed at once, before the latch is written, before anybody is told. Then the
sweep, and when every order has ended the account of it. Runs on the loop of whoever trades.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from bridge import endpoints, exits
from bridge.core import contract, control
from bridge.core.contract import STREAMS
from bridge.core.control import (
    FLAG_OF_ROLE,
    KEEP,
    MODE_KEY,
    Decision,
    Inputs,
    Mode,
    Raw,
    Sight,
    State,
)
from bridge.core.lanes import CannotRecord, ExecLane
from bridge.endpoints import Cluster
from bridge.exits import Exit
from bridge.latch import LatchFile, new_id
from bridge.settings import Config
from bridge.source import Action, Source

if TYPE_CHECKING:  # `python -m bridge status` needs the keys of this module only
    from bridge.metrics import Metrics

log = structlog.get_logger("nautilus_bridge.control")


# A state that is older than this has nobody behind it: the key is gone by then.
STATE_SECONDS_MAX: Final = 3.0
TEXT_MAX: Final = 300
WORD_MAX: Final = 32


class Keys(NamedTuple):
    """The keys of one role: `halt` and `resume` are where `python -m bridge` asks.

    On a Cluster the latch shares a slot with `mode`: a failover that sets the one back sets the
    other back as well. Else a halt that is forgotten would look like one that was ended.
    """

    flag: str
    latch: str
    halt: str
    resume: str
    state: str

    @classmethod
    def of(cls, role: str, url: str | None = None) -> "Keys":
        """Return the keys of a role; `url`: of the Redis that is meant, None for the embedded."""
        keys = cls(FLAG_OF_ROLE[role], *[f"bridge:{name}:{role}" for name in cls._fields[1:]])
        if url is None or not isinstance(endpoints.parse(url), Cluster):
            return keys
        return keys._replace(latch=f"{keys.latch}{{{MODE_KEY}}}")

    @property
    def reads(self) -> tuple[str, ...]:
        """What is read, the latch before the mode: see `control.step`."""
        return (*self.stops, self.resume)

    @property
    def stops(self) -> tuple[str, ...]:
        """Those that may stop trading, each of which has to be known for it to go on."""
        return (self.latch, MODE_KEY, self.flag, self.halt)


class Controller:
    """Decides for one source. `take` what was read, `link` how Redis stands; then write `puts`
    and `fields` to Redis. `on_change` tells that the fields have changed in between, `on_decision`
    of each decision behind the first, and which state was before it.

    `executes`: the source was built with something to trade through.
    """

    def __init__(
        self,
        config: Config,
        latch: LatchFile,
        lane: ExecLane,
        metrics: "Metrics",
        source: Source,
        *,
        executes: bool,
    ) -> None:
        self.keys = Keys.of(config.role, config.redis.secret_url)
        self.on_change: Callable[[], None] = _nothing
        self.on_decision: Callable[[Decision, str], None] = _to_nobody
        self.market_problem: Callable[[], str | None] = _nothing
        # What is still to be written: commands, oldest first, and whether the fields have changed.
        self.puts: list[tuple[str, ...]] = []
        self.is_dirty = True
        self.known = asyncio.Event()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._config = config
        self._role = config.role
        self._file = latch
        self._latch = latch.load()
        self._lane = lane
        self._metrics = metrics
        self._source = source
        self._executes = executes
        self._limits_read: Mapping[str, Raw] | None = None
        self._mode_raw: Raw = None
        self._inputs = Inputs(halt=self._latch.halt)
        self._decision: Decision | None = None
        self._began_ns = self._gate_ns = 0
        self._halting: asyncio.Task[None] | None = None
        self._flattens = False
        self._told: dict[str, str] = {}
        source.on_breach = self.breach
        self._decide()

    # What comes in.

    def take(self, read: Mapping[str, Raw]) -> None:
        """Act on one read of Redis: the keys of `Keys.reads`, and behind them the limits."""
        keys = self.keys
        self._mode_raw = read[MODE_KEY]
        mode = control.mode_of(self._mode_raw, self._config.control.normal_modes)
        flag = control.flag_of(read[keys.flag])
        asked = {key: _text(read[key]) for key in (keys.halt, keys.resume)}
        sight = Sight(_text(read[keys.latch]), mode, asked[keys.halt], asked[keys.resume])
        self._see(sight, read, flag=flag, mode=mode)
        self.puts += [("DEL", key) for key, said in asked.items() if said]
        self._check_restart(flag=flag)

    def take_part(self, read: Mapping[str, Raw]) -> None:
        """Act on what is stricter in a read of which Redis has refused some keys: nothing is
        allowed by it, nothing ended. Limits that are missing stay what they are."""
        keys, was = self.keys, self._inputs
        seen, mode = Mode.UNKNOWN, was.mode
        if MODE_KEY in read:
            seen = control.mode_of(read[MODE_KEY], self._config.control.normal_modes)
            mode = control.stricter(seen, was.mode)
            self._mode_raw = read[MODE_KEY] if mode is seen else self._mode_raw
        flag = was.flag and (keys.flag not in read or control.flag_of(read[keys.flag]))
        order = _text(read.get(keys.halt))
        sight = Sight(_text(read.get(keys.latch)), seen, order, is_whole=False)
        self._see(sight, read, flag=flag, mode=mode)
        if order:
            self.puts.append(("DEL", keys.halt))

    def _see(self, sight: Sight, read: Mapping[str, Raw], *, flag: bool, mode: Mode) -> None:
        step = control.step(self._latch, sight, new_id=new_id(), now_ns=time.time_ns())
        was, self._latch = self._latch, step.latch
        limits = {key: raw for key, raw in read.items() if key.startswith("risk:")}
        self._limit({**(self._limits_read or {}), **limits})
        # The gate first; a limit may just have been broken.
        self._change(flag=flag, mode=mode, halt=self._latch.halt)
        if self._flattens and not flag:
            self._begin_halting()
        if self._latch != was:
            self._store()
        if step.put is not KEEP:
            key = self.keys.latch
            self.puts.append(("SET", key, step.put) if step.put else ("DEL", key))

    def _limit(self, read: Mapping[str, Raw]) -> None:
        if read == self._limits_read:
            return
        self._limits_read = read
        limits, refused = control.limits_of(read, self._config.limits_in_force)
        for key in refused:
            log.error(
                "control.limit_refused",
                key=key,
                value=repr(read[key]),
                effect="the configured value holds",
            )
        self._source.limit(limits)

    def link(self, problem: str | None) -> None:
        """Take note that Redis cannot be relied on, and why; None: it can."""
        if problem != self._inputs.link:
            self._change(link=problem)
        if problem is None:
            self.known.set()

    def breach(self, reason: str) -> None:
        """Halt, because a limit is broken."""
        now_ns = time.time_ns()
        latch = control.latched(self._latch, "breach", reason, new_id=new_id(), now_ns=now_ns)
        if latch != self._latch:
            self._latch = latch
            self._change(halt=latch.halt)
            self._store()
            self.on_change()

    def configure(self, config: Config) -> None:
        """Decide by other settings from now on: the limits, `halt_action`, `on_disable` and
        `normal_modes` of theirs."""
        self._config = config
        read, self._limits_read = self._limits_read, None
        if read is not None:
            self._limit(read)

    # What comes of it.

    def _change(self, **inputs: Any) -> None:
        before = self._inputs
        self._inputs = replace(before, **inputs)
        if self._inputs != before:
            self.is_dirty = True
            self._decide()
            self._metrics.control_flag.set(self._inputs.flag)
            self._metrics.control_latched.set(self._inputs.halt is not None)

    def _decide(self) -> None:
        decision, was = control.decide(self._inputs), self._decision
        if decision == was:
            return
        self._began_ns = time.monotonic_ns()
        self._source.apply(decision.state, decision.reason)
        self._gate_ns = time.time_ns()
        self._decision = decision
        self._mirror(decision)
        if decision.state is State.HALTED:
            self._metrics.halt_gate_seconds.set((time.monotonic_ns() - self._began_ns) / 1e9)
        was_state = "" if was is None else was.state.value
        said = {"state": decision.state.value, "was": was_state}
        log.warning("control.state", **said, cause=decision.cause, reason=decision.reason)
        if was is not None and was[:2] == decision[:2]:
            self._told["reason"] = decision.reason  # the same, for another reason of its kind
            return
        self._tell(decision, was_state, {"gate_ns": str(self._gate_ns)})
        self._begin_halting()
        self.on_decision(decision, was_state)

    def _begin_halting(self) -> None:
        """Have the source do what the state asks of it."""
        if self._halting is not None:
            self._halting.cancel()
            self._halting = None
        assert self._decision is not None
        action, remark = self._action(self._decision.state)
        self._flattens = action == "flatten"
        if action is not None:
            decision = self._decision._replace(reason=self._decision.reason + remark)
            self._halting = asyncio.get_running_loop().create_task(self._halt(decision, action))

    def _action(self, state: State) -> tuple[Action | None, str]:
        """Return what a state asks of the source, and a remark on what it cannot do."""
        settings = self._config.control
        if state is State.HALTED:
            if settings.halt_action == "cancel":
                return "cancel", ""
            return ("flatten", "") if self._inputs.flag else ("cancel", "; not flattened: flag off")
        if state is State.DISABLED and settings.on_disable == "cancel":
            return "cancel", ""
        return ("reduce" if state is State.REDUCING else None), ""

    async def _halt(self, decision: Decision, action: Action) -> None:
        """Have it done, however long it takes, and give account of it."""
        began_ns, gate_ns = self._began_ns, self._gate_ns
        try:
            account = await self._source.halt(action)
        except Exception as error:  # noqa: BLE001 - a halt that fails must not fail in silence
            self._fail(error)
            return
        self._flattens = False
        if decision.state is State.HALTED:
            self._metrics.halt_done_seconds.set((time.monotonic_ns() - began_ns) / 1e9)
        numbers = {name: str(number) for name, number in account._asdict().items()}
        numbers |= {"gate_ns": str(gate_ns), "done_ns": str(time.time_ns())}
        log.warning("control.done", state=decision.state.value, **account._asdict())
        self._tell(decision, decision.state.value, numbers)
        self.is_dirty = True
        self.on_change()

    def _tell(self, decision: Decision, was: str, numbers: Mapping[str, str]) -> None:
        values = dict.fromkeys(STREAMS["control"].names, "") | {
            "state": decision.state.value,
            "was": was,
            "cause": decision.cause,
            "reason": decision.reason,
            "scope": self._role,
            "ts_ns": str(time.time_ns()),
        }
        self._told = values | dict(numbers)
        try:
            self._lane.append_always(contract.entry("control", self._told))
        except CannotRecord as error:  # the journal has told it already
            log.critical("control.not_recorded", problem=str(error))

    def _store(self) -> None:
        try:
            self._file.store(self._latch)
        except OSError as error:  # it holds in memory, and in Redis
            log.critical("latch.not_written", problem=str(error))

    def _check_restart(self, *, flag: bool) -> None:
        """A process that began without the flag has nothing to trade through."""
        if flag and not self._executes:
            self._fail(Exit(exits.RESTART, f"{self.keys.flag} is on now: start again to trade"))

    def _fail(self, error: Exception) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)

    def _mirror(self, decision: Decision) -> None:
        for state, gauge in self._metrics.control_state.items():
            gauge.set(state == decision.state.value)

    # What is told.

    @property
    def decision(self) -> Decision:
        """The decision in force."""
        assert self._decision is not None
        return self._decision

    @property
    def link_problem(self) -> str | None:
        """Why Redis cannot be relied on any more; None while it can, or was not asked yet."""
        return self._inputs.link if self.known.is_set() else None

    def fields(self) -> Iterator[str]:
        """Yield the names and values of the hash `bridge:state:<role>`, in turn."""
        halt = self._latch.halt
        more = {
            "flag": "1" if self._inputs.flag else "0",
            "mode": control.word_of(self._mode_raw)[:WORD_MAX] or self._inputs.mode.value,
            "latched": "" if halt is None else halt.id,
            "market_problem": self.market_problem() or "",
            "pid": str(os.getpid()),
            "heartbeat_ns": str(time.time_ns()),
        }
        for name, value in (self._told | more).items():
            yield name
            yield value


def _text(raw: Raw) -> str:
    """Return what somebody wrote as it can be shown and kept: short, and printable."""
    if not isinstance(raw, bytes):
        return ""
    text = raw[: 4 * TEXT_MAX].decode(errors="replace")[:TEXT_MAX]
    return "".join([each if each.isprintable() else " " for each in text]).strip()


def _nothing() -> None:
    """Nobody writes."""


def _to_nobody(_: Decision, __: str) -> None:
    """Nobody is told."""
