"""What an archive holds up to one of its lines: its cursors, and what a segment's manifest says."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bridge.core import chain
from bridge.core.spans import Spans
from bridge.reading import Item, Place

VERSION: Final = 1


class Foreign(NamedTuple):
    """What is known of somebody else's entries of a kind: how many, and their highest stream id."""

    entries: int
    last: str


@dataclass
class Tally:
    """What an archive holds up to one of its lines; the second half is of one segment."""

    archive: str = ""
    streams: Mapping[str, str] = field(default_factory=dict)
    last: int = 0
    root: bytes = chain.BEGIN
    manifest: str = ""
    taken: dict[tuple[str, str], Spans] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    foreign: dict[str, Foreign] = field(default_factory=dict)

    segment: int = 0
    first: int = 1
    size: int = 0
    lines: int = 0
    before: bytes = chain.BEGIN
    counts: dict[str, int] = field(default_factory=dict)

    def next_head(self, created_ns: int) -> bytes:
        """Return the text of the head of the next segment."""
        return chain.encode_head(
            {
                "archive": self.archive,
                "segment": self.segment + 1,
                "after": self.last,
                "manifest": self.manifest,
                "streams": dict(self.streams),
                "ts_ns": created_ns,
                "v": VERSION,
            }
        )

    def begin(self, text: bytes, root: bytes) -> None:
        """Count in the head of the next segment. Raises ValueError when it is not that."""
        head = json.loads(text)
        ours = json.loads(self.next_head(0)) | {"ts_ns": head.get("ts_ns")}
        if not self.segment:
            ours |= {"archive": head.get("archive"), "streams": head.get("streams")}
        if head.get("manifest") != self.manifest:
            raise ValueError("it names another manifest before it")
        if head != ours:
            raise ValueError("it is not the head of this segment")
        self.archive, self.streams = head["archive"], head["streams"]
        self.segment, self.first, self.before = self.segment + 1, self.last + 1, self.root
        self.size, self.lines, self.counts = len(text) + chain.TAIL_BYTES, 1, {}
        self.root = root

    def count(self, item: Item, size: int, root: bytes) -> None:
        """Count in the next record, whose line has `size` bytes."""
        kind = item.kind
        self.last += 1
        self.lines += 1
        self.size += size
        self.root = root
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if item.producer:
            spans = self.taken.get((kind, item.producer))
            if spans is None:
                spans = self.taken[kind, item.producer] = Spans()
            spans.add(item.seq)
        else:
            known = self.foreign.get(kind, Foreign(0, ""))
            last = max(known.last, item.id, key=id_key)
            self.foreign[kind] = Foreign(known.entries + 1, last)

    def as_manifest(self, created_ns: int) -> dict[str, Any]:
        """Return what the manifest of this segment says, were it sealed now."""
        taken: dict[str, dict[str, list[tuple[int, int]]]] = {}
        for (kind, producer), spans in self.taken.items():
            taken.setdefault(kind, {})[producer] = list(spans)
        return {
            "archive": self.archive,
            "segment": self.segment,
            "first": self.first,
            "last": self.last,
            "records": self.last - self.first + 1,
            "bytes": self.size,
            "before": self.before.hex(),
            "root": self.root.hex(),
            "counts": self.counts,
            "taken": taken,
            "foreign": self.foreign,
            "places": {kind: (place.id, place.digest.hex()) for kind, place in self.places.items()},
            "streams": dict(self.streams),
            "created_ns": created_ns,
            "v": VERSION,
        }

    @classmethod
    def of_manifest(cls, data: bytes) -> "Tally":
        """Return what an archive held when a segment was sealed. Raises ValueError."""
        try:
            known = json.loads(data)
            return cls(
                archive=known["archive"],
                streams=known["streams"],
                last=known["last"],
                root=bytes.fromhex(known["root"]),
                manifest=digest_of_manifest(data),
                taken={
                    (kind, producer): Spans([(first, last) for first, last in runs])
                    for kind, producers in known["taken"].items()
                    for producer, runs in producers.items()
                },
                places={
                    kind: Place(entry_id, bytes.fromhex(digest))
                    for kind, (entry_id, digest) in known["places"].items()
                },
                foreign={kind: Foreign(*each) for kind, each in known["foreign"].items()},
                segment=known["segment"],
                first=known["first"],
                size=known["bytes"],
                before=bytes.fromhex(known["before"]),
                counts=known["counts"],
            )
        except (KeyError, TypeError, AttributeError):
            raise ValueError("it is no manifest") from None


def id_key(entry_id: str) -> tuple[int, int]:
    """Return what orders stream ids."""
    ms, _, number = entry_id.partition("-")
    return int(ms or 0), int(number or 0)


def digest_of_manifest(data: bytes) -> str:
    """Return what the head of the next segment says of a manifest."""
    return hashlib.sha256(data).hexdigest()
