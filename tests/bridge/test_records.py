"""Everything on the disk, opened together: refused as one, and given back as one."""

from pathlib import Path

import pytest

from bridge import config, exits, records
from bridge.exits import Exit
from bridge.journal_directory import LOCK
from bridge.records import Records
from bridge.settings import Config
from tests.bridge.journals import descriptors, opened, put, put_many, tmpfs


def _config(**settings: object) -> Config:
    given = {name.replace("__", "."): str(value) for name, value in settings.items()}
    return config.load(None, environ={}, overrides=given)


def _refused(settings: Config) -> tuple[int, str]:
    with pytest.raises(Exit) as caught:
        Records.open(settings, "A")
    return caught.value.code, str(caught.value)


def test_below_the_state(tmp_path: Path) -> None:
    """With state.directory alone the journal is below it, the index and the latch in it."""
    settings = _config(state__directory=tmp_path)
    with records.opened(settings, "A") as kept:
        assert kept.are_kept
        assert kept.journal.directory == tmp_path / "journal"
        put(kept.journal, b"fill", "fills", bytes(15) + b"1")
        kept.fills.add(bytes(15) + b"1")
    assert {"journal", "latch", "fills.idx"} <= {path.name for path in tmp_path.iterdir()}
    with records.opened(settings, "A") as kept:
        assert kept.journal.seqs["fills"] == 1
        assert bytes(15) + b"1" in kept.fills


def test_beside_the_journal(tmp_path: Path) -> None:
    """With journal.directory alone the index and the latch are in it too."""
    with records.opened(_config(journal__directory=tmp_path), "A") as kept:
        assert kept.journal.directory == tmp_path
        assert kept.latch.path.parent == tmp_path


def test_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither they are temporary: nothing is left of them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with records.opened(_config(), "A") as kept:
        assert not kept.are_kept
        assert kept.journal.directory.is_relative_to(tmp_path)
        put_many(kept.journal, 3)
    assert list(tmp_path.iterdir()) == []


def test_limits() -> None:
    """The settings say how the journal is kept."""
    given = {"fsync": "always", "retain": "1.5", "segment_bytes": "65536", "bytes_max": "1000000"}
    settings = _config(**{f"journal__{name}": value for name, value in given.items()})
    kept = records.limits(settings)
    assert (kept.fsync, kept.retain_ns) == ("always", 1_500_000_000)
    assert (kept.segment_bytes, kept.bytes_max) == (65_536, 1_000_000)


def test_halted(tmp_path: Path) -> None:
    """A halt that holds keeps nothing from opening: the bridge runs, HALTED, until it is ended."""
    settings = _config(state__directory=tmp_path)
    with records.opened(settings, "A") as kept:
        kept.latch.set("journal", "the journal failed: the disk is full")
    for _ in range(2):
        with records.opened(settings, "A") as kept:
            halt = kept.latch.load().halt
            assert halt is not None
            assert halt.reason == "the journal failed: the disk is full"


@pytest.mark.parametrize("setting", ["state", "journal"])
def test_taken(tmp_path: Path, setting: str) -> None:
    """A state, or a journal, that another bridge writes: 73, and which of them it is."""
    folders = {"state": tmp_path / "state", "journal": tmp_path / "journal"}
    others = {name: folder / "other" for name, folder in folders.items()}

    def settings(given: dict[str, Path]) -> Config:
        return _config(**{f"{name}__directory": path for name, path in given.items()})

    with records.opened(settings(folders), "A"):
        code, said = _refused(settings(others | {setting: folders[setting]}))
        assert code == exits.TAKEN
        assert said.startswith(f"{setting}.directory: another bridge writes to ")
        with records.opened(settings(others), "B"):  # whoever was refused holds neither
            pass
    with records.opened(settings(folders), "A"):
        pass


def test_refused_it_holds_nothing(tmp_path: Path) -> None:
    """Whoever was refused because of the state gives the journal back."""
    (tmp_path / "state").touch()
    settings = _config(state__directory=tmp_path / "state", journal__directory=tmp_path / "journal")
    code, said = _refused(settings)
    assert code == exits.CANNOT_RECORD
    assert said.startswith(f"state.directory: {tmp_path}/state cannot be used: ")
    assert "name another folder" in said
    opened(tmp_path / "journal").close()


def test_an_index_that_is_a_folder(tmp_path: Path) -> None:
    """An index that cannot be opened: 74, and the journal is given back."""
    settings = _config(state__directory=tmp_path)
    (tmp_path / "fills.idx").mkdir()
    assert _refused(settings)[0] == exits.CANNOT_RECORD
    assert descriptors(tmp_path / "journal") == []
    opened(tmp_path / "journal").close()


def test_no_room_for_the_state(tmp_path: Path) -> None:
    """A state that finds no room: 74."""
    with tmpfs(tmp_path / "disk", 8192) as disk:
        settings = _config(state__directory=disk, journal__directory=tmp_path / "journal")
        code, said = _refused(settings)
        assert code == exits.CANNOT_RECORD
        assert "make room there" in said


def test_other_streams(tmp_path: Path) -> None:
    """A journal belongs to the streams it was written for: other names are refused with 78."""
    with records.opened(_config(state__directory=tmp_path, streams__prefix="a:"), "A"):
        pass
    code, said = _refused(_config(state__directory=tmp_path, streams__prefix="b:"))
    assert code == exits.CONFIGURATION
    assert "belongs to the stream a:exec:orders, not to b:exec:orders (streams.*)" in said
    with records.opened(_config(state__directory=tmp_path, streams__prefix="a:"), "A"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"orders": 5}'])
def test_streams_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """What cannot be read of the streams ends in no traceback."""
    settings = _config(state__directory=tmp_path)
    with records.opened(settings, "A"):
        pass
    (tmp_path / "journal" / "streams.json").write_text(text)
    try:
        with records.opened(settings, "A"):
            pass
    except Exit as refused:
        assert refused.code == exits.CONFIGURATION


def test_closed_twice(tmp_path: Path) -> None:
    """A second close is harmless, and the folder is free."""
    kept = Records.open(_config(state__directory=tmp_path), "A")
    kept.close()
    kept.close()
    assert descriptors(tmp_path) == descriptors(tmp_path / "journal") == []
    assert (tmp_path / "journal" / LOCK).exists()
    opened(tmp_path / "journal").close()


@pytest.mark.parametrize("written_for", ["", "demo:"])
@pytest.mark.parametrize("redis", [{}, {"redis__url": "redis://h"}])
def test_a_command_asks_the_journal(
    tmp_path: Path, written_for: str, redis: dict[str, str]
) -> None:
    """Which streams a demo wrote depends on whose Redis it had: its journal says so, whatever Redis
    a command is given."""
    Records.open(_config(state__directory=tmp_path, streams__prefix=written_for), "A").close()
    settings = records.with_streams_of_journal(_config(state__directory=tmp_path, **redis))
    assert settings.stream_prefix == written_for


def test_a_command_without_a_journal(tmp_path: Path) -> None:
    """Without one the settings say it, as to the daemon; what they name stays with one, too."""
    mine = _config(state__directory=tmp_path)
    assert records.with_streams_of_journal(mine) is mine
    Records.open(mine, "A").close()
    others = _config(state__directory=tmp_path, streams__prefix="mine:")
    assert records.with_streams_of_journal(others).stream_prefix == "mine:"
