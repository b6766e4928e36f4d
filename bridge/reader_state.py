"""What a reader knows between two steps, and what one step brings."""

from dataclasses import dataclass, field

from bridge.core.spans import Spans
from bridge.reader_link import question
from bridge.reading import Item, Place


@dataclass
class Stream:
    """One stream: `place` is the last entry that was read of it.

    `is_again`: it is read again, and entries of somebody else may have been taken before. `is_due`:
    there is more than the last page showed.
    """

    kind: str
    key: str
    place: Place
    entries_max: int
    is_again: bool = False
    is_due: bool = True
    marks: dict[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def question(self) -> bytes:
        return question(self.key, self.place, self.entries_max)


@dataclass
class Cursor:
    """Of one producer in one stream: all numbers up to `last` were taken or looked for in vain.

    `fresh` are those of this step: they are not the sink's yet.
    """

    last: int
    fresh: Spans = field(default_factory=Spans)


@dataclass
class Step:
    """What one step hands on, and the numbers it has to look for behind that."""

    items: list[Item] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    missing: list[tuple[str, str, int, int]] = field(default_factory=list)


def merged(items: list[Item]) -> list[Item]:
    """Return the entries of all streams in the order of their ids."""
    return sorted(items, key=_order) if len({each.kind for each in items}) > 1 else items


def _order(item: Item) -> tuple[int, int]:
    ms, _, n = item.id.partition("-")
    return int(ms), int(n)
