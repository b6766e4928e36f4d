"""The open segment of the archive: appended to, sealed, and taken over after any kill."""

import contextlib
import errno
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import structlog

from bridge import archive_segments, exits, journal_directory
from bridge.archive_segments import Damaged, manifest_path, segment_path
from bridge.archive_tally import Tally, digest_of_manifest
from bridge.core import chain
from bridge.exits import Exit
from bridge.reading import Item
from bridge.segments import write_at

log = structlog.get_logger("nautilus_bridge.archive")

READ_ONLY: Final = 0o444


class Writer:
    """Writes behind the last record. `tally` is what is durable; nothing else counts.

    `lock` is the descriptor that holds the folder.
    """

    def __init__(self, directory: Path, tally: Tally, lock: int) -> None:
        self.directory = directory
        self.tally = tally
        self._lock = lock
        # What a kill had left of a line, cut off by `resume`.
        self.torn_bytes = 0
        # The open segment, None until it is begun.
        self._descriptor: int | None = None

    def resume(self, number: int, streams: Mapping[str, str], *, is_begun: bool) -> None:
        """Go on where the last writer ended, at whatever step. Raises Damaged, Exit, OSError."""
        tally = self.tally
        if number > 1:
            sealed = segment_path(self.directory, number - 1)
            if sealed.stat().st_size != tally.size:
                raise Damaged(sealed, f"its manifest says that it has {tally.size} bytes", line=1)
        if is_begun:
            self._scan(number)
        if not tally.archive:
            tally.archive, tally.streams = uuid4().hex, dict(streams)
        elif dict(tally.streams) != dict(streams):
            raise Exit(
                exits.CONFIGURATION,
                f"archive.directory: {self.directory} is the archive of other streams:"
                f" {', '.join(tally.streams.values())}; name another folder",
            )
        if self.torn_bytes:
            told = {"directory": str(self.directory), "dropped_bytes": self.torn_bytes}
            log.warning("archive.torn", segment=number, after_record=tally.last, **told)
        if tally.segment < number:
            self.begin()
            return
        self._descriptor = os.open(segment_path(self.directory, number), os.O_RDWR)
        self._cut()
        os.fdatasync(self._descriptor)  # whatever counts as taken from now on

    def _scan(self, number: int) -> None:
        """Count in what the open segment holds. Raises Damaged, OSError."""
        tally, path = self.tally, segment_path(self.directory, number)
        archive_segments.take_in(self.directory, number, tally)
        end = tally.size if tally.segment == number else 0
        self.torn_bytes = path.stat().st_size - end

    @property
    def is_open(self) -> bool:
        """Whether there is a segment to append to."""
        return self._descriptor is not None

    def append(self, items: Sequence[Item]) -> None:
        """Write records behind the last one. Raises OSError; none of them counts then."""
        tally, descriptor = self.tally, self._descriptor
        assert descriptor is not None
        lines, roots, root = [], [], tally.root
        for n, item in enumerate(items, tally.last + 1):
            text = chain.encode(n, item.kind, item.id, item.fields)
            root = chain.digest(root, text)
            roots.append(root)
            lines.append(chain.line(text, root))
        self._cut()
        try:
            write_at(descriptor, b"".join(lines), tally.size)
            os.fdatasync(descriptor)
            self._check()
        except OSError:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        for item, line, root in zip(items, lines, roots, strict=True):
            tally.count(item, len(line), root)

    def _cut(self) -> None:
        """Cut off what was written and does not count. Raises Damaged, OSError."""
        descriptor, tally = self._descriptor, self.tally
        assert descriptor is not None
        size = os.fstat(descriptor).st_size
        if size < tally.size:
            path = segment_path(self.directory, tally.segment)
            raise Damaged(path, f"it had {tally.size} bytes", line=tally.lines, offset=size)
        if size > tally.size:
            os.ftruncate(descriptor, tally.size)

    def _check(self) -> None:
        """Raise OSError when what is open is not what stands in the folder: removed, replaced."""
        opened = {self.directory / journal_directory.LOCK: self._lock}
        if self._descriptor is not None:
            opened[segment_path(self.directory, self.tally.segment)] = self._descriptor
        for path, descriptor in opened.items():
            if not os.path.samestat(path.stat(), os.fstat(descriptor)):
                raise OSError(errno.ESTALE, "it was replaced by another file", str(path))

    def begin(self) -> None:
        """Begin the next segment. Raises OSError; it can be called again then."""
        tally = self.tally
        self._check()
        if tally.segment:
            self._freeze(tally.segment)
        text = tally.next_head(time.time_ns())
        root = chain.digest(tally.root, text)
        path = segment_path(self.directory, tally.segment + 1)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_at(descriptor, chain.line(text, root), 0)
            os.fdatasync(descriptor)
            journal_directory.sync(self.directory)
        except OSError:
            os.close(descriptor)
            raise
        tally.begin(text, root)
        self._descriptor = descriptor

    def seal(self) -> None:
        """Give the open segment its manifest and close it. Raises OSError; then it stays open.

        Called behind an `append` that returned: nothing is in the file that does not count.
        """
        tally = self.tally
        self._cut()
        self._check()
        path = manifest_path(self.directory, tally.segment)
        text = json.dumps(tally.as_manifest(time.time_ns())).encode() + b"\n"
        fresh = path.with_suffix(".json.new")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_at(descriptor, text, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(path)
        tally.manifest = digest_of_manifest(text)
        self.leave()

    def _freeze(self, number: int) -> None:
        """Make a sealed segment read-only, and its manifest's name durable. Raises OSError."""
        segment_path(self.directory, number).chmod(READ_ONLY)
        manifest_path(self.directory, number).chmod(READ_ONLY)
        journal_directory.sync(self.directory)

    def leave(self) -> None:
        """Close the open segment."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
