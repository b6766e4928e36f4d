"""What a running daemon tells people of: halts, breaches, gaps, Redis, and once a day its PnL."""

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from prometheus_client import Counter

from bridge import notify_words
from bridge.core.control import Decision
from bridge.core.notices import DAY_NS, Kind
from bridge.notify import Notifier
from bridge.readers import Places, Readers

# Counters that rise only when something is wrong: the kind of notice, and what to say.
COUNTERS: Final[dict[str, tuple[Kind, str]]] = {
    "nautilus_bridge_exec_holes_total": (
        "gap",
        "numbers of execution entries bridged, that neither journal nor memory held any more: {}",
    ),
    "nautilus_bridge_reader_dead_total": (
        "gap",
        "entries that the ledger or the archive cannot use, in no book, now in `:dead`: {}",
    ),
    "nautilus_bridge_stop_losses_total": ("breach", "positions closed by their stop loss: {}"),
}
# Market events alone are refused for the other reasons, and each one of an instrument is.
LOSSES: Final = ("full", "broken", "unknown")
LOST: Final = "events that could not become an entry, the log names each execution event: {}"
DAY_PNL: Final = "nautilus_bridge_day_pnl_dollars"


class Alerts:
    """Hands what becomes known to a notifier; never waits."""

    def __init__(self, notifier: Notifier, places: Places, readers: Readers) -> None:
        self._notifier = notifier
        self._places = places
        self._readers = readers
        self._counted = dict.fromkeys(COUNTERS, 0)
        self._lost = 0
        self._gaps = readers.gaps
        self._is_away = False
        # What was made on the days that this process has seen, by their number; the last two.
        self._marked: dict[int, str] = {}

    def on_decision(self, decision: Decision, was: str) -> None:
        """Tell of a halt that begins, changes or ends; `was` is the state before."""
        if said := notify_words.decision(decision, was):
            self._notifier.tell(*said)

    def tick(self, now: Mapping[str, str], away: str | None) -> None:
        """Tell what has become worse, and of the day before when it is time to.

        `now` as `Metrics.snapshot` gives it, `away`: why Redis cannot be relied on, None while it
        can. To be called about once a second.
        """
        self._look_at_link(away)
        today = time.time_ns() // DAY_NS
        self._marked = {day: self._marked[day] for day in self._marked if day == today - 1}
        self._marked[today] = now[DAY_PNL]
        for name, (kind, text) in COUNTERS.items():
            count = int(now[name])
            if new := count - self._counted[name]:
                self._notifier.tell(kind, text.format(new))
            self._counted[name] = count
        lost = sum([_value(self._notifier.metrics.events_refused[each]) for each in LOSSES])
        if new := lost - self._lost:
            self._notifier.tell("gap", LOST.format(new))
        self._lost = lost
        gaps, before = self._readers.gaps, self._gaps
        for reader, missing in gaps.items():
            if missing != before[reader]:
                self._notifier.tell("gap", notify_words.gaps(reader, missing, before[reader]))
        self._gaps = gaps
        self._notifier.tick(self._summary)

    def _look_at_link(self, away: str | None) -> None:
        is_away = away is not None
        if is_away != self._is_away:
            self._is_away = is_away
            # No two are the same trouble: a run that was killed has left its own behind.
            trouble = f"{time.time_ns()}" if is_away else ""
            as_ = None if is_away else ("link", "info")
            self._notifier.tell("link", notify_words.link(away), trouble=trouble, as_=as_)

    def _summary(self) -> str:
        """Return what the daily notice says. Raises Exit, sqlite3.Error."""
        if self._places.reader_of("ledger") == "off":
            return "there is no ledger to tell of: ledger.reader is off"
        now_ns = time.time_ns()
        made = self._marked.get(now_ns // DAY_NS - 1)
        marked = None if made is None else f"{Decimal(made):.2f}"
        said = notify_words.summary(self._places.ledger, now_ns, marked)
        down = self._readers.problem
        return said if down is None else f"{said}\nwhat came last may not be in it: {down}"


def _value(counter: Counter) -> int:
    samples = [each for family in counter.collect() for each in family.samples]
    return sum([int(each.value) for each in samples if each.name.endswith("_total")])
