"""The ledger's books as the ops page shows them: what they hold, and whether they are up to date.

Who feeds them may be another process that has died, or may have failed: then they stand still, and
look no other than books of a quiet hour.
"""

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from bridge.core import contract
from bridge.readers import Places
from bridge.status import holdings
from bridge.status.holdings import POSITIONS_MAX, Holdings
from bridge.status.recent import Recent

# What was told for so long is to be booked.
LATE_SECONDS: Final = 5.0
# Older ones are those of the last page that looked on: prices of now do not go with them.
OLD_SECONDS: Final = 60.0
POSITION: Final = ("account", "venue", "symbol", "side", "qty", "avg_px", "realized_pnl")


class Look(NamedTuple):
    """What the last look came to: `held` at `read_ns`, None before the first; why they cannot be
    read now, empty when they can; whether they lack what was told long ago."""

    held: Holdings | None = None
    read_ns: int | None = None
    problem: str = ""
    is_late: bool = False


class Books:
    """`look` reads them, in a thread; the rest tells what it found. `recent` knows what they are
    to have."""

    def __init__(self, places: Places, recent: Recent) -> None:
        self._reader = places.reader_of("ledger")
        self._ledger = places.ledger
        self._recent = recent
        self._last = Look()
        # The fills that were told when the books last had all that they were to have by then.
        self._wanted: Mapping[str, int] = {}
        self._wanted_at = time.monotonic()

    def look(self) -> None:
        """Read the ledger, and see whether it has what it is to have by now."""
        if self._reader == "off":
            return
        told, now, now_ns = self._recent.fills_told(), time.monotonic(), time.time_ns()
        try:
            held = holdings.read(self._ledger, now_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, the page is to tell
            is_late = self._last.held is not None and now - self._wanted_at > LATE_SECONDS
            problem = str(error) or type(error).__name__
            self._last = self._last._replace(problem=problem, is_late=is_late)
            return
        if not held.behind(self._wanted):
            self._wanted, self._wanted_at = told, now
        self._last = Look(held, now_ns, "", now - self._wanted_at > LATE_SECONDS)

    @property
    def behind(self) -> int | None:
        """How many fills were told that were not booked yet; None: that is not known."""
        held = self._last.held
        return None if held is None else held.behind(self._recent.fills_told())

    def document(self) -> dict[str, Any]:
        """Return who feeds them, when they were read, and how far they are."""
        held, read_ns, problem, is_late = self._last
        return {
            "reader": self._reader,
            "read_ns": read_ns,
            "booked_ns": None if held is None else held.booked_ns,
            "behind": self.behind,
            "late": is_late,
            "problem": problem,
            "positions_total": len(self._recent.positions) if held is None else held.total,
        }

    def day(self) -> list[dict[str, str]] | None:
        """Return what was realized today; None: it is not known."""
        held = self._last.held
        return None if held is None else holdings.day(held)

    def instruments(self) -> set[tuple[str, str]]:
        """Return what to ask prices of: (venue, symbol). None of books that are out of date: what
        closing them would bring is not known."""
        held, read_ns, _, is_late = self._last
        is_old = read_ns is not None and time.time_ns() - read_ns > OLD_SECONDS * 10**9
        return set() if held is None or is_late or is_old else {each[1:3] for each in held.open}

    def positions(self, marks: holdings.Marks) -> list[dict[str, Any]]:
        """Return what they hold; without them, what the node has told since it runs."""
        held = self._last.held
        if held is not None:
            return holdings.positions(held, marks)
        newest = [*self._recent.positions.values()][:POSITIONS_MAX]
        told = [contract.to_dict("positions", each) for each in newest]
        currencies = self._currencies()
        return [
            {name: each[name] for name in POSITION}
            | {"ccy": currencies.get((each["venue"], each["symbol"]), "")}
            | {"unrealized_pnl": "", "lots_total": 0, "lots": []}
            for each in told
        ]

    def _currencies(self) -> dict[tuple[str, str], str]:
        """Return in what a symbol settles, by (venue, symbol), as far as the last fills tell."""
        taken = [values for kind, values in [*self._recent.trades] if kind == "fills"]
        fills = [contract.to_dict("fills", each) for each in taken]
        return {
            (each["venue"], each["symbol"]): each[
                "base_ccy" if each["inverse"] == "1" else "quote_ccy"
            ]
            for each in fills
        }
