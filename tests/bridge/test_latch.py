"""The latch: a halt that outlives the process, and finds room on a full disk."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.latch import BYTES, Latch
from tests.bridge.journals import fill_up, in_a_child, tmpfs


def test_set_and_cleared(tmp_path: Path) -> None:
    """Nothing holds it at first; what is set holds until it is cleared, with reason and time."""
    latch = Latch(tmp_path)
    assert latch.reason is None
    latch.set("the disk is full")
    assert latch.reason is not None
    assert latch.reason.startswith("the disk is full (since 2")
    latch.set("shorter")
    assert latch.reason.startswith("shorter (since 2")
    latch.clear()
    assert latch.reason is None


def test_outlives_the_process(tmp_path: Path) -> None:
    """It holds for the next process, also when the one that set it was killed right after."""
    in_a_child(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from bridge.latch import Latch\n"
        "print('began', flush=True)\n"
        "Latch(Path(sys.argv[1])).set('it failed')\n"
        "os._exit(0)\n",
        tmp_path,
    )
    assert str(Latch(tmp_path).reason).startswith("it failed (since ")


def test_has_its_room_before_it_is_needed(tmp_path: Path) -> None:
    """Its file has its place on the disk from the start, and the same size ever after."""
    latch = Latch(tmp_path)
    for reason in (None, "x", "y" * 10_000):
        if reason is not None:
            latch.set(reason)
        found = latch.path.stat()
        assert found.st_size == BYTES
        assert found.st_blocks * 512 >= BYTES


def test_a_full_disk(tmp_path: Path) -> None:
    """It is set on a disk that has no byte left."""
    with tmpfs(tmp_path / "disk", 1 << 20) as disk:
        latch = Latch(disk)
        fill_up(disk)
        latch.set("r" * 10_000)
        assert str(Latch(disk).reason).startswith("rrr")
        latch.clear()
        assert latch.reason is None


@settings(derandomize=True, max_examples=100, deadline=None)
@given(reason=st.text(max_size=2000))
def test_any_reason(tmp_path_factory: pytest.TempPathFactory, reason: str) -> None:
    """Whatever the reason says it holds, can be read, and can be cleared."""
    latch = Latch(tmp_path_factory.mktemp("latch"))
    latch.set(reason)
    assert latch.reason is not None
    assert "cannot be read" not in latch.reason
    assert latch.path.stat().st_size == BYTES
    latch.clear()
    assert latch.reason is None


def test_a_long_reason_of_wide_characters(tmp_path: Path) -> None:
    """Characters that take many bytes do not make it outgrow its room."""
    latch = Latch(tmp_path)
    latch.set("\N{GRINNING FACE}" * 1000)
    assert latch.path.stat().st_size == BYTES
    latch.clear()
    assert latch.reason is None


@pytest.mark.parametrize("text", [b"{", b"nonsense", b"[]", b'{"reason": 1}', b"\xff\xfe"])
def test_what_cannot_be_read_holds(tmp_path: Path, text: bytes) -> None:
    """A latch that cannot be read counts as set, until it is cleared."""
    latch = Latch(tmp_path)
    latch.path.write_bytes(text)
    assert latch.reason == f"{latch.path} cannot be read"
    latch.clear()
    assert latch.reason is None


def test_killed_while_it_was_made(tmp_path: Path) -> None:
    """A file that was made and has no room yet gets it at the next start."""
    (tmp_path / "latch").touch()
    latch = Latch(tmp_path)
    assert latch.path.stat().st_blocks * 512 >= BYTES
    assert latch.reason is None


def test_opening_it_does_not_clear_it(tmp_path: Path) -> None:
    """It stays set through any number of starts."""
    Latch(tmp_path).set("held")
    for _ in range(3):
        assert str(Latch(tmp_path).reason).startswith("held")
    assert [path.name for path in tmp_path.iterdir()] == ["latch"]
