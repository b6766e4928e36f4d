"""`python -m bridge journal` and `resume`, run as a user runs them."""

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import exits, journal_command
from bridge.exits import Exit
from bridge.journal import Limits
from bridge.journal_directory import segment_paths
from bridge.latch import LatchFile
from tests.bridge.journals import (
    count,
    erase,
    flip,
    held,
    killed,
    last_segment,
    opened,
    put_many,
    records_of,
)
from tests.bridge.processes import ROOT, environment

ALWAYS = Limits(fsync="always", segment_bytes=16_384)


def _bridge(*words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge", *map(str, words)],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of 250 orders and 3 fills in several segments, closed."""
    journal = opened(tmp_path / "journal")
    put_many(journal, 250)
    put_many(journal, 3, "fills")
    journal.close()
    return tmp_path / "journal"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """A journal that another process writes."""
    directory = tmp_path / "journal"
    command = [sys.executable, "-m", "tests.bridge.appender", str(directory), "group"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as reports:  # read to its end, or it would stop writing
        for _ in range(300):
            reports.readline()
        threading.Thread(target=reports.read).start()
        yield directory
        process.kill()
        process.wait()


def _damage(directory: Path) -> tuple[Path, int]:
    """Change a byte in the tenth record of the second segment; return where the record begins."""
    path = segment_paths(directory)[1]
    offset = records_of(path)[8].end
    flip(path, offset + 40)
    return path, offset


def test_whole(journal: Path) -> None:
    """0, and a line for each segment: what it is, and which numbers it holds."""
    done = _bridge("journal", "--directory", journal)
    assert (done.returncode, done.stderr) == (exits.DONE, "")
    heading, *lines, total = done.stdout.splitlines()
    assert heading.split()[0] == "segment"
    assert [line.split()[0] for line in lines] == [path.stem for path in segment_paths(journal)]
    assert all(" sealed " in line for line in lines)
    assert lines[-1].endswith("-250, fills 1-3")
    assert total == f"{len(lines)} segments, 253 entries, 0 damaged"


def test_for_programs(journal: Path) -> None:
    """--json says the same to programs."""
    done = _bridge("journal", "--json", "--directory", journal)
    assert done.returncode == exits.DONE
    listed = json.loads(done.stdout)
    assert [Path(each["file"]) for each in listed] == segment_paths(journal)
    assert sum([each["entries"] for each in listed]) == 253
    assert [each["problem"] for each in listed] == [""] * len(listed)
    spans = [(each["first"]["orders"], each["last"]["orders"]) for each in listed]
    assert (spans[0][0], spans[-1][1]) == (1, 250)
    assert all(one[1] + 1 == two[0] for one, two in itertools.pairwise(spans))


def test_damaged(journal: Path) -> None:
    """65 when a segment is damaged, with its place; the others are listed as ever."""
    path, offset = _damage(journal)
    done = _bridge("journal", "--directory", journal)
    assert done.returncode == exits.BAD_DATA
    [line] = [line for line in done.stdout.splitlines() if " DAMAGED " in line]
    assert line.startswith(path.stem)
    assert f"damaged at byte {offset}" in line
    assert done.stdout.splitlines()[-1].endswith(", 1 damaged")


def test_repair(journal: Path) -> None:
    """--repair cuts it out and says which numbers are lost: then all is whole, and it opens."""
    path, _ = _damage(journal)
    lost = journal_command.examine(journal)[0].as_dict()["last"]["orders"] + 10
    done = _bridge("journal", "--repair", "--directory", journal)
    assert (done.returncode, done.stderr) == (exits.DONE, "")
    assert done.stdout.startswith(f"{path.name}: cut out ")
    assert f"lost for good: orders {lost}-{lost};" in done.stdout
    assert _bridge("journal", "--directory", journal).returncode == exits.DONE
    again = _bridge("journal", "--repair", "--directory", journal)
    assert (again.returncode, again.stdout) == (exits.DONE, "nothing to repair\n")
    opened_again = opened(journal)
    found = {seq for numbered in held(opened_again).values() for seq in numbered}
    assert found == set(range(1, 251)) - {lost}
    opened_again.close()


def test_repair_of_several(tmp_path: Path) -> None:
    """Damage in several segments, open ones too, is cut out at once."""
    journal = opened(tmp_path, limits=ALWAYS)
    put_many(journal, 250)
    killed(journal)
    paths = segment_paths(tmp_path)
    for path in paths:
        flip(path, records_of(path)[3].end + 40)
    assert len(journal_command.mend(tmp_path)) == len(paths)
    journal = opened(tmp_path)
    assert count(journal) == 250 - len(paths)
    journal.close()


def test_repair_of_a_head(journal: Path) -> None:
    """A segment without a readable head cannot be repaired: 65, and what to do."""
    flip(last_segment(journal), 20)
    done = _bridge("journal", "--repair", "--directory", journal)
    assert (done.returncode, done.stdout) == (exits.BAD_DATA, "")
    assert done.stderr.endswith("; move the file away: all that it holds is lost\n")


@pytest.mark.parametrize("words", [(), ("--repair",)])
def test_an_erased_head(journal: Path, words: tuple[str, ...]) -> None:
    """A segment whose head was erased is damaged, not absent."""
    erase(segment_paths(journal)[1], 0, 4096)
    assert _bridge("journal", *words, "--directory", journal).returncode == exits.BAD_DATA


def test_beside_a_bridge(written: Path) -> None:
    """What a bridge writes at present is listed and whole; a repair is refused with 73."""
    done = _bridge("journal", "--directory", written)
    assert done.returncode == exits.DONE, done.stdout
    assert done.stdout.endswith(" 0 damaged\n")
    done = _bridge("journal", "--repair", "--directory", written)
    assert (done.returncode, done.stdout) == (exits.TAKEN, "")
    assert done.stderr.startswith("journal.directory: another bridge writes to ")


def test_the_present_segment(journal: Path) -> None:
    """The segment that is written is listed as open, with what is in it so far."""
    held_open = opened(journal)
    put_many(held_open, 7)
    lines, code = journal_command.report(journal, as_json=False)
    assert (code, lines[-1].endswith(" 0 damaged")) == (exits.DONE, True)
    assert [" open " in line for line in lines[1:-1]] == [False] * (len(lines) - 3) + [True]
    assert lines[-2].endswith(": orders 251-257")
    held_open.close()


def test_always_beside_a_bridge(written: Path) -> None:
    """However often it is looked at while it is written, nothing looks damaged."""
    for _ in range(50):
        assert not [line.problem for line in journal_command.examine(written) if line.problem]


def test_a_segment_that_goes_meanwhile(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that a bridge removes between listing and reading is no damage."""
    listed = segment_paths(journal)
    listed[0].unlink()
    monkeypatch.setattr(journal_command.journal_directory, "segment_paths", lambda _: listed)
    lines, code = journal_command.report(journal, as_json=False)
    assert (code, lines[-1].endswith(" 0 damaged")) == (exits.DONE, True)


def test_reads_only(journal: Path) -> None:
    """Looking changes nothing, in a torn journal neither."""
    path = last_segment(journal)
    path.write_bytes(path.read_bytes()[:-100])
    before = {each: each.read_bytes() for each in journal.iterdir()}
    assert _bridge("journal", "--directory", journal).returncode == exits.DONE
    assert {each: each.read_bytes() for each in journal.iterdir()} == before


def test_no_journal(tmp_path: Path) -> None:
    """A folder without a journal: 65, and nothing is made there."""
    for words in ((), ("--repair",)):
        done = _bridge("journal", *words, "--directory", tmp_path / "none")
        assert (done.returncode, done.stdout) == (exits.BAD_DATA, "")
        assert done.stderr == f"{tmp_path}/none holds no journal; see journal.directory\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (("journal",), {}, exits.CONFIGURATION, "journal.directory is not set; name the folder"),
        (("journal",), {"journal__fsync": "maybe"}, exits.CONFIGURATION, "journal.fsync: "),
        (("journal", "--directory"), {}, exits.USAGE, "usage: python -m bridge journal"),
        (("resume", "--repair"), {}, exits.USAGE, "usage: python -m bridge"),
    ],
)
def test_not_understood(
    words: tuple[str, ...], settings: dict[str, str], code: int, said: str
) -> None:
    """Without a folder, or with a setting or an option that is refused: 78 and 2."""
    done = _bridge(*words, **settings)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)


def test_the_folder_of_the_settings(journal: Path) -> None:
    """Without --directory the settings name the folder."""
    done = _bridge("journal", journal__directory=str(journal))
    assert done.returncode == exits.DONE
    assert _bridge("journal", state__directory=str(journal.parent)).stdout == done.stdout


def test_resume(tmp_path: Path) -> None:
    """It ends a halt and says what was held, once; a folder without a latch: 65."""
    latch = LatchFile(tmp_path)
    latch.set("journal", "the disk is full")
    done = _bridge("resume", "--directory", tmp_path)
    assert (done.returncode, done.stderr) == (exits.DONE, "")
    assert done.stdout == "ended: the disk is full; start the bridge again\n"
    assert latch.load().halt is None
    done = _bridge("resume", "--directory", tmp_path)
    assert (done.returncode, done.stdout) == (exits.DONE, "nothing was halted\n")
    done = _bridge("resume", "--directory", tmp_path / "none")
    assert (done.returncode, done.stdout) == (exits.BAD_DATA, "")
    assert done.stderr == f"{tmp_path}/none holds no latch; see state.directory\n"


def test_a_bad_head_among_others(journal: Path) -> None:
    """What can be repaired is, before a head that cannot be is told."""
    _damage(journal)
    flip(last_segment(journal), 20)
    with pytest.raises(Exit, match="move the file away"):
        journal_command.mend(journal)
    assert sum([bool(line.problem) for line in journal_command.examine(journal)]) == 1
