"""Rows of the table whose fault strikes the journal, or the disk that it is on."""

import contextlib
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from bridge import exits, journal_directory
from bridge.segments import Damaged, Segment
from tests.bridge.processes import ROOT
from tests.chaos import checker, record
from tests.chaos.checker import Verdict
from tests.chaos.record import Found
from tests.chaos.rig import Rig, TradingDaemon, refused_with

FULL = "disk full"
TOO_LARGE = "file too large"
FILLER = "filler"
DISK_BYTES = 64 << 20  # ledger and archive are on it, too
SEGMENT_BYTES = 1 << 18
HALT_BYTES = SEGMENT_BYTES // 2
# What Redis has confirmed need not stay: the disk is small, and a start reads all of it.
SHORT_LIVED = {"journal__retain": "1"}
SMALL = SHORT_LIVED | {"journal__segment_bytes": str(SEGMENT_BYTES)}
EVENT_ID = re.compile(r"event_id=([0-9a-f-]{36})")
# How far before the end the journal is cut off.
CUT_RECORDS_MAX = 400
BEGIN_RECORDS_MAX = 40


def journal_damaged(rig: Rig) -> Verdict:
    """The journal loses its end, all of it, or a copy of it is used: numbers must not come again.

    Events that were in no stream when the journal lost them are gone for good, and excused.
    """
    daemon = rig.start(**SHORT_LIVED).until_running()
    gone: set[str] = set()
    for fault in rig.striking("cut below the mark", "lost", "copied"):
        rig.until_flowing(daemon)
        rig.until_moving(daemon)
        before = rig.folder / "before"
        _copy(rig.folder / "state" / "journal", before)
        rig.until_flowing(daemon)
        rig.kill(daemon)
        if fault == "copied":
            _run_copy(rig, before)
        else:
            _damage(rig, fault, before)
            gone |= checker.missing([record.read(rig.record())], rig.streams())
        daemon = rig.start(**SHORT_LIVED).until_running()
    rig.finish(daemon)
    return rig.verdict("state", "copy", excused=gone)


def _damage(rig: Rig, fault: str, before: Path) -> None:
    journal = rig.folder / "state" / "journal"
    if fault == "lost":
        shutil.rmtree(journal if rig.chance.random() < 0.5 else journal.parent)
    elif rig.chance.random() < 0.5:
        _set_back(journal, before)
    else:
        _cut(rig, journal)


def _copy(journal: Path, to: Path) -> None:
    """Copy a journal, as a backup of a running system would; its oldest segments may go meanwhile.

    The newest first: what is missing then is the beginning.
    """
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for path in sorted(journal.iterdir(), reverse=True):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(path, to / path.name)


def _run_copy(rig: Rig, before: Path) -> None:
    """Have a daemon use a copy of the journal for a while; the original goes on afterwards."""
    shutil.rmtree(rig.folder / "copy", ignore_errors=True)
    _copy(before, rig.folder / "copy" / "journal")
    daemon = rig.start(state="copy", **SHORT_LIVED).until_running()
    rig.until_moving(daemon, "copy")
    rig.finish(daemon)


def _set_back(journal: Path, before: Path) -> None:
    """Put the segments of an earlier time in place of the present ones, as a snapshot would."""
    for path in journal_directory.segment_paths(journal):
        path.unlink()
    for path in journal_directory.segment_paths(before):
        shutil.copy(path, journal / path.name)


def _cut(rig: Rig, journal: Path) -> None:
    """Cut the journal off somewhere before the last entry that Redis has of it.

    The file ends there, or holds zeros from there on; in the middle of a record, or behind one.
    """
    segments = [Segment.load(path) for path in journal_directory.segment_paths(journal)]
    last_jseq = _last_jseq(rig.streams(), segments[-1].producer)
    ends = [
        (segment, each.end, len(each.payload))
        for segment in segments
        for each in segment.records()
        if segment.producer == segments[-1].producer and each.jseq < last_jseq
    ]
    session = segments[-1].head.session
    begun = [each for each in ends if each[0].ordinal == session][:BEGIN_RECORDS_MAX]
    # Also where the session had not claimed its numbers yet: a snapshot may be as old as that.
    where = begun if begun and rig.chance.random() < 0.25 else ends[-CUT_RECORDS_MAX:]
    segment, end, size = rig.chance.choice(where)
    offset = end if rig.chance.random() < 0.5 else end - rig.chance.randint(1, size + 1)
    with segment.path.open("r+b") as file:
        whole = segment.path.stat().st_size
        file.truncate(offset)
        if rig.chance.random() < 0.5:
            file.truncate(whole)
    for later in segments:
        if later.ordinal > segment.ordinal:
            later.path.unlink()


