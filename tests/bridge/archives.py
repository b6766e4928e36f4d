"""An archive as the tests use it: entries in, records out, and how its files are changed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bridge import archive_segments
from bridge.archive import Archive, Head
from bridge.archive_verify import verify
from bridge.core.contract import EXEC_KINDS
from bridge.reading import Item, Place, digest_of, item_of

STREAMS: Final = {kind: f"test:{kind}" for kind in EXEC_KINDS}
PRODUCER: Final = "A.00000000.1"
# So small that a few batches fill several segments.
SEGMENT_BYTES: Final = 2_000


def opened(directory: Path, **options: Any) -> Archive:
    return Archive.open(directory, STREAMS, **{"segment_bytes": SEGMENT_BYTES} | options)


def entry(seq: int, kind: str = "fills", producer: str = PRODUCER, **fields: str) -> Item:
    """Return an entry of ours, with an id of its own."""
    named = {"price": "100.5"} | fields
    named |= {"producer": producer, "seq": str(seq), "jseq": str(seq), "v": "1"}
    return item_of(kind, f"{1000 + seq}-0", flat(named.items()))


def entries(first: int, last: int, kind: str = "fills", producer: str = PRODUCER) -> list[Item]:
    return [entry(seq, kind, producer) for seq in range(first, last + 1)]


def foreign(entry_id: str, kind: str = "fills", **fields: str) -> Item:
    """Return an entry of somebody else's."""
    return item_of(kind, entry_id, flat({"price": "7", **fields}.items()))


def flat(pairs: Any) -> list[bytes]:
    return [text.encode() for pair in pairs for text in pair]


def feed(archive: Archive, items: Sequence[Item]) -> None:
    """Have items taken as a reader does: with the places of the last ones."""
    places = {item.kind: Place(item.id, digest_of(item.fields)) for item in items if item.id}
    assert not archive.take(items, places)


def kept(directory: Path) -> list[Item]:
    """Return what an archive holds."""
    records = archive_segments.records(directory)
    return [item_of(record.kind, record.id, record.fields) for record in records]


def fill(directory: Path, batches: int = 6, **options: Any) -> list[Head]:
    """Make an archive of several segments; return the heads that it published."""
    heads: list[Head] = []
    archive = opened(directory, on_head=heads.append, **options)
    for number in range(batches):
        feed(archive, entries(8 * number + 1, 8 * number + 8))
        feed(
            archive,
            [foreign(f"{number + 1}-1", "orders"), *entries(number + 1, number + 1, "control")],
        )
    archive.close()
    return heads


def assert_whole(directory: Path, heads: Sequence[str] = ()) -> None:
    found = verify(directory, heads)
    assert found.broken is None, str(found.broken)


def arcs(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.arc"))


def manifests(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.json"))


def snapshot(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.iterdir()}


def restore(directory: Path, files: dict[Path, bytes]) -> None:
    """Set the folder back to a snapshot."""
    for path in directory.iterdir():
        path.unlink()
    for path, data in files.items():
        path.write_bytes(data)


def failing(name: str, function: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    """Return a function of `os` that fails at the call when `left` is used up; writes do half."""

    def wrapped(*words: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            if name == "pwrite":
                function(words[0], words[1][: len(words[1]) // 2], words[2])
            raise OSError(28, "No space left on device")
        return function(*words, **named)

    return wrapped
