"""The orders of a venue whose fills reconciliation tells of, as a file that outlives processes.

A line where an order begins, with all its fills, and one for each fill before it is told.
"""

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple


class Told(NamedTuple):
    """A fill to be told, in its order's line. `counts`: by how much it changes the position."""

    trade_id: str
    qty: str
    ts_ns: int
    recon: bool
    counts: str


class Story(NamedTuple):
    """An order of the venue and its fills, in the order in which they are told."""

    order: str
    side: str
    fills: list[Told]


class Stories:
    """The file, to add to. `unfinished` is what former processes have begun, and not told."""

    def __init__(self, path: Path) -> None:
        told = {line["told"] for line in _lines(path) if "told" in line}
        left = [
            story._replace(fills=[fill for fill in story.fills if fill.trade_id not in told])
            for story in _stories(path)
        ]
        self.unfinished = [story for story in left if story.fills]
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def begin(self, story: Story) -> None:
        """Write an order down."""
        self._write({"story": story})

    def tell(self, told: Told) -> None:
        """Note that a fill is told now."""
        self._write({"told": told.trade_id})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")


def counts(path: Path) -> dict[str, Decimal]:
    """Return by trade id what each fill counts for in the position, signed."""
    return {told.trade_id: Decimal(told.counts) for story in _stories(path) for told in story.fills}


def _stories(path: Path) -> Iterator[Story]:
    for line in _lines(path):
        if "story" in line:
            order, side, fills = line["story"]
            yield Story(order, side, [Told._make(fill) for fill in fills])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text().splitlines() if path.exists() else ():
        yield json.loads(text)
