"""`journal --repair`: damage is cut out, what is lost by it is named, and nothing else is."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import exits
from bridge.core.contract import EXEC_KINDS
from bridge.exits import Exit
from bridge.journal import Limits
from bridge.journal_reader import Reader
from bridge.repair import repair
from bridge.segments import Damaged, Segment
from tests.bridge.journals import (
    flip,
    held,
    killed,
    last_segment,
    opened,
    put,
    put_many,
    records_of,
)
from tests.bridge.processes import ROOT

ALWAYS = Limits(fsync="always", segment_bytes=16_384)
FLIPS = st.lists(st.integers(0, 39), min_size=1, max_size=4, unique=True)


def _journal(directory: Path, *, is_sealed: bool) -> tuple[Path, str]:
    """Make one of 40 entries, of two streams in turn; return its segment and its producer."""
    journal = opened(directory, limits=ALWAYS)
    for number in range(40):
        put(journal, bytes([number]) * 50, EXEC_KINDS[number % 2])
    producer = journal.producer
    if is_sealed:
        journal.close()
    else:
        killed(journal)
    return last_segment(directory), producer


def _damage(path: Path, *numbers: int) -> None:
    """Change a byte in the payload of these records, counted from 0."""
    ends = [each.end for each in records_of(path)]
    for number in numbers:
        flip(path, ends[number] - 1)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(damaged=FLIPS, is_sealed=st.booleans())
def test_loses_the_damaged_only(
    tmp_path_factory: pytest.TempPathFactory, damaged: list[int], is_sealed: bool
) -> None:
    """Every record but the damaged ones is there afterwards, and the file is whole and sealed."""
    path, _ = _journal(tmp_path_factory.mktemp("journal"), is_sealed=is_sealed)
    before = records_of(path)
    _damage(path, *damaged)
    repair(path)
    after = Segment.load(path)
    assert after.is_sealed
    wanted = [each for number, each in enumerate(before) if number not in damaged]
    assert [each[:-1] for each in after.records()] == [each[:-1] for each in wanted]


def test_the_last_record_ends_in_zeros(tmp_path: Path) -> None:
    """A record that ends like the room behind it, which was never written, is kept whole."""
    journal = opened(tmp_path, limits=ALWAYS)
    put(journal, b"damaged")
    put(journal, b"whole" + bytes(9))
    killed(journal)
    path = last_segment(tmp_path)
    _damage(path, 0)
    repair(path)
    assert [each.payload for each in records_of(path)] == [b"whole" + bytes(9)]


def test_names_every_lost_number(tmp_path: Path) -> None:
    """All numbers that are lost are told, of every stream, when damage is in several places."""
    path, _ = _journal(tmp_path, is_sealed=True)
    sizes = [each.end for each in records_of(path)]
    _damage(path, 4, 10, 11, 12, 20)
    loss = repair(path)
    assert loss.bytes == 5 * (sizes[1] - sizes[0])
    assert loss.numbers == {"orders": [(3, 3), (6, 7), (11, 11)], "fills": [(6, 6)]}
    assert not loss.is_open


def test_names_the_last_number(tmp_path: Path) -> None:
    """The last entry of a sealed segment is told as lost too: the trailer knows its number."""
    path, _ = _journal(tmp_path, is_sealed=True)
    _damage(path, 39)
    assert repair(path).numbers == {"fills": [(20, 20)]}


def test_cannot_know_the_last_number(tmp_path: Path) -> None:
    """Of an open segment it says that more may have stood behind the last whole record."""
    path, _ = _journal(tmp_path, is_sealed=False)
    _damage(path, 5)
    loss = repair(path)
    assert (loss.numbers, loss.is_open) == ({"fills": [(3, 3)]}, True)


def test_keeps_the_damaged_files(tmp_path: Path) -> None:
    """The damaged file stays beside the repaired one, as it was; a second one too."""
    path, _ = _journal(tmp_path, is_sealed=True)
    damaged = []
    for number in (5, 10):
        _damage(path, number)
        damaged.append(path.read_bytes())
        repair(path)
    kept = [each.read_bytes() for each in tmp_path.iterdir() if ".damaged" in each.name]
    assert sorted(kept) == sorted(damaged)


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize("damaged", [5, 38, 39])
def test_no_number_is_given_again(tmp_path: Path, damaged: int, is_sealed: bool) -> None:
    """What a repair has lost, Redis may have: its number is not given again under that name."""
    path, producer = _journal(tmp_path, is_sealed=is_sealed)
    _damage(path, damaged)
    if damaged == 39 and not is_sealed:
        pytest.skip("nothing tells that the last record of an open segment was durable")
    repair(path)
    journal = opened(tmp_path)
    seqs = {kind: put(journal, b"new", kind) for kind in ("orders", "fills")}
    assert journal.producer != producer or seqs == {"orders": 21, "fills": 21}
    journal.close()


def test_the_reader_passes_the_hole(tmp_path: Path) -> None:
    """After a repair a reader yields what lies before the hole, and then what lies behind it."""
    journal = opened(tmp_path, limits=ALWAYS)
    journal.claim()  # else nothing had been sent, and all would be numbered again
    put_many(journal, 20)
    producer = journal.producer
    killed(journal)
    path = last_segment(tmp_path)
    _damage(path, 11)
    repair(path)
    journal = opened(tmp_path)
    reader = Reader(journal, producer, "orders")
    before = reader.read(1, 100, None)
    behind = reader.read(11, 100, None)
    assert [each.seq for each in before] == list(range(1, 11))
    assert [each.seq for each in behind] == list(range(12, 21))
    journal.close()


def test_the_journal_names_the_place_and_the_command(tmp_path: Path) -> None:
    """Until then it opens with 65 alone: the segment, the byte, and the command that repairs."""
    path, _ = _journal(tmp_path, is_sealed=False)
    start = records_of(path)[19].end
    _damage(path, 20)
    with pytest.raises(Exit) as caught:
        opened(tmp_path)
    assert caught.value.code == exits.BAD_DATA
    said = str(caught.value)
    assert f"{path}: damaged at byte {start}: " in said
    assert f"`python -m bridge journal --directory {tmp_path} --repair`" in said
    repair(path)
    journal = opened(tmp_path)
    assert sum([len(each) for each in held(journal).values()]) == 19
    journal.close()


def test_a_torn_tail_behind_damage(tmp_path: Path) -> None:
    """A repair that also drops a torn tail begins a new incarnation, as a start would have done."""
    path, producer = _journal(tmp_path, is_sealed=False)
    with path.open("r+b") as file:
        file.truncate(records_of(path)[-1].end - 3)
    _damage(path, 5)
    repair(path)
    journal = opened(tmp_path)
    assert journal.producer != producer
    journal.close()


@pytest.mark.parametrize("is_sealed", [True, False])
def test_the_claim_is_cut_out(tmp_path: Path, is_sealed: bool) -> None:
    """What Redis may have keeps its number, also when the record that told of it is lost."""
    journal = opened(tmp_path, limits=ALWAYS)
    put(journal, b"before")
    journal.claim()
    for _ in range(5):
        put(journal, b"behind")
    former = journal.producer
    if is_sealed:
        journal.close()
    else:
        killed(journal)
    path = last_segment(tmp_path)
    _damage(path, 1)
    repair(path)
    journal = opened(tmp_path)
    assert set(held(journal)) == {former}
    journal.close()


def test_the_head_cannot_be_repaired(tmp_path: Path) -> None:
    """A segment without a readable head is refused, and stays as it is."""
    path, _ = _journal(tmp_path, is_sealed=True)
    flip(path, 30)
    before = path.read_bytes()
    with pytest.raises(Damaged):
        repair(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_killed_within_a_repair(tmp_path: Path, calls: int) -> None:
    """A repair that is killed loses nothing: the segment is there, as it was or repaired."""
    path, _ = _journal(tmp_path, is_sealed=True)
    _damage(path, 5)
    code = (
        "import os, pathlib, signal, sys\n"
        "from bridge.repair import repair\n"
        "calls = [int(sys.argv[2])]\n"
        "def killing(call):\n"
        "    def wrapped(*words, **named):\n"
        "        calls[0] -= 1\n"
        "        calls[0] or os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return call(*words, **named)\n"
        "    return wrapped\n"
        "for name in ('rename', 'replace', 'link', 'fsync', 'unlink'):\n"
        "    setattr(os, name, killing(getattr(os, name)))\n"
        "repair(pathlib.Path(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(calls)], cwd=ROOT)
    assert path.exists()
    repair(path)
    assert len(records_of(path)) == 39
