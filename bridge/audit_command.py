"""`python -m bridge audit`: read journal, Redis, ledger and archive, print the verdict.

The evidence and what it means are in `bridge.audit`.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import redis

from bridge import archive_segments, exits
from bridge.audit import PLACES, Count, Evidence, Row
from bridge.core import scripts
from bridge.core.contract import EXEC_KINDS
from bridge.history import JournalHistory
from bridge.ledger_view import LedgerView
from bridge.preflight import asked, raw_client_of, refusal_of
from bridge.readers import FAILURES, KINDS, Places
from bridge.reading import Item, item_of

PAGE_ENTRIES: Final = 1_000
POLL_SECONDS: Final = 0.1
COLUMNS: Final = "{:<16}  {:<26}  {:>17}" + "  {:>9}" * len(PLACES) + "  {}"
WRONG: Final = {
    "gaps": "nowhere",
    "mismatches": "with two contents",
    "doubled": "doubled",
    "unshipped": "not shipped",
    "missing": "missing in Redis",
    "unbooked": "not in the ledger",
    "unarchived": "not in the archive",
}

type Tell = Callable[[str], None]


class Audit:
    """One audit: `run`, then `lines` or `as_dict`, and the exit `code`."""

    def __init__(self, places: Places, *, seconds_max: float, tell: Tell) -> None:
        self.rows: list[Row] = []
        # What is wrong beyond single entries.
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._evidence = Evidence()
        self._places = places
        self._kinds = {key: kind for kind, key in places.streams.items()}
        self._seconds_max = seconds_max
        self._tell = tell

    def run(self) -> None:
        """Read everything. Raises Exit when Redis cannot be asked, OSError, sqlite3.Error."""
        places, evidence = self._places, self._evidence
        if places.journal.exists():
            self._tell("reading the journal")
            history = JournalHistory(places.journal)
            evidence.begin(history.walk())
            for path, problem in history.problems.items():
                self.problems.append(f"journal: {path.name}: {problem}")
        client = raw_client_of(places.url)
        try:
            self._ask_marks(client)
            self._wait(client)
            self._take("redis", self._walk(client))
        except (redis.RedisError, OSError) as error:
            raise refusal_of(error, places.url) from None
        finally:
            client.close()
        self._read_ledger()
        self._read_archive()
        self.rows = evidence.rows()

    @property
    def code(self) -> int:
        """DONE when all agree, FAILED when not, USAGE when there is nothing to compare with."""
        if len(self._evidence.columns) < 2:
            return exits.USAGE
        agree = all(row.agrees for row in self.rows) and not self.problems
        return exits.DONE if agree else exits.FAILED

    def lines(self) -> Iterator[str]:
        """Yield the report for a person."""
        yield COLUMNS.format("stream", "producer", "numbers", *PLACES, "")
        for row in self.rows:
            held = ["-" if row.held[place] is None else row.held[place] for place in PLACES]
            yield COLUMNS.format(
                self._places.streams[row.kind],
                row.producer,
                f"{row.first}-{row.last}",
                *held,
                _judgement(row),
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

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "agree": self.code == exits.DONE,
            "places": list(self._evidence.columns),
            "rows": [_row_as_dict(row, self._places.streams) for row in self.rows],
            "problems": self.problems,
            "notes": self.notes,
        }

    def _take(self, place: str, items: Iterator[Item]) -> None:
        for count in self._evidence.take(place, items, self._kinds):
            self._tell(f"reading {place}: {count:,} entries")

    def _ask_marks(self, client: redis.Redis) -> None:
        """Ask Redis how far it was told to be, of every producer, those without journal too."""
        for kind, key in self._places.streams.items():
            words = asked(client, "HGETALL", scripts.mark_key(key))
            for name, text in itertools.batched(words, 2):
                if not name.startswith(b"owner:"):
                    mark = int(text.split(b" ")[0])
                    found = kind, name.decode(errors="replace")
                    self._evidence.marks[found] = mark
                    self._evidence.ask(found, mark)

    def _wait(self, client: redis.Redis) -> None:
        """Give a bridge that runs the time to bring everywhere what the journal holds."""
        deadline = time.monotonic() + self._seconds_max
        while self._is_behind() and time.monotonic() < deadline:
            self._tell("waiting for what is on its way")
            time.sleep(POLL_SECONDS)
            self._ask_marks(client)

    def _is_behind(self) -> bool:
        evidence, places = self._evidence, self._places
        known = [(EXEC_KINDS, evidence.marks)]
        for name in places.kept():
            with contextlib.suppress(*FAILURES):  # told when it is read
                taken = places.taken(name)
                known.append((KINDS[name], {key: spans.last for key, spans in taken.items()}))
        return any(
            lasts.get(key, 0) < last
            for kinds, lasts in known
            for key, last in evidence.ends.items()
            if key[0] in kinds
        )

    def _walk(self, client: redis.Redis) -> Iterator[Item]:
        """Yield every entry of the streams. Raises redis.RedisError."""
        for kind, key in self._places.streams.items():
            start = "-"
            try:
                while page := asked(client, "XRANGE", key, start, "+", "COUNT", PAGE_ENTRIES):
                    for entry_id, fields in page:
                        yield item_of(kind, entry_id.decode(), fields)
                    start = f"({page[-1][0].decode()}"
            except redis.exceptions.ResponseError as error:
                self.problems.append(f"Redis: {key}: {error}")

    def _read_ledger(self) -> None:
        if "ledger" not in self._places.kept():
            return
        self._tell("reading the ledger")
        view = LedgerView.read_only(self._places.ledger)
        try:
            view.freeze()
            self._evidence.open("ledger")
            for kind in view.kinds:
                for producer, seq, digest in view.digests(kind):
                    self._evidence.note("ledger", (kind, producer), seq, digest)
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
        directory = self._places.archive
        if "archive" not in self._places.kept():
            return
        try:
            items = (
                item_of(record.kind, record.id, record.fields)
                for record in archive_segments.records(directory)
            )
            self._take("archive", items)
            tally = archive_segments.cursors(directory)
            self.notes.append(
                f"archive: {tally.last} records in {tally.segment} segments, the chain is whole;"
                f" head {tally.root.hex()}"
            )
        except archive_segments.Damaged as damaged:
            self.problems.append(f"archive: {damaged}")


def _judgement(row: Row) -> str:
    """Return what is wrong with a row in words."""
    counts = [(words, getattr(row, name)) for name, words in WRONG.items()]
    return "; ".join([f"{each} {words}" for words, each in counts if each.number]) or "agree"


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
