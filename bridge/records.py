"""What a bridge keeps on the disk: the journal, the index of fills, the latch."""

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bridge import exits
from bridge.core.contract import EXEC_KINDS, Names
from bridge.exits import Exit
from bridge.fill_index import FillIndex
from bridge.journal import Journal, Limits
from bridge.latch import Latch
from bridge.settings import Config

STREAMS: Final = "streams.json"


class Records:
    """Everything on the disk, open. `are_kept`: it outlives the process."""

    def __init__(self, journal: Journal, fills: FillIndex, latch: Latch, *, are_kept: bool) -> None:
        self.journal = journal
        self.fills = fills
        self.latch = latch
        self.are_kept = are_kept

    @classmethod
    def open(cls, config: Config, producer_id: str, *, are_kept: bool = True) -> "Records":
        """Open what `config` names. Raises Exit.

        CANNOT_RECORD also when the latch is set: a journal failed here before.
        """
        journal_path, state_path = config.journal_directory, config.state_directory
        assert journal_path is not None and state_path is not None
        journal = None
        try:
            latch = _open_latch(state_path)
            _check_streams(journal_path, Names(config.stream_prefix, config.streams.templates))
            journal = Journal.open(journal_path, producer_id, limits(config))
            return cls(journal, FillIndex(state_path, journal), latch, are_kept=are_kept)
        except (OSError, sqlite3.Error) as error:
            if journal is not None:
                journal.close()
            raise Exit(
                exits.CANNOT_RECORD,
                f"state.directory: {state_path} cannot be used: {error}; make room there, or name "
                "another folder",
            ) from None

    def close(self) -> None:
        """Make everything durable and give it back."""
        with contextlib.suppress(sqlite3.Error):
            self.fills.close()
        self.journal.close()


@contextlib.contextmanager
def opened(config: Config, producer_id: str) -> Iterator[Records]:
    """Keep records while the body runs; in a temporary folder where `config` names none."""
    with contextlib.ExitStack() as stack:
        are_kept = config.journal_directory is not None
        if not are_kept:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nautilus-bridge-"))
            state = config.state.model_copy(update={"directory": Path(folder)})
            config = config.model_copy(update={"state": state})
        records = Records.open(config, producer_id, are_kept=are_kept)
        stack.callback(records.close)
        yield records


def _open_latch(folder: Path) -> Latch:
    """Return the latch in `folder`. Raises Exit (CANNOT_RECORD) when it is set, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    latch = Latch(folder)
    held = latch.reason
    if held is not None:
        raise Exit(
            exits.CANNOT_RECORD,
            f"halted: {held}; see to it, then clear it with `python -m bridge resume "
            f"--directory {folder}`",
        )
    return latch


def _check_streams(folder: Path, names: Names) -> None:
    """Make sure that a journal goes to the streams that it was written for, and to no others.

    What it holds would be sent there again: all of it is new to them. Raises Exit (CONFIGURATION),
    OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STREAMS
    wanted = {kind: names.key(kind) for kind in EXEC_KINDS}
    try:
        known = dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        known = {}
    for kind, key in wanted.items():
        if known.get(kind, key) != key:
            raise Exit(
                exits.CONFIGURATION,
                f"journal.directory: {folder} belongs to the stream {known[kind]}, not to {key} "
                "(streams.*); name another folder",
            )
    if known != wanted:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(wanted))
        fresh.rename(path)


def limits(config: Config) -> Limits:
    """Return how the journal is to be kept."""
    journal = config.journal
    return Limits(
        fsync=journal.fsync,
        segment_bytes=journal.segment_bytes,
        bytes_max=journal.bytes_max,
        retain_ns=round(journal.retain * 1e9),
    )
