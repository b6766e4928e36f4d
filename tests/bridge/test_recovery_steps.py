"""A process that is killed at any step of what it does leaves a journal that has everything."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.journal import Journal, Limits
from bridge.repair import repair
from tests.bridge.journals import (
    flip,
    held,
    killed,
    killed_at,
    last_segment,
    let_go,
    opened,
    put,
    records_of,
)

pytestmark = pytest.mark.slow

STEPS_MAX = 200
LIMITS = Limits(segment_bytes=8192, retain_ns=0)

# Prepares a folder; returns the name that numbers must not be given under any more, if there is
# one, and what is then done in it.
type Scene = Callable[[Path], tuple[str | None, Callable[[], object]]]


def _filled(directory: Path, *, claimed: bool) -> Journal:
    """Return a journal of twenty orders, a unique number each, over two segments."""
    journal = opened(directory, limits=LIMITS)
    if claimed:
        journal.claim()
    for number in range(1, 21):
        put(journal, f"{number:200}".encode())
    journal.sync()
    return journal


def _torn(directory: Path, *, claimed: bool) -> tuple[str, Callable[[], object]]:
    """A start that finds a torn tail, behind the twenty."""
    journal = _filled(directory, claimed=claimed)
    put(journal, b"torn")
    killed(journal)
    path = last_segment(directory)
    os.truncate(path, records_of(path)[-1].end - 3)
    return journal.producer, lambda: opened(directory, limits=LIMITS)


def _first_start(directory: Path) -> tuple[None, Callable[[], object]]:
    """The very first start, before which there is nothing."""
    return None, lambda: opened(directory, limits=LIMITS)


def _start(directory: Path) -> tuple[None, Callable[[], object]]:
    """A start behind a kill."""
    killed(_filled(directory, claimed=True))
    return None, lambda: opened(directory, limits=LIMITS)


def _torn_and_claimed(directory: Path) -> tuple[str, Callable[[], object]]:
    return _torn(directory, claimed=True)


def _torn_and_unclaimed(directory: Path) -> tuple[None, Callable[[], object]]:
    """Its numbers go on: Redis is asked what it has of them before anything is sent."""
    return None, _torn(directory, claimed=False)[1]


def _copied(directory: Path) -> tuple[str, Callable[[], object]]:
    """A start in a copy."""
    original = directory.with_name("original")
    journal = _filled(original, claimed=True)
    journal.close()
    shutil.copytree(original, directory)
    shutil.rmtree(original)
    return journal.producer, lambda: opened(directory, limits=LIMITS)


def _append(directory: Path) -> tuple[None, Callable[[], object]]:
    """Entries that fill several segments; what was there before has been synced."""
    journal = _filled(directory, claimed=True)

    def work() -> None:
        for _ in range(40):
            put(journal, b"later" * 40)
        journal.make_reserve()
        journal.sync()

    return None, work


def _close(directory: Path) -> tuple[None, Callable[[], object]]:
    return None, _filled(directory, claimed=True).close


def _renumber(directory: Path) -> tuple[None, Callable[[], object]]:
    journal = _filled(directory, claimed=False)
    return None, lambda: journal.renumber({}, 2)


def _repair(directory: Path) -> tuple[None, Callable[[], object]]:
    """A repair that has to cut out one entry, which is not one of the twenty."""
    journal = _filled(directory, claimed=True)
    put(journal, b"damaged")
    put(journal, b"behind")
    journal.close()
    path = last_segment(directory)
    flip(path, records_of(path)[-2].end - 1)
    return None, lambda: repair(path)


SCENES: list[Scene] = [
    *(_first_start, _start, _torn_and_claimed, _torn_and_unclaimed, _copied),
    *(_append, _close, _renumber, _repair),
]


@pytest.mark.parametrize("scene", SCENES)
def test_killed_at_any_step(tmp_path: Path, scene: Scene) -> None:
    """Every entry is there once, in order, and no number is given under a name that is over."""
    for step in range(1, STEPS_MAX):
        directory = tmp_path / str(step) / "journal"
        former, work = scene(directory)
        was_killed = killed_at(step, work)
        if directory.exists():
            let_go(directory)
        if scene is _repair:
            repair(last_segment(directory))
        for _ in range(2):  # a start may not spoil anything for the next either
            journal = opened(directory, limits=LIMITS)
            found = [each for numbered in held(journal).values() for each in numbered.values()]
            numbers = [int(each) for each in found if each.strip().isdigit()]
            owed = [] if scene is _first_start else list(range(1, 21))
            assert numbers == owed, f"killed at step {step}"
            assert journal.producer != former, f"killed at step {step}"
            journal.close()
        shutil.rmtree(directory.parent)
        if not was_killed:
            return
    raise AssertionError("it has no end")
