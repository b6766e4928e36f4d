"""Settings of the readers of the exec streams: the ledger and the archive."""

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from bridge.section import Section, empty_is_unset, setting


def _reader(what: str) -> Any:
    return setting(
        "inside", "",
        f"Who feeds the {what}: the daemon, `python -m bridge {what} --follow`, or nobody. Unless"
        " off, the journal keeps what it has not taken.",
    )  # fmt: skip


class ReaderSettings(Section):
    batch_entries_max: int = setting(
        512, "entries per stream", "Read at once, and taken in one step.", ge=1, le=10_000
    )
    linger_seconds: float = setting(
        0.1, "seconds", "Pause between two looks at streams that have nothing new.",
        ge=0.01, le=60,
    )  # fmt: skip


class LedgerSettings(Section):
    reader: Literal["inside", "alone", "off"] = _reader("ledger")
    path: Path | None = setting(
        None, "file", "The ledger, SQLite. Unset: `ledger.db` below state.directory."
    )

    _unset = field_validator("path", mode="before")(empty_is_unset)


class ArchiveSettings(Section):
    reader: Literal["inside", "alone", "off"] = _reader("archive")
    directory: Path | None = setting(
        None, "folder", "The write-once archive. Unset: `archive` below state.directory."
    )
    segment_bytes: int = setting(
        1 << 26, "bytes", "A segment that holds so many is sealed: read-only, with a manifest.",
        ge=1 << 12, le=1 << 32,
    )  # fmt: skip
    head_records: int = setting(
        1_000, "records", "After so many, the archive's head is published and logged.",
        ge=1, le=10_000_000,
    )  # fmt: skip

    _unset = field_validator("directory", mode="before")(empty_is_unset)
