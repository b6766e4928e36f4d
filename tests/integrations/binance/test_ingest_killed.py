"""kill -9 at any moment: the catalog ends up as that of a run that nobody disturbed."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from integrations.binance.dumps import chunks
from integrations.nautilus import catalog
from tests.integrations.binance.dump_files import DAY_MS, put, trades
from tests.integrations.binance.ingest_rig import Ingest

ROOT = Path(__file__).parents[3]
SEED = 20251120
ROWS, LIMIT = 60_000, 4_000  # rows in all, and in a chunk

# Imports once, then forks a child for each try and kills it at a moment that the seed decides: from
# "at once" to ever later, so that it comes to an end on a slow machine, too.
KILLER = """
import os, random, signal, sys, time
from integrations.binance.__main__ import main
import integrations.nautilus.catalog, integrations.nautilus.replay
from integrations.binance.dumps import chunks
from integrations.nautilus import catalog
chunks.__kwdefaults__["limit"] = int(sys.argv[2])
chance = random.Random(int(sys.argv[1]))
kills = 0
while True:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(sys.argv[3:]))
    time.sleep(chance.uniform(0, 0.03 * (kills + 1)))
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills += 1
print(kills, os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("suffix", ["csv", "zip"])
def test_killed_again_and_again(tmp_path, capsys, monkeypatch, suffix):
    """Nothing twice, nothing missing, every file byte for byte."""
    monkeypatch.setitem(chunks.__kwdefaults__, "limit", LIMIT)
    chance = random.Random(SEED)
    times, now = [], DAY_MS * 1000
    for _ in range(ROWS):
        now += chance.choice((0, 0, 1, 250))  # many rows of the same time
        times.append(now)
    ingest = Ingest(tmp_path, capsys)
    put(ingest.source, f"BTCUSDT-trades-2025-07-01.{suffix}", trades(times))
    assert ingest() == 0
    undisturbed = ingest.files()
    ingest.catalog = tmp_path / "disturbed"

    ended = subprocess.run(
        [sys.executable, "-c", KILLER, str(SEED), str(LIMIT), *ingest.words()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ended.returncode == 0, ended.stderr
    kills, code = map(int, ended.stdout.split())
    assert (kills > 2, code) == (True, 0), (SEED, kills, ended.stderr)
    assert ingest.files() == undisturbed
    assert ingest.journal()[-1]["rows"] == ROWS
    assert len(undisturbed) == 1 + 16  # the instrument, the chunks


class Killed(BaseException):
    """Nothing is done after it, as after kill -9; only the lock is gone."""


NAME = "BTCUSDT-trades-2025-07-01.csv"


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """A file of three chunks."""
    monkeypatch.setitem(chunks.__kwdefaults__, "limit", 10)
    ingest = Ingest(tmp_path, capsys)
    put(ingest.source, NAME, trades([DAY_MS * 1000 + n for n in range(25)]))
    return ingest


def kill(run: Ingest, monkeypatch: pytest.MonkeyPatch, moment: str, number: int) -> None:
    """Let a run end before or after a write."""
    calls, write = [], catalog.write

    def dying(*arguments):
        calls.append(arguments)
        if moment == "before" and len(calls) == number:
            raise Killed
        written = write(*arguments)
        if moment == "after" and len(calls) == number:
            raise Killed
        return written

    with monkeypatch.context() as patched:
        patched.setattr(catalog, "write", dying)
        with pytest.raises(Killed):
            run()


AROUND = pytest.mark.parametrize(
    ("moment", "number"), [(moment, n) for moment in ("before", "after") for n in (1, 2, 3)]
)


@AROUND
def test_killed_around_each_write(run, tmp_path, monkeypatch, moment, number):
    """Between a chunk and its line in the journal, on either side of it."""
    assert run() == 0
    undisturbed = run.files()
    run.catalog = tmp_path / "disturbed"
    kill(run, monkeypatch, moment, number)

    assert run() == 0
    assert run.files() == undisturbed
    assert [line["rows"] for line in run.journal()] == [10, 20, 25, 25]


@AROUND
def test_killed_and_replaced(run, monkeypatch, moment, number):
    """The same day with other rows: whatever was written is in nobody's way."""
    kill(run, monkeypatch, moment, number)
    put(run.source, NAME, trades([DAY_MS * 1000 + n for n in range(25)], first_id=101))

    assert run() == 0
    assert run.ids == [*range(101, 126)]
