"""The archive as a history for the ledger, beside who writes it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bridge import archive_segments
from bridge.reading import Item, Taken

# How long what was read counts: to read the open segment again for each hole takes too long.
KNOWN_SECONDS: Final = 10.0


class ArchiveHistory:
    """What an archive holds; nothing where there is none, and little where it is damaged.

    `archive verify` tells of the damage; the ledger does not wait for its repair.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._taken: Taken = {}
        self._known_until = 0.0

    def find(self, kind: str, producer: str, first: int, last: int) -> Iterator[Item]:
        """As History.find. What came in the last seconds is not always found."""
        if time.monotonic() >= self._known_until:
            self._look()
        runs = self._taken.get((kind, producer), ())
        if any(begin <= last and end >= first for begin, end in runs):
            with contextlib.suppress(FileNotFoundError, archive_segments.Damaged):
                yield from archive_segments.find(self._directory, kind, producer, first, last)

    def lasts(self) -> dict[tuple[str, str], int]:
        """Return the last numbers, by (kind, producer): a lost ledger comes back from there."""
        self._look()
        return {key: spans.last for key, spans in self._taken.items()}

    def _look(self) -> None:
        """See what the archive has taken."""
        self._taken = {}
        with contextlib.suppress(FileNotFoundError, archive_segments.Damaged):
            self._taken = archive_segments.cursors(self._directory).taken
        self._known_until = time.monotonic() + KNOWN_SECONDS
