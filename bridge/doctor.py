"""What `python -m bridge doctor` knows and says: what was read of a Redis, and findings.

What is read, and how, is in `bridge.doctor_reading` and `bridge.doctor_streams`. It is judged in
`bridge.doctor_server`, `bridge.doctor_rights`, `bridge.doctor_keys` and `bridge.doctor_nautilus`;
the machine that the bridge runs on in `bridge.doctor_host`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from bridge.core.contract import METRICS_KEY
from bridge.core.control import Raw

DAY_MS: Final = 86_400_000
# Younger streams do not tell how fast they grow.
SPAN_MS_MIN: Final = 60_000
# The command that a user may not run; without it a key is refused.
COMMAND: Final = re.compile(r"run the '([^']+)' command")


class Level(StrEnum):
    """How bad it is: `lose` would lose data, `warn` only hurts, `unknown` could not be read."""

    OK = "ok"
    WARN = "warn"
    LOSE = "lose"
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """What was found of one thing, and what to change; `remedy` is empty where it is well.

    `numbers`: those of `what`, for programs; their names end with their units.
    """

    level: Level
    name: str
    what: str
    remedy: str = ""
    numbers: Mapping[str, float] = MappingProxyType({})


class Refused(NamedTuple):
    """Stands for what Redis refused to tell of a key (empty: of no key), and what it said."""

    key: str
    said: str

    def finding(self, name: str) -> Finding:
        """Return that what is called `name` is not known."""
        what = f"it cannot be read: {self.said}"
        if self.said.startswith("WRONGTYPE"):
            remedy = f"RENAME {self.key} {self.key}:old"
            return Finding(Level.WARN, name, f"{self.key} holds what is not ours", remedy)
        if not self.said.startswith("NOPERM"):
            return Finding(Level.UNKNOWN, name, what, "ask again when Redis answers it")
        command = COMMAND.search(self.said)
        right = f"'+{command[1]}'" if command else f"'~{self.key}'"
        return Finding(Level.UNKNOWN, name, what, f"let the user read it: {right}")


def judged[**P](
    name: str, judge: Callable[P, Finding], *args: P.args, **kwargs: P.kwargs
) -> Finding:
    """Return what a judge finds; where it chokes on what Redis answered, that this is not known."""
    try:
        return judge(*args, **kwargs)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"Redis answers what was not expected: {type(error).__name__}: {error}"
        remedy = f"look at what it tells of {name} by redis-cli, and report it: a defect of doctor"
        return Finding(Level.UNKNOWN, name, what, remedy)


class Answer(NamedTuple):
    """What Redis said to a command on a key that was queued and discarded: nothing when it may run.

    `key` is empty for a command without one. `must`: the bridge cannot work without.
    """

    command: tuple[str, ...]
    key: str
    must: bool
    said: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A key where a stream is to be. `type` is what Redis calls it: `stream`, `none` or another.

    `size_bytes` and `added` are None where Redis does not tell. Fields: names of the last entry.
    """

    key: str
    type: str = "none"
    length: int = 0
    size_bytes: int | None = None
    added: int | None = None
    first_ms: int = 0
    last_ms: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    mark_type: str = "none"
    expiring: Mapping[str, int] = field(default_factory=dict)  # ms left, of itself and its marks
    has_bus: bool = False  # Nautilus's own bus wrote one of the entries that were looked at
    rewound: str = ""
    refused: Refused | None = None

    def entries_per_day(self, now_ms: int) -> float | None:
        """Return how fast it grows, from its first entry until now; None: it is too young."""
        span_ms = now_ms - self.first_ms
        if self.length < 2 or span_ms < SPAN_MS_MIN:
            return None
        return self.length * DAY_MS / span_ms

    def bytes_per_day(self, now_ms: int) -> float | None:
        """Return how fast it grows; None where that is not known."""
        daily = self.entries_per_day(now_ms)
        return None if daily is None or self.size_bytes is None else daily * self.entry_bytes

    @property
    def entry_bytes(self) -> float:
        """Bytes an entry, 0 where that is not known."""
        return (self.size_bytes or 0) / self.length if self.length else 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of Redis. `info` and `settings` (CONFIG GET) are empty when refused."""

    info: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    user: str = "default"
    answers: Sequence[Answer] | None = None  # None: it could not be tried
    round_trips_ns: Sequence[int] = ()
    skew_ns: int | None = None  # how far Redis's clock is ahead of ours
    now_ms: int = 0  # by Redis's clock
    scripts_problem: str = ""
    script_ns: int = 0
    values: Mapping[str, Raw | Refused] = field(default_factory=dict)  # of flags, mode and limits
    state: Mapping[str, str] | Refused = field(default_factory=dict)  # bridge:state of the role
    pid_here: int | None = None  # of the process on this host that holds the role's lease
    metrics: Mapping[str, str] | Refused = field(default_factory=dict)
    metrics_key: str = METRICS_KEY
    contract: Raw | Refused = None
    exec_streams: Mapping[str, Stream] = field(default_factory=dict)  # by kind
    market_streams: Sequence[Stream] = ()
    bus_streams: Sequence[Stream] = ()  # of Nautilus's own message bus
    traders: Sequence[str] = ()  # ids of which Nautilus's own cache is here
    is_whole: bool = True  # whether the scan of all keys came to its end
    scan_refused: Refused | None = None

    def unseen(self, name: str, what: str) -> Finding | None:
        """Return that what is called `name` is not known, where not all keys were seen."""
        if self.scan_refused is not None:
            return self.scan_refused.finding(name)
        remedy = "ask again while Redis is less busy; or there are too many keys to look at"
        told = Finding(Level.UNKNOWN, name, f"{what}; not all keys were seen", remedy)
        return None if self.is_whole else told


def size(size_bytes: float) -> str:
    """Return a number of bytes for a person, in the units of Redis's `maxmemory 1mb`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1023.5:
            is_short = unit == "B" or size_bytes >= 9.95
            return f"{size_bytes:.0f} {unit}" if is_short else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.2f} TiB"
