"""Reads the exec streams for one sink: each entry once, whatever Redis forgets or does again.

What was taken is known by producer and number, so a stream can be read again from its start at any
time: when the entry at which reading stopped is not there any more, the server was flushed, set
back or promoted, or the stream was trimmed or deleted. Numbers that are missing are looked for in
the histories and taken before what follows them.
"""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import redis
import structlog

from bridge.core.spans import Spans
from bridge.dead_letters import DeadLetters
from bridge.reader_link import (
    START,
    ReaderLink,
    entries_of,
    is_error,
    marks_of,
    place_of,
)
from bridge.reader_state import Cursor, Step, Stream, merged
from bridge.reading import Dead, History, Item, Place, Sink, item_of
from bridge.refusals import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN

log = structlog.get_logger("nautilus_bridge.reader")

# Pages grow from a few entries on: nobody knows yet how large those of others are.
FIRST_PAGE_ENTRIES: Final = 16
PAGE_BYTES_MAX: Final = 1 << 22
GAP_SECONDS: Final = 60.0
SEARCH_SECONDS_MAX: Final = 1.0


class Reader:
    """Feeds one sink from one Redis. All in one thread; the numbers may be read from others.

    `streams` are their names by kind, of the sink's kinds at least. `lag` are entries that are
    known to be there and not taken yet, `gaps` numbers that are nowhere, `taken` entries that were
    handed on. `on_step` is called behind each step of `run` that Redis answered. `on_buried` is
    told what was published to `<stream>:dead`, once all of that which waited is there. `elsewhere`
    gives the last numbers, by (kind, producer), that a history has of producers of whom Redis may
    tell nothing any more; it is asked when the reading begins.
    """

    def __init__(
        self,
        url: str,
        sink: Sink,
        streams: Mapping[str, str],
        histories: Sequence[History] = (),
        *,
        batch_entries_max: int = 256,
    ) -> None:
        self.sink = sink
        self.on_step: Callable[[], object] = _nothing
        self.on_buried: Callable[[Sequence[Dead]], object] = _nothing
        self.elsewhere: Callable[[], Mapping[tuple[str, str], int]] = dict
        self.lag = self.gaps = self.taken = 0
        self._keys = {kind: streams[kind] for kind in sink.kinds}
        self._link = ReaderLink(url, sink.name)
        self._letters = DeadLetters(self._link, sink.name, self._keys)
        self._histories = histories
        self._batch_entries_max = batch_entries_max
        self._streams: list[Stream] = []
        self._cursors: dict[tuple[str, str], Cursor] = {}
        self._told: dict[tuple[str, str], Spans] = {}
        self._search_at = 0.0
        self._searched = ("", "", 0)

    def run(self, stopped: threading.Event, linger_seconds: float = 0.1) -> None:
        """Read until `stopped`; waits for Redis as long as that takes. Raises what `step` raises
        of the sink and the histories.
        """
        seconds = 0.0
        try:
            while not stopped.is_set():
                try:
                    self.step()
                    self.on_step()
                    seconds = 0.0
                except redis.RedisError as error:
                    self._link.on_down(error)
                    seconds = min(max(2 * seconds, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX)
                if seconds or not self.is_due:
                    stopped.wait(seconds or linger_seconds)
        finally:
            self.close()

    def step(self) -> int:
        """Read a page of each stream and hand it on; return how many entries were taken.

        Raises redis.RedisError when Redis cannot be asked, OSError and sqlite3.Error of the sink
        and the histories. Nothing is lost by that: the next step goes on behind what was taken.
        """
        before = self.taken
        try:
            if not self._streams:
                self._load()
            answers = self._link.ask([each.question for each in self._streams], 2)
            step = Step()
            for stream, marks, page in zip(self._streams, answers[::2], answers[1::2], strict=True):
                self._read(stream, marks, page, step)
            self._take(merged(step.items), step.places)
            for kind, producer, first, last in step.missing:
                self._fill(kind, producer, first, last)
            if self._histories and time.monotonic() >= self._search_at:
                self._search_again()
        except BaseException:
            self._streams = []  # what the sink has taken is asked anew
            raise
        self._count()
        if buried := self._letters.publish():
            self.on_buried(buried)
        return self.taken - before

    @property
    def is_due(self) -> bool:
        """Whether the next step will find something, as far as is known."""
        return not self._streams or any(stream.is_due for stream in self._streams)

    @property
    def problem(self) -> str | None:
        """What keeps entries from being read, None when nothing does."""
        return self._link.problem or next(
            (each.problem for each in self._streams if each.problem), None
        )

    @property
    def dead(self) -> int:
        """How many entries the sink could not use."""
        return self._letters.count

    def bury(self, dead: Iterable[Dead]) -> None:
        """Have entries published to `<stream>:dead` when Redis takes them."""
        self._letters.add(dead)

    def close(self) -> None:
        """Hang up; the next step connects again."""
        self._link.close()

    # What was taken.

    def _load(self) -> None:
        """Begin with what the sink says."""
        places, taken = self.sink.places, self.sink.taken
        size = min(FIRST_PAGE_ENTRIES, self._batch_entries_max)
        self._streams = [
            Stream(kind, key, places.get(kind, START), size) for kind, key in self._keys.items()
        ]
        self._cursors = {
            key: Cursor(spans.last) for key, spans in taken.items() if key[0] in self._keys
        }
        self._search_at = 0.0

    def _cursor(self, kind: str, producer: str) -> Cursor:
        cursor = self._cursors.get((kind, producer))
        if cursor is None:
            cursor = self._cursors[kind, producer] = Cursor(0)
        return cursor

    def _count(self) -> None:
        taken = self.sink.taken
        self.gaps = sum(
            [
                cursor.last - len(taken[key]) if key in taken else cursor.last
                for key, cursor in self._cursors.items()
            ]
        )
        self.lag = sum(
            [
                max(0, mark - self._cursor(stream.kind, producer).last)
                for stream in self._streams
                for producer, mark in stream.marks.items()
            ]
        )

    # A page of a stream.

    def _read(self, stream: Stream, marks: Any, page: Any, step: Step) -> None:
        """Have a step take what is new in a page.

        The marks were asked first: an entry of theirs that the page should show was trimmed.
        """
        if not self._is_whole(stream, marks, page):
            return
        stream.marks = marks_of(marks)
        entries = entries_of(page)
        if stream.place.id != START.id:
            if not entries or place_of(entries[0]) != stream.place:
                self._begin_again(stream)
                return
            del entries[0]
        is_full = len(entries) == stream.entries_max
        if is_full:
            self._resize(stream, entries)
        items, is_cut = self._new(stream, entries, step)
        if stream.is_again and (foreign := [each for each in items if not each.producer]):
            new = {each.id for each in self.sink.new_ones(foreign)}
            items = [each for each in items if each.producer or each.id in new]
        step.items += items
        stream.is_due = is_full or is_cut
        was_again = stream.is_again
        if not stream.is_due:
            # An empty stream may get back what it had.
            stream.is_again = was_again and stream.place.id == START.id
            for producer, mark in stream.marks.items():
                self._miss(stream.kind, producer, mark, step)
        # Until a stream is read through again, what was read before is told by its former place.
        if not stream.is_again and (entries or was_again):
            step.places[stream.kind] = stream.place

    def _new(self, stream: Stream, entries: list[Any], step: Step) -> tuple[list[Item], bool]:
        """Return what was not taken yet, and whether that ends before numbers to be looked for.

        Moves the place behind it.
        """
        kind, items = stream.kind, []
        taken, is_cut, read = self.sink.taken, False, 0
        for entry_id, fields in entries:
            item = item_of(kind, entry_id.decode(), fields)
            if item.producer:
                cursor, seq = self._cursor(kind, item.producer), item.seq
                if seq > cursor.last:
                    if seq > cursor.last + 1 and self._miss(kind, item.producer, seq - 1, step):
                        is_cut = True
                        break
                    cursor.last = seq
                elif seq in taken.get((kind, item.producer), ()) or seq in cursor.fresh:
                    read += 1
                    continue
                cursor.fresh.add(seq)
            read += 1
            items.append(item)
        del entries[read:]
        if entries:
            stream.place = place_of(entries[-1])
        return items, is_cut

    def _miss(self, kind: str, producer: str, last: int, step: Step) -> bool:
        """Note that numbers up to `last` are missing; whether they can be looked for."""
        cursor = self._cursor(kind, producer)
        if last <= cursor.last:
            return False
        if not self._histories:
            self._tell_gap(kind, producer, cursor.last + 1, last)
            cursor.last = last
            return False
        step.missing.append((kind, producer, cursor.last + 1, last))
        return True

    def _is_whole(self, stream: Stream, *answers: Any) -> bool:
        """Return whether Redis answered; what it refuses is told once."""
        errors = [str(each) for each in answers if is_error(each)]
        problem = f"{stream.key}: {errors[0]}" if errors else ""
        if problem and problem != stream.problem:
            log.error("reader.refused", sink=self.sink.name, problem=problem)
        elif stream.problem and not problem:
            log.info("reader.resumed", sink=self.sink.name, stream=stream.key)
        stream.problem = problem
        stream.is_due = stream.is_due and not problem
        return not problem

    def _begin_again(self, stream: Stream) -> None:
        log.warning(
            "reader.again",
            sink=self.sink.name,
            stream=stream.key,
            why="the entry at which reading stopped is not there any more",
            place=stream.place.id,
        )
        stream.place, stream.is_again, stream.is_due = START, True, True

    def _resize(self, stream: Stream, entries: list[Any]) -> None:
        """Ask for more next time, or for less when entries are large."""
        size = sum([len(b"".join(fields)) for _, fields in entries]) or 1
        fitting = PAGE_BYTES_MAX * max(1, len(entries)) // size
        wanted = min(2 * stream.entries_max, self._batch_entries_max, fitting)
        stream.entries_max = max(1, wanted)

    # What is handed on.

    def _take(self, items: list[Item], places: Mapping[str, Place]) -> None:
        if items or places:
            dead = self.sink.take(items, places)
            self.taken += len(items)
            self._letters.on_dead(dead)
        for cursor in self._cursors.values():
            if cursor.fresh:
                cursor.fresh = Spans()

    def _fill(self, kind: str, producer: str, first: int, last: int) -> None:
        """Take what the histories have of these numbers; the rest is a gap."""
        sources = [each.find(kind, producer, first, last) for each in self._histories]
        items: list[Item] = []
        found, wanted = 0, first
        for item in heapq.merge(*sources, key=attrgetter("seq")):
            if item.seq < wanted:
                continue  # several have it
            if item.seq > wanted:
                self._tell_gap(kind, producer, wanted, item.seq - 1)
            wanted = item.seq + 1
            items.append(item)
            if len(items) == self._batch_entries_max:
                found += len(items)
                self._take(items, {})
                items = []
        self._take(items, {})
        found += len(items)
        if wanted <= last:
            self._tell_gap(kind, producer, wanted, last)
        cursor = self._cursor(kind, producer)
        cursor.last = max(cursor.last, last)
        if found:
            names = {"stream": self._keys[kind], "producer": producer}
            log.info("reader.filled", sink=self.sink.name, **names, entries=found)

    def _search_again(self) -> None:
        """Look once more for what is missing: a history may have it by now.

        After a second the next step goes on with the rest.
        """
        if not self._search_at:
            for key, last in self.elsewhere().items():
                if key[0] in self._keys and key not in self._cursors:
                    self._cursors[key] = Cursor(last)
            self._search_at = time.monotonic()
            self._searched = ("", "", 0)
        deadline = time.monotonic() + SEARCH_SECONDS_MAX
        for kind, producer in sorted(self._cursors):
            taken = self.sink.taken.get((kind, producer), Spans())
            for first, last in taken.holes(self._cursor(kind, producer).last):
                if (kind, producer, last) <= self._searched:
                    continue
                self._fill(kind, producer, first, last)
                self._searched = (kind, producer, last)
                if time.monotonic() > deadline:
                    return
        self._searched = ("", "", 0)
        self._search_at = time.monotonic() + GAP_SECONDS

    def _tell_gap(self, kind: str, producer: str, first: int, last: int) -> None:
        told = self._told.setdefault((kind, producer), Spans())
        if first in told and last in told:
            return
        told.add(first, last)
        log.error(
            "reader.gap",
            sink=self.sink.name,
            stream=self._keys[kind],
            producer=producer,
            first=first,
            last=last,
            remedy="they are nowhere any more; what comes after all is taken",
        )


def _nothing(*_: object) -> None:
    """Tell nobody."""
