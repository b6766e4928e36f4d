"""`python -m bridge audit`: read journal, Redis, ledger and archive, print the verdict.

The evidence and what it means are in `bridge.audit`.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import redis

from bridge import archive_segments, exits
from bridge.archive_tally import Tally
from bridge.audit import PLACES, Count, Evidence, Key, Row
from bridge.audit_marks import info_of, rewound
from bridge.core import scripts
from bridge.core.contract import EXEC_KINDS
from bridge.history import JournalHistory
from bridge.ledger_view import LedgerView
from bridge.preflight import asked, raw_client_of, refusal_of
from bridge.reader_link import marks_of
from bridge.readers import FAILURES, KINDS, Places
from bridge.reading import Item, item_of

PAGE_ENTRIES: Final = 1_000
POLL_SECONDS: Final = 0.1
COLUMNS: Final = "{:<{}}  {:<{}}  {:>17}" + "  {:>9}" * len(PLACES) + "  {}"
STREAM_WIDTH_MIN: Final = 16
PRODUCER_WIDTH_MIN: Final = 26
WRONG: Final = {
    "gaps": "nowhere",
    "mismatches": "with two contents",
    "doubled": "doubled",
    "unshipped": "not shipped",
    "missing": "missing in Redis",
    "unbooked": "not in the ledger",
    "unarchived": "not in the archive",
}

type Tell = Callable[[str], object]


class Audit:
    """One audit: `run`, then `lines` or `as_dict`, and the exit `code`."""

    def __init__(self, places: Places, *, seconds_max: float, tell: Tell) -> None:
        self.rows: list[Row] = []
        # What is wrong beyond single entries.
        self.problems: list[str] = []
        self.notes: list[str] = []
        # Fills whose fee has no price, by producer: the places agree on them all the same.
        self.unpriced: dict[str, int] = {}
        self._evidence = Evidence({key: kind for kind, key in places.streams.items()})
        self._places = places
        # Readers that have something to show, and what the journal holds: it is to be in Redis.
        self._readers = [name for name in places.kept() if places.path_of(name).exists()]
        self._journal: dict[Key, int] = {}
        # Where an archive differs from journal and Redis, that is told of in any case.
        if "archive" in self._readers:
            self._evidence.kept_by = ("ledger", "archive")
        self._seconds_max = seconds_max
        self._tell = tell

    def run(self) -> None:
        """Read everything. Raises Exit when Redis cannot be asked, OSError, sqlite3.Error."""
        places, evidence = self._places, self._evidence
        if places.journal.exists():
            history = JournalHistory(places.journal)
            self._follow("journal", evidence.begin(history.walk()))
            for path, problem in history.problems.items():
                self.problems.append(f"journal: {path.name}: {problem}")
        self._journal = dict(evidence.ends)
        client = raw_client_of(places.url)
        try:
            self._ask_last_ids(client)
            self._ask_marks(client)
            self._compare_marks(client)
            self._ask_readers()
            self._wait(client)
            self._take("redis", self._walk(client))
        except (redis.RedisError, OSError) as error:
            raise refusal_of(error, places.url) from None
        finally:
            client.close()
        for name, read in (("ledger", self._read_ledger), ("archive", self._read_archive)):
            if name in self._readers:
                read()
            elif name in places.kept():
                self.problems.append(f"{name}: there is none at {places.path_of(name)}")
        self._note_others()
        self.rows = evidence.rows()

    @property
    def code(self) -> int:
        """DONE when all agree, FAILED when not, USAGE when there is nothing to compare with."""
        if len(self._evidence.columns) < 2:
            return exits.USAGE
        agree = all(row.agrees for row in self.rows) and not self.problems
        return exits.DONE if agree else exits.FAILED

    @property
    def verdict(self) -> str:
        """`agree` or `differ`; empty when there is nothing to compare with."""
        return {exits.DONE: "agree", exits.FAILED: "differ"}.get(self.code, "")

    def lines(self) -> Iterator[str]:
        """Yield the report for a person."""
        streams = [self._places.streams[row.kind] for row in self.rows]
        wide = max([STREAM_WIDTH_MIN, *map(len, streams)])
        wider = max([PRODUCER_WIDTH_MIN, *[len(row.producer) for row in self.rows]])
        yield COLUMNS.format("stream", wide, "producer", wider, "numbers", *PLACES, "").rstrip()
        for row, stream in zip(self.rows, streams, strict=True):
            held = ["-" if row.held[place] is None else row.held[place] for place in PLACES]
            yield COLUMNS.format(
                *(stream, wide, row.producer, wider),
                f"{row.first}-{row.last}" if row.first <= row.last else "-",
                *held,
                _judgement(row, self._unpriced(row)),
            ).rstrip()
        yield from self.notes
        for problem in self.problems:
            yield f"WRONG: {problem}"
        match self.code:
            case exits.DONE:
                yield f"{', '.join(self._evidence.columns)}: they agree"
            case exits.USAGE:
                yield "there is neither a journal nor a ledger nor an archive to compare with"
            case _:
                yield f"{', '.join(self._evidence.columns)}: they do NOT agree"

    def complaints(self) -> Iterator[str]:
        """Yield the verdict and what is wrong, in as few lines as it takes."""
        yield [*self.lines()][-1]
        for row in self.rows:
            if not row.agrees:
                yield f"{self._places.streams[row.kind]} of {row.producer}: {_judgement(row, 0)}"
        yield from self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "agree": self.code == exits.DONE,
            "places": list(self._evidence.columns),
            "rows": [
                _row_as_dict(row, self._places.streams) | {"unpriced": self._unpriced(row)}
                for row in self.rows
            ],
            "problems": self.problems,
            "notes": self.notes,
        }

    def _unpriced(self, row: Row) -> int:
        return self.unpriced.get(row.producer, 0) if row.kind == "fills" else 0

    def _take(self, place: str, items: Iterator[Item]) -> None:
        self._follow(place, self._evidence.take(place, items))

    def _follow(self, place: str, counts: Iterator[int]) -> None:
        for count in counts:
            self._tell(f"reading {place}: {count:,} entries")

    def _ask_last_ids(self, client: redis.Redis) -> None:
        """Note how far the streams reach now. Before the marks: these know of all up to there."""
        for kind, key in self._places.streams.items():
            with self._telling(key):
                if info := info_of(client, key):
                    self._evidence.last_ids[kind] = info[b"last-generated-id"].decode()

    def _compare_marks(self, client: redis.Redis) -> None:
        """Tell of streams that are not what their marks were taken from."""
        for key in self._places.streams.values():
            marks: dict[bytes, bytes] = {}
            with self._telling(scripts.mark_key(key)):
                flat = asked(client, "HGETALL", scripts.mark_key(key))
                marks |= itertools.batched(flat, 2)
            with self._telling(key):
                for producer, text in sorted(marks.items()):
                    if not producer.startswith(b"owner:") and (said := rewound(client, key, text)):
                        self.problems.append(f"Redis: {key} {said}")
                        break

    def _ask_marks(self, client: redis.Redis) -> None:
        """Ask Redis how far it was told to be, of every producer, those without journal too."""
        for kind, key in self._places.streams.items():
            with self._telling(scripts.mark_key(key)):
                marks = marks_of(asked(client, "HGETALL", scripts.mark_key(key)))
                self._evidence.marks |= {(kind, name): mark for name, mark in marks.items()}

    def _ask_readers(self) -> None:
        """Ask for all that Redis was told of by now, and that a reader has."""
        lasts = [self._evidence.marks, *[self._lasts(name) for name in self._readers]]
        for key, last in itertools.chain.from_iterable([each.items() for each in lasts]):
            self._evidence.ask(key, last)

    def _wait(self, client: redis.Redis) -> None:
        """Give a bridge that runs the time to bring everywhere what any of them has."""
        deadline = time.monotonic() + self._seconds_max
        while self._is_behind() and time.monotonic() < deadline:
            self._tell("waiting for what is on its way")
            time.sleep(POLL_SECONDS)
            self._ask_marks(client)

    def _is_behind(self) -> bool:
        evidence = self._evidence
        if _lack(evidence.marks, self._journal, EXEC_KINDS):
            return True
        return any(_lack(self._lasts(name), evidence.ends, KINDS[name]) for name in self._readers)

    def _lasts(self, name: str) -> dict[Key, int]:
        """Return the last numbers that a reader has; none where they cannot be read: that is told
        when all of it is."""
        with contextlib.suppress(*FAILURES):
            return {key: spans.last for key, spans in self._places.taken(name).items()}
        return {}

    def _walk(self, client: redis.Redis) -> Iterator[Item]:
        """Yield every entry of the streams, the latest first: what is trimmed meanwhile is the
        oldest. Raises redis.RedisError."""
        for kind, key in self._places.streams.items():
            end = "+"
            with self._telling(key):
                while page := asked(client, "XREVRANGE", key, end, "-", "COUNT", PAGE_ENTRIES):
                    for entry_id, fields in page:
                        yield item_of(kind, entry_id.decode(), fields)
                    end = f"({page[-1][0].decode()}"

    @contextlib.contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        """Tell of a key that holds something else. Raises redis.RedisError for all but that."""
        try:
            yield
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            problem = f"Redis: {key}: {error}"
            if problem not in self.problems:
                self.problems.append(problem)

    def _read_ledger(self) -> None:
        self._tell("reading the ledger")
        view = LedgerView.read_only(self._places.ledger)
        try:
            view.freeze()
            self._evidence.open("ledger")
            try:
                for kind in view.kinds:
                    for entry in view.entries(kind):
                        self._evidence.note("ledger", (kind, entry.producer), *entry[1:])
            except (ArithmeticError, TypeError, ValueError) as error:
                self.problems.append(f"ledger: it holds what no ledger writes: {error}")
            self.unpriced = view.unpriced_by_producer()
            counts = view.counts()
            self.notes.append(
                f"ledger: {counts.fills} fills, {counts.provisional} of them provisional,"
                f" {counts.waiting} wait, {counts.replaced} replaced; fees not priced:"
                f" {counts.unpriced}; not usable: {counts.dead}"
            )
            if counts.own_dead:
                self.problems.append(f"ledger: {counts.own_dead} entries of ours cannot be used")
            self._tell("booking the ledger once more")
            if not view.is_consistent():
                self.problems.append("ledger: its books are not what its fills come to")
        finally:
            view.close()

    def _read_archive(self) -> None:
        directory, tally = self._places.archive, Tally()
        try:
            items = (
                item
                for number in archive_segments.segment_numbers(directory)
                for _, item in archive_segments.read_all(directory, number, tally)
            )
            self._take("archive", items)
            self.notes.append(
                f"archive: {tally.last} records in {tally.segment} segments, the chain is whole;"
                f" head {tally.root.hex()}"
            )
        except archive_segments.Damaged as damaged:
            self.problems.append(f"archive: {damaged}")

    def _note_others(self) -> None:
        evidence = self._evidence
        for (place, kind), count in sorted(evidence.foreign.items()):
            stream = self._places.streams[kind]
            self.notes.append(f"{place}: {count} entries of somebody else's in {stream}")
        for kind, count in evidence.changed_foreign().items():
            if count:
                self.problems.append(
                    f"ledger: {count} entries of somebody else's in {self._places.streams[kind]}"
                    " are not what they were"
                )
        for (kind, producer), spans in sorted(evidence.named.items()):
            stream = self._places.streams.get(kind, kind)
            named = Count(len(spans), next(iter(spans))[0])
            self.notes.append(f"{stream}: {named} of {producer} will never come: it says so itself")
        if evidence.newer:
            self.notes.append(f"{evidence.newer} entries came meanwhile, and were not compared")


def _lack(lasts: Mapping[Key, int], wanted: Mapping[Key, int], kinds: Sequence[str]) -> bool:
    """Return whether something of these kinds is wanted and not reached."""
    return any(lasts.get(key, 0) < last for key, last in wanted.items() if key[0] in kinds)


def _judgement(row: Row, unpriced: int) -> str:
    """Return what is wrong with a row in words, and how many fees have no price."""
    counts = [(words, getattr(row, name)) for name, words in WRONG.items()]
    wrong = [f"{each} {words}" for words, each in counts if each.number]
    return "; ".join((wrong or ["agree"]) + ([f"{unpriced} not priced"] if unpriced else []))


def _row_as_dict(row: Row, streams: Mapping[str, str]) -> dict[str, Any]:
    known: dict[str, Any] = {"stream": streams[row.kind], "producer": row.producer}
    known |= {"first": row.first, "last": row.last, "held": dict(row.held)}
    for name in WRONG:
        count: Count = getattr(row, name)
        known[name] = {"number": count.number, "first": count.first}
    return known


def report(audit: Audit, *, as_json: bool) -> list[str]:
    """Return what to print of an audit that was run."""
    return [json.dumps(audit.as_dict(), indent=2)] if as_json else list(audit.lines())
