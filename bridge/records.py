"""What a bridge keeps on the disk: the journal, the index of fills, the latch."""

import contextlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog

from bridge import exits, journal_directory
from bridge.core.contract import EXEC_KINDS, Names
from bridge.exits import Exit
from bridge.fill_index import FillIndex
from bridge.journal import Journal, Limits
from bridge.latch import LatchFile
from bridge.settings import Config

log = structlog.get_logger("nautilus_bridge.records")

STREAMS: Final = "streams.json"


class Records:
    """Everything on the disk, open, in the folder `state`. `are_kept`: it outlives the process."""

    def __init__(
        self,
        journal: Journal,
        fills: FillIndex,
        latch: LatchFile,
        *,
        state: Path,
        are_kept: bool,
        locks: Sequence[int] = (),  # open files that hold the folders
    ) -> None:
        self.journal = journal
        self.fills = fills
        self.latch = latch
        self.state = state
        self.are_kept = are_kept
        self._locks = list(locks)

    @classmethod
    def open(cls, config: Config, producer_id: str, *, are_kept: bool = True) -> "Records":
        """Open what `config` names. Raises Exit."""
        journal_path, state_path = config.journal_directory, config.state_directory
        assert journal_path is not None and state_path is not None
        with contextlib.ExitStack() as undo:
            try:
                locks = []
                if state_path != journal_path:
                    locks.append(journal_directory.lock(state_path, "state.directory"))
                    undo.callback(os.close, locks[0])
                _check_streams(journal_path, Names(config.stream_prefix, config.streams.templates))
                journal = Journal.open(journal_path, producer_id, limits(config))
                undo.callback(journal.close)
                fills, latch = FillIndex(state_path, journal), LatchFile(state_path)
            except (OSError, sqlite3.Error) as error:
                raise Exit(
                    exits.CANNOT_RECORD,
                    f"state.directory: {state_path} cannot be used: {error}; make room there, or "
                    "name another folder",
                ) from None
            undo.pop_all()
            return cls(journal, fills, latch, state=state_path, are_kept=are_kept, locks=locks)

    def close(self) -> None:
        """Make everything durable and give it back."""
        with contextlib.suppress(sqlite3.Error):
            self.fills.close()
        self.journal.close()
        while self._locks:
            os.close(self._locks.pop())


@contextlib.contextmanager
def opened(config: Config, producer_id: str) -> Iterator[Records]:
    """Keep records while the body runs; in a temporary folder where `config` names none."""
    with contextlib.ExitStack() as stack:
        are_kept = config.journal_directory is not None
        if not are_kept and config.role != "demo":
            log.warning(
                "state.temporary",
                effect="a kill loses the journal, and a halt that Redis loses too",
                remedy="set state.directory",
            )
        if not are_kept:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nautilus-bridge-"))
            state = config.state.model_copy(update={"directory": Path(folder)})
            config = config.model_copy(update={"state": state})
        records = Records.open(config, producer_id, are_kept=are_kept)
        stack.callback(records.close)
        yield records


def with_streams_of_journal(config: Config) -> Config:
    """Return the settings for a command. Which streams a demo writes depends on whose Redis it has,
    and a command may be given another one (`--url`): its journal, where there is one, says."""
    if config.streams.prefix is not None or config.role != "demo":
        return config
    folder, template = config.journal_directory, config.streams.templates["orders"]
    known = "" if folder is None else _known_streams(folder).get("orders", "")
    if not known.endswith(template):
        return config
    streams = config.streams.model_copy(update={"prefix": known.removesuffix(template)})
    return config.model_copy(update={"streams": streams})


def _known_streams(folder: Path) -> dict[str, str]:
    """Return which streams a journal was written for, by kind; empty when it does not say."""
    try:
        return dict(json.loads((folder / STREAMS).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _check_streams(folder: Path, names: Names) -> None:
    """Make sure that a journal goes to the streams that it was written for, and to no others.

    What it holds would be sent there again: all of it is new to them. Raises Exit (CONFIGURATION),
    OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, known = folder / STREAMS, _known_streams(folder)
    wanted = {kind: names.key(kind) for kind in EXEC_KINDS}
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
