"""A real process that appends is killed at any moment: all that `append` returned for is there."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.fill_index import FillIndex
from tests.bridge.journals import held, opened
from tests.bridge.processes import ROOT

SEED = 20261120
ENTRIES_MAX = 400


class Ledger:
    """What the killed processes have reported: each entry under the number it was given."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, int], bytes] = {}
        self.identities: set[bytes] = set()

    def note(self, line: str) -> None:
        kind, producer, seq, once, payload = line.split()
        key = (kind, producer, int(seq))
        assert key not in self.entries, "a number was given twice"
        self.entries[key] = bytes.fromhex(payload)
        self.identities.add(bytes.fromhex(once))


def _run_and_kill(directory: Path, fsync: str, entries: int, ledger: Ledger) -> None:
    """Start a process that appends, kill it once it has reported so many entries."""
    command = [sys.executable, "-m", "tests.bridge.appender", str(directory), fsync]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as reports:
        lines = iter(reports.readline, "ready\n")
        assert "" not in lines, "it did not start"
        for _ in range(entries):
            ledger.note(reports.readline())
        process.kill()
        for line in reports:  # what it had reported before it was dead
            if line.endswith("\n"):
                ledger.note(line)
    process.wait()


@pytest.mark.parametrize("seed", [SEED])
@pytest.mark.parametrize("kills", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path: Path, kills: int, seed: int) -> None:
    """Many times in a row, in the same folder: nothing is missing, changed or numbered twice."""
    chance, directory, ledger = random.Random(seed), tmp_path / "journal", Ledger()
    for _ in range(kills):
        fsync = chance.choice(("always", "group", "group", "never"))
        _run_and_kill(directory, fsync, chance.randrange(ENTRIES_MAX), ledger)
    journal = opened(directory)
    found = {
        (kind, producer, seq): payload
        for kind in ("orders", "fills")
        for producer, numbered in held(journal, kind).items()
        for seq, payload in numbered.items()
    }
    assert not {key for key, payload in ledger.entries.items() if found.get(key) != payload}
    # One more entry at a kill: written, and not yet reported.
    assert len(found) <= len(ledger.entries) + kills
    journal.close()


@pytest.mark.parametrize("seed", [SEED])
def test_identities_outlive_a_kill(tmp_path: Path, seed: int) -> None:
    """The index knows every identity whose entry was appended, and no other one."""
    chance, directory, ledger = random.Random(seed), tmp_path / "journal", Ledger()
    for _ in range(3):
        _run_and_kill(directory, "group", chance.randrange(ENTRIES_MAX), ledger)
        journal = opened(directory)
        fills = FillIndex(tmp_path, journal)
        assert not {once for once in ledger.identities if once not in fills}
        assert not [once for _ in range(100) if (once := chance.randbytes(16)) in fills]
        fills.close()
        journal.close()
