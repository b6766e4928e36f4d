"""The archive as a history for the ledger, beside who writes it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bridge import archive_segments
from bridge.reading import Item


class ArchiveHistory:
    """What an archive holds; nothing where there is none, and little where it is damaged.

    `archive verify` tells of the damage; the ledger does not wait for its repair.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, kind: str, producer: str, first: int, last: int) -> Iterator[Item]:
        """As History.find."""
        if self._directory.exists():
            with contextlib.suppress(archive_segments.Damaged):
                yield from archive_segments.find(self._directory, kind, producer, first, last)

    def lasts(self) -> dict[tuple[str, str], int]:
        """Return the last numbers, by (kind, producer): a lost ledger comes back from there."""
        with contextlib.suppress(FileNotFoundError, archive_segments.Damaged):
            taken = archive_segments.cursors(self._directory).taken
            return {key: spans.last for key, spans in taken.items()}
        return {}
