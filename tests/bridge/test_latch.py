"""bridge/latch.py: a halt that outlives the process, and finds room on a full disk."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.control import Halt, Latch
from bridge.latch import BYTES, LatchFile, new_id
from tests.bridge.journals import fill_up, in_a_child, tmpfs

HALT = Halt("id-1", "breach", "lost too much", 1_700_000_000_000_000_000, is_sighted=True)


def reason(file: LatchFile) -> str:
    """Return why it is halted; empty when it is not."""
    halt = file.load().halt
    return "" if halt is None else halt.reason


def test_set_and_cleared(tmp_path: Path) -> None:
    """Nothing holds it at first; what is set holds until it is cleared, and its id is kept."""
    file = LatchFile(tmp_path)
    assert file.load() == Latch()
    file.set("breach", "lost too much")
    halt = file.load().halt
    assert halt is not None
    assert (halt.cause, halt.reason, halt.is_sighted) == ("breach", "lost too much", False)
    assert file.clear() == halt
    assert file.load() == Latch(None, halt.id)
    assert file.clear() is None
    assert file.load() == Latch(None, halt.id)


def test_a_second_halt(tmp_path: Path) -> None:
    """A halt that holds already stays what it is."""
    file = LatchFile(tmp_path)
    file.set("breach", "the first")
    first = file.load()
    file.set("journal", "the second")
    assert file.load() == first


@pytest.mark.parametrize(
    "latch", [Latch(), Latch(HALT), Latch(HALT, "id-0"), Latch(None, "id-0"), Latch(None, HALT.id)]
)
def test_all_of_it_is_kept(tmp_path: Path, latch: Latch) -> None:
    """What is stored is loaded, whatever stood there before."""
    file = LatchFile(tmp_path)
    file.store(Latch(HALT._replace(reason="x" * 500), "y" * 50))
    file.store(latch)
    assert LatchFile(tmp_path).load() == latch


def test_outlives_the_process(tmp_path: Path) -> None:
    """It holds for the next process, also when the one that set it was killed right after."""
    in_a_child(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from bridge.latch import LatchFile\n"
        "print('began', flush=True)\n"
        "LatchFile(Path(sys.argv[1])).set('breach', 'it failed')\n"
        "os._exit(0)\n",
        tmp_path,
    )
    assert reason(LatchFile(tmp_path)) == "it failed"


def test_has_its_room_before_it_is_needed(tmp_path: Path) -> None:
    """Its file has its place on the disk from the start, and the same size ever after."""
    file = LatchFile(tmp_path)
    for text in (None, "x", "y" * 10_000):
        if text is not None:
            file.store(Latch(HALT._replace(reason=text)))
        found = file.path.stat()
        assert found.st_size == BYTES
        assert found.st_blocks * 512 >= BYTES


def test_a_full_disk(tmp_path: Path) -> None:
    """It is set on a disk that has no byte left."""
    with tmpfs(tmp_path / "disk", 1 << 20) as disk:
        file = LatchFile(disk)
        fill_up(disk)
        file.set("breach", "r" * 10_000)
        assert reason(LatchFile(disk)).startswith("rrr")
        file.clear()
        assert reason(file) == ""


@settings(derandomize=True, max_examples=100, deadline=None)
@given(texts=st.tuples(*[st.text(max_size=2000)] * 3))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, texts: tuple[str, str, str]) -> None:
    """Whatever reason and ids say, for Redis may say anything, it holds, and can be cleared."""
    file = LatchFile(tmp_path_factory.mktemp("latch"))
    file.store(Latch(HALT._replace(id=texts[0], reason=texts[1]), texts[2]))
    halt = file.load().halt
    assert halt is not None
    assert halt.cause == HALT.cause
    assert texts[1].startswith(halt.reason)
    assert file.path.stat().st_size == BYTES
    assert file.clear() == halt
    assert file.load().halt is None


@pytest.mark.parametrize("character", ["\N{GRINNING FACE}", "\0", "\udc80", '"'])
def test_long_texts_of_wide_characters(tmp_path: Path, character: str) -> None:
    """Characters that take many bytes do not make it outgrow its room."""
    file = LatchFile(tmp_path)
    text = character * 1000
    file.store(Latch(HALT._replace(id=text, reason=text), text))
    assert file.path.stat().st_size == BYTES
    halt = file.load().halt
    assert halt is not None
    assert halt.cause == HALT.cause
    file.clear()
    assert reason(file) == ""


@pytest.mark.parametrize(
    "text",
    [
        *(b"{", b"nonsense", b"[]", b"7", b"null", b"\xff\xfe", b'{"reason": 1}'),
        *(b'{"halt": null}', b'{"halt": null, "ended": 7}', b'{"halt": 7, "ended": ""}'),
        b'{"halt": {"id": "a", "cause": "b", "reason": "c", "since_ns": "d"}, "ended": ""}',
        b'{"halt": {"id": 1, "cause": "b", "reason": "c", "since_ns": 1, "is_sighted": true},'
        b' "ended": ""}',
    ],
)
def test_what_cannot_be_read_holds(tmp_path: Path, text: bytes) -> None:
    """A latch that cannot be read counts as set, until it is cleared."""
    file = LatchFile(tmp_path)
    file.path.write_bytes(text)
    assert reason(file) == f"{file.path} cannot be read"
    file.clear()
    assert reason(file) == ""


def test_killed_while_it_was_made(tmp_path: Path) -> None:
    """A file that was made and has no room yet gets it at the next start."""
    (tmp_path / "latch").touch()
    file = LatchFile(tmp_path)
    assert file.path.stat().st_blocks * 512 >= BYTES
    assert file.load() == Latch()


def test_opening_it_does_not_clear_it(tmp_path: Path) -> None:
    """It stays set through any number of starts."""
    LatchFile(tmp_path).set("breach", "held")
    for _ in range(3):
        assert reason(LatchFile(tmp_path)) == "held"
    assert [path.name for path in tmp_path.iterdir()] == ["latch"]


def test_ids_differ() -> None:
    """Every halt has an id of its own."""
    assert len({new_id() for _ in range(1000)}) == 1000


def test_what_is_set_outlives_what_is_stored(tmp_path: Path) -> None:
    """A journal that fails halts the next start, whatever the controller stores meanwhile."""
    file = LatchFile(tmp_path)
    before = file.load()
    file.set("journal", "the disk is full")
    file.store(before)
    halt = LatchFile(tmp_path).load().halt
    assert halt is not None
    assert halt.cause == "journal"