def _last_jseq(streams: dict[str, list[Found]], producer: str) -> int:
    return max(
        [
            entry.jseq
            for entries in streams.values()
            for entry in entries
            if entry.producer == producer
        ],
        default=0,
    )


def disk_full(rig: Rig) -> Verdict:
    """The disk of the journal is full: trading halts, 74, at most the event in hand is missing.

    Another start, behind `resume`, goes on behind it.
    """
    state = rig.folder / "state"
    missing: set[str] = set()
    with _small_disk(state) as faults, _piped(rig.record()) as pipe:
        given = SMALL | {"CHAOS_RECORD": str(pipe)}
        daemon = rig.start(**given).until_running()
        for _ in rig.striking("disk full"):
            rig.until_flowing(daemon)
            if rig.chance.choice(faults) == FULL:
                _fill(state)
            else:
                _limit_files(daemon, state / "journal")
            refused_with(daemon.ended(), exits.CANNOT_RECORD, "cannot record execution events")
            named = _named_lost(daemon)
            assert len(named) <= 1, f"more than the event in hand is missing: {named}"
            missing |= named
            (state / FILLER).unlink(missing_ok=True)
            _resume(state)
            daemon = rig.start(**given).until_running()
        rig.finish(daemon)
    return rig.verdict(excused=missing)


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[tuple[str, ...]]:
    """Make `folder` a disk of a few megabytes, where we may; yield how it can fail."""
    folder.mkdir()
    if os.geteuid() != 0:
        yield (TOO_LARGE,)
        return
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield FULL, TOO_LARGE
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def _piped(record: Path) -> Iterator[Path]:
    """Yield a pipe whose reader keeps the record: a limit on files does not hold for a pipe."""
    pipe = record.with_suffix(".pipe")
    os.mkfifo(pipe)
    # Both ends are ours as well: it outlives each of its writers, and what they wrote.
    descriptor = os.open(pipe, os.O_RDWR)
    ended = threading.Event()

    def keep() -> None:
        with record.open("ab", buffering=0) as file:
            while not ended.is_set() or select.select([descriptor], [], [], 0)[0]:
                if select.select([descriptor], [], [], 0.1)[0]:
                    file.write(os.read(descriptor, 1 << 16))

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield pipe
    finally:
        ended.set()
        thread.join()
        os.close(descriptor)


def _fill(folder: Path) -> None:
    """Leave no room on the disk."""
    with (folder / FILLER).open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


def _limit_files(daemon: TradingDaemon, journal: Path) -> None:
    """Let the next write into the segment fail; the reserve has room for what the halt brings.

    A limit on the size of files holds for preallocated room too, which a full disk does not take
    away: so it is set where the reserve is there, and the segment is full enough.
    """

    def written() -> int:
        with contextlib.suppress(Damaged, OSError):
            if (journal / journal_directory.RESERVE).exists():
                return Segment.load(journal_directory.segment_paths(journal)[-1]).seal.end
        return 0

    daemon.until(lambda: written() > HALT_BYTES, "a segment that is half full")
    limits = (HALT_BYTES, resource.RLIM_INFINITY)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, limits)


def _named_lost(daemon: TradingDaemon) -> set[str]:
    """Return the ids of the events that its log names as lost."""
    lines = [str(line["event_text"]) for line in daemon.logged if line["event"] == "exec.lost"]
    return {found[1] for line in lines if (found := EVENT_ID.search(line))}


def _resume(state: Path) -> None:
    words = [sys.executable, "-m", "bridge", "resume", "--directory", str(state)]
    subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
