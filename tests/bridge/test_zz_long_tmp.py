"""Whatever is done to a journal, in any order: nothing is lost, doubled or numbered twice."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.journal import Limits
from tests.bridge.journals import held, killed, opened, put, records_of

KINDS = ("orders", "fills")
SHARES = st.sampled_from((0.0, 0.4, 0.9, 1.0))
LIMITS = Limits(segment_bytes=8192, retain_ns=0)


class Life(RuleBasedStateMachine):
    """A journal through its life. `owed` is what has to be there, by its unique payload."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="journal-life-"))
        self.directory = self.root / "0"
        self.producer_id = "A"
        self.journal = opened(self.directory, "A", LIMITS)
        self.owed: set[bytes] = set()
        # What Redis has, and under which number.
        self.shipped: dict[bytes, tuple[str, str, int]] = {}
        # What stands for each number, ever.
        self.given: dict[tuple[str, str, int], bytes] = {}
        self.entries = 0

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.root)

    def _reopen(self) -> None:
        self.journal = opened(self.directory, self.producer_id, LIMITS)

    # What a bridge does.

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 8), size=st.integers(20, 900))
    def append(self, kind: str, count: int, size: int) -> None:
        for _ in range(count):
            self.entries += 1
            payload = f"{self.entries:{size}}".encode()
            put(self.journal, payload, kind)
            self.owed.add(payload)

    @rule()
    def sync(self) -> None:
        self.journal.sync()

    @rule()
    def make_reserve(self) -> None:
        self.journal.make_reserve()

    @rule()
    def claim(self) -> None:
        self.journal.claim()
        self.journal.sync()

    @rule(share=SHARES)
    def ship(self, share: float) -> None:
        """Redis takes the oldest part of all there is, once it is durable; that part may go."""
        if not self.journal.is_claimed:
            self.journal.claim()
        self.journal.sync()
        for kind in KINDS:
            stream = held(self.journal, kind)
            for chapter in self.journal.chapters(kind):
                mark = self._mark(chapter.producer, kind)
                mark = max(mark, int(chapter.last * share))
                self.journal.acknowledge(chapter.producer, kind, mark)
                for seq, payload in stream.get(chapter.producer, {}).items():
                    if seq <= mark:
                        self.shipped.setdefault(payload, (chapter.producer, kind, seq))
                        self.owed.discard(payload)
        self.journal.tidy()

    @rule(share=SHARES)
    def renumber(self, share: float) -> None:
        """Redis has what was shipped, a part of the rest, and somebody else's numbers behind it."""
        producer = self.journal.producer
        verified = {}
        for kind in KINDS:
            mark = self._mark(producer, kind)
            verified[kind] = mark = max(mark, int(self.journal.seqs[kind] * share))
            for seq, payload in held(self.journal, kind).get(producer, {}).items():
                if seq <= mark:
                    self.owed.discard(payload)
        self.journal.renumber(verified, self.journal.head.incarnation + 1)

    def _mark(self, producer: str, kind: str) -> int:
        """Return the last number that Redis has."""
        shipped = self.shipped.values()
        return max([seq for *name, seq in shipped if name == [producer, kind]], default=0)

    # What befalls it.

    @rule()
    def close(self) -> None:
        self.journal.close()
        self._reopen()

    @rule()
    def kill(self) -> None:
        killed(self.journal)
        self._reopen()

    @rule(cut=st.integers(1, 3000))
    def cut_off(self, cut: int) -> None:
        """The power fails: a part of what was written last and not synced never got to the disk."""
        segment, synced = self.journal.segments[-1], self.journal.synced
        was_claimed = self.journal.is_claimed
        killed(self.journal)
        records = records_of(segment.path)
        starts = [segment.start, *[each.end for each in records]]
        lost = [number for number, each in enumerate(records) if each.jseq > synced]
        if lost:
            end = max(starts[-1] - cut, starts[lost[0]])
            os.truncate(segment.path, end)
            gone = {each.payload for each in records if each.end > end}
            self.owed -= gone
            if end in starts or not was_claimed:  # nothing is torn, or it was never sent
                self.given = {key: held for key, held in self.given.items() if held not in gone}
        self._reopen()

    @rule(producer_id=st.sampled_from(("A", "B")))
    def rename(self, producer_id: str) -> None:
        self.journal.close()
        self.producer_id = producer_id
        self._reopen()

    @rule()
    def move(self) -> None:
        self.journal.close()
        self.directory = self.directory.rename(self.root / f"{self.entries}-{os.urandom(4).hex()}")
        self._reopen()

    @rule()
    def copy(self) -> None:
        self.journal.close()
        there = self.root / f"{self.entries}-{os.urandom(4).hex()}"
        shutil.copytree(self.directory, there)
        self.directory = there
        self._reopen()

    # What has to hold.

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        found: Counter[bytes] = Counter()
        for kind in KINDS:
            stream = held(self.journal, kind)
            in_order = [each for numbered in stream.values() for each in numbered.values()]
            assert in_order == sorted(in_order, key=int)
            found.update(in_order)
            for producer, numbered in stream.items():
                for seq, payload in numbered.items():
                    key = (producer, kind, seq)
                    assert self.given.setdefault(key, payload) == payload
                    assert self.shipped.get(payload, key) == key
        assert not self.owed - set(found)
        assert max(found.values(), default=1) == 1


Life.TestCase.settings = settings(
    max_examples=300, stateful_step_count=40, print_blob=False, database=None, deadline=None
)
TestLife = Life.TestCase
