"""What is said in notices: of a start and the run before it, of states, of a day's PnL."""

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from bridge import exits, hints
from bridge.core.control import Decision, Halt, State
from bridge.core.fifo import CONTEXT
from bridge.core.notices import DAY_NS, Kind
from bridge.ledger_totals import day_of
from bridge.ledger_view import LedgerView

# What no restart mends: the unit has them in RestartPreventExitStatus.
STAYS_DOWN: Final = (
    exits.BAD_DATA, exits.CANNOT_RECORD, exits.FENCED, exits.REFUSED, exits.CONFIGURATION,
)  # fmt: skip
# So that what stands behind it is sent, too.
REASON_MAX: Final = 1_000
# Of 64 bits, as all times are: until the year 2262.
TIME_NS_MAX: Final = (1 << 63) - 1


class Run(NamedTuple):
    """One run of the bridge; `ended_ns` 0: it runs, or was killed."""

    began_ns: int
    ended_ns: int = 0
    code: int = exits.DONE
    reason: str = ""

    @classmethod
    def of(cls, kept: object) -> "Run | None":
        """Return what `_asdict` gave, None for anything else, or times that are none."""
        if not isinstance(kept, Mapping):
            return None
        match [kept.get(name) for name in cls._fields]:
            case [int(began_ns), int(ended_ns), int(code), str(reason)] if _are_times(
                began_ns, ended_ns
            ):
                return cls(began_ns, ended_ns, code, reason)
        return None


def start(before: Run | None, halt: Halt | None) -> str:
    """Return what to say at the start: how the run before ended, and whether a halt holds."""
    lines = [f"started; {end_of(before)}"]
    if halt is not None:
        lines.append(f"a halt holds since {_time(halt.since_ns)} ({halt.cause}): {halt.reason}")
    return "\n".join(lines)


def failure(code: int, reason: str) -> str:
    """Return what to say of an end that nobody asked for."""
    said = f"ended with exit code {code}: {reason[:REASON_MAX]}"
    if code not in STAYS_DOWN:
        return said
    return f"{said}\nstays down: a person is needed; RUNBOOK, Exit {code}"


def end_of(run: Run | None) -> str:
    if run is None:
        return "nothing is known of a run before"
    if not run.ended_ns:
        return (
            f"the run before, begun {_time(run.began_ns)}, did not end by itself: it was killed, it"
            " crashed, or the machine went down"
        )
    if run.code == exits.DONE:
        return f"the run before was stopped {_time(run.ended_ns)}"
    return f"the run before ended {_time(run.ended_ns)} with exit code {run.code}: {run.reason}"


def decision(now: Decision, was: str) -> tuple[Kind, str] | None:
    """Return what to say of a change of state; None when no halt begins, changes or ends."""
    if now.state is State.HALTED:
        return "breach" if now.cause == "breach" else "halt", f"HALTED ({now.cause}): {now.reason}"
    if was != State.HALTED:
        return None
    because = f" ({now.cause}): {now.reason}" if now.reason else ""
    return "halt", f"the halt has ended: {now.state.value}{because}"


def link(problem: str | None) -> str:
    """Return what to say when Redis cannot be relied on any more, and why; None: it can again."""
    if problem is None:
        return "Redis accepts writes again; the gates follow flag, mode and halt"
    return f"no order leaves any more, open ones follow control.on_disable: {problem}"


def gaps(reader: str, missing: int, before: int) -> str:
    """Return what to say when a reader misses another number of entries than before."""
    if not missing:
        return f"{reader}: the entries that were missing are found ({before})"
    return (
        f"{reader}: entries that are nowhere: {missing} (before: {before}); "
        f"`{hints.command('audit')}` names them"
    )


def summary(ledger: Path, now_ns: int, marked: str | None = None) -> str:
    """Return the realized PnL of the day before, by currency, and the lots that are open.

    `marked`: what that day made with open positions at their marks, None where that is not known.
    Raises Exit, sqlite3.Error.
    """
    day, midnight_ns = day_of(now_ns - DAY_NS), now_ns - now_ns % DAY_NS
    sums: dict[str, list[Decimal]] = {}
    with contextlib.closing(LedgerView.read_only(ledger)) as view:
        view.freeze()
        for total in view.totals():
            if total.day == day:
                known = sums.setdefault(total.ccy, [Decimal(0)] * 3)
                for place, amount in enumerate((total.pnl, total.fees, total.funding)):
                    known[place] = CONTEXT.add(known[place], amount)
        opened_ns = [lot.ts_ns for lot in view.lots()]
        unpriced = view.counts().unpriced
    lines = [f"realized on {day} (UTC):", *[_sum(ccy, *sums[ccy]) for ccy in sorted(sums)]]
    if not sums:
        lines.append("no gain, fee or funding that day")
    if marked is not None:
        lines.append(f"with open positions at their marks, net, in dollars: {marked}")
    since = sum(1 for each in opened_ns if each >= midnight_ns)
    later = f", {since} of them opened since" if since else ""
    lines.append(f"open lots now: {len(opened_ns)}{later}")
    if unpriced:
        lines.append(f"fees without a price, in no sum: {unpriced}")
    return "\n".join(lines)


def _sum(ccy: str, pnl: Decimal, fees: Decimal, funding: Decimal) -> str:
    net = CONTEXT.add(CONTEXT.subtract(pnl, fees), funding)
    return f"{ccy}: net {net:f} = price {pnl:f} - fees {fees:f} + funding {funding:f}"


def _are_times(*all_ns: int) -> bool:
    return all(0 <= ts_ns <= TIME_NS_MAX for ts_ns in all_ns)


def _time(ts_ns: int) -> str:
    if not _are_times(ts_ns):  # of a latch that was damaged
        return "an unknown time"
    return f"{datetime.fromtimestamp(ts_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC"
