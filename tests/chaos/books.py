"""What ledger and archive have kept, against the record: each event once, and the books right."""

import contextlib
import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

from bridge import archive_segments
from bridge.archive_verify import verify
from bridge.core.contract import ARCHIVE_KIND, EXEC_KINDS
from bridge.history import JournalHistory
from bridge.ledger import Ledger
from bridge.ledger_state import State
from bridge.ledger_tables import FILL_FIELDS
from bridge.ledger_view import LedgerView
from bridge.readers import KINDS
from bridge.reading import Item, Taken, item_of
from tests.chaos import checker, record
from tests.chaos.checker import Verdict
from tests.chaos.record import Event, Found
from tests.chaos.rig import KEYS, NAMES, PRODUCER, Rig, TradingDaemon

# Whose fills are somebody else's: no record tells of them.
STRANGER: Final = "STRANGER-001"
NOTHING: Final = Decimal(0)
BATCH_ENTRIES: Final = 500
FILLS: Final = f"SELECT producer, seq, {', '.join(FILL_FIELDS)} FROM fill ORDER BY n"


def directory(folder: Path) -> Path:
    """Return where the archive of a run is."""
    return folder / "state" / "archive"


def ledger(folder: Path) -> Path:
    """Return where its ledger is."""
    return folder / "state" / "ledger.db"


def until_read(rig: Rig, daemon: TradingDaemon | None = None) -> None:
    """Wait until both readers have all that the journal holds now."""
    ends: dict[tuple[str, str], int] = {}
    for item in JournalHistory(rig.folder / "state" / "journal").walk():
        ends[item.kind, item.producer] = item.seq

    def is_read() -> bool:
        return all(
            seq <= taken[key].last if key in taken else False
            for name, taken in _taken(rig).items()
            for key, seq in ends.items()
            if key[0] in KINDS[name]
        )

    rig.until(is_read, "the readers have read all", daemon)


def verdict(
    rig: Rig, *, counts: Mapping[str, Decimal] | None = None, in_redis: bool = True
) -> Verdict:
    """Compare the record with what is kept; all processes have ended.

    `counts` are by trade id what fills count for in the position, where that is not their quantity.
    AssertionError when what is kept is not whole, or does not agree.
    """
    records = [record.read(rig.record())]
    entries = archived(directory(rig.folder))
    of_ledger = {"fills": booked(ledger(rig.folder), entries["fills"])}
    named = checker.holes(entries["control"], {key: kind for kind, key in KEYS.items()})
    of_fills = [[only_fills(event) for event in events] for events in records]
    judged = [
        checker.check(records, entries, holes=named, in_hand_max=rig.kills),
        checker.check(of_fills, of_ledger, in_hand_max=rig.kills),
    ]
    if in_redis:
        judged.append(rig.verdict())
    gaps = logged(rig, "reader.gap")
    notes = [f"a reader told of a gap: {gap}" for gap in gaps]
    again = strangers_doubled(directory(rig.folder))
    notes += [f"somebody else's is archived again: {each}" for each in again]
    first = judged[0]
    found = Verdict(
        events=first.events,
        entries=first.entries,
        lost=sum([each.lost for each in judged]),
        doubled=sum([each.doubled for each in judged]) + len(again),
        reordered=sum([each.reordered for each in judged]),
        gaps=sum([each.gaps for each in judged]) + len(gaps),
        invented=sum([each.invented for each in judged]),
        in_hand=max(each.in_hand for each in judged),
        notes=(*notes, *[note for each in judged for note in each.notes]),
    )
    if found.is_clean:
        _check_whole(rig)
        check_books(rig.folder, entries["fills"], counts or {})
    return found


def logged(rig: Rig, event: str) -> list[str]:
    """Return what the processes of a run have logged of an event, a line each."""
    wanted = f'"event": "{event}"'
    texts = [path.read_text(errors="replace") for path in rig.folder.glob("process-*/*")]
    return [line for text in texts for line in text.splitlines() if wanted in line]


def _taken(rig: Rig) -> dict[str, Taken]:
    """Return what each reader has taken by now, nothing where it has not begun."""
    found: dict[str, Taken] = {"archive": {}, "ledger": {}}
    if directory(rig.folder).exists():
        found["archive"] = archive_segments.cursors(directory(rig.folder)).taken
    if ledger(rig.folder).exists():
        with contextlib.closing(LedgerView.read_only(ledger(rig.folder))) as view:
            found["ledger"] = view.taken_now()
    return found


def _items(folder: Path) -> Iterator[Item]:
    for each in archive_segments.records(folder):
        yield item_of(each.kind, each.id, each.fields)


def archived(folder: Path) -> dict[str, list[Found]]:
    """Return our entries in an archive as if it were the streams."""
    entries: dict[str, list[dict[str, str]]] = {kind: [] for kind in EXEC_KINDS}
    for item in _items(folder):
        if item.producer.partition(".")[0] == PRODUCER:
            texts = [each.decode() for each in item.fields]
            entries[item.kind].append(dict(itertools.batched(texts, 2)))
    return {kind: list(record.found(kind, told)) for kind, told in entries.items()}


def booked(path: Path, archived: list[Found]) -> list[Found]:
    """Return our fills in a ledger; their jseq, which it does not keep, is that of the archive."""
    jseqs = {(each.producer, each.seq): each.jseq for each in archived}
    address = f"file:{path}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
        rows = database.execute(FILLS).fetchall()
        [[again]] = database.execute("SELECT count(*) FROM duplicate").fetchall()
    assert not again, f"{again} fills were told again under other numbers"
    named = (
        {"producer": producer, "seq": seq, "jseq": jseqs.get((producer, seq), 0)}
        | dict(zip(FILL_FIELDS, values, strict=True))
        for producer, seq, *values in rows
        if producer.partition(".")[0] == PRODUCER
    )
    return list(record.found("fills", named))


def only_fills(event: Event) -> Event:
    """Return an event without its entries in other streams."""
    return event._replace(entries=tuple([each for each in event.entries if each[0] == "fills"]))


def strangers_doubled(folder: Path) -> list[str]:
    """Return what of somebody else's is there twice; no two of them are alike."""
    found = Counter((item.kind, *item.fields) for item in _items(folder) if not item.producer)
    return [str(each) for each, number in found.items() if number > 1]


def _check_whole(rig: Rig) -> None:
    """The archive is whole up to each head that Redis has; all places agree."""
    heads = [fields["root"] for _, fields in rig.server.client.xrange(NAMES.key(ARCHIVE_KIND))]
    found = verify(directory(rig.folder), heads)
    assert found.broken is None, str(found.broken)
    rig.command("audit")


def check_books(folder: Path, fills: list[Found], counts: Mapping[str, Decimal]) -> None:
    """The books are what their fills come to, what a new ledger makes of them, and right."""
    with contextlib.closing(LedgerView.read_only(ledger(folder))) as view:
        assert view.is_consistent(), "the ledger is not what its fills come to"
        ours, fresh = _ours(view.state()), _ours(_from_scratch(folder))
    for name, kept, again in zip(State._fields, ours, fresh, strict=True):
        assert kept == again, f"the ledger's {name} are not what a new one makes of the archive"
    position = sum([lot.qty for book in ours.books.values() for lot in book.lots], start=NOTHING)
    right = sum([_counts_for(fill, counts) for fill in fills], start=NOTHING)
    assert position == right, f"the ledger's position is {position}, and {right} is right"


def _ours(state: State) -> State:
    """Return a state without somebody else's, who has an account of his own."""
    books = {key: book for key, book in state.books.items() if key.account != STRANGER}
    totals = {key: total for key, total in state.totals.items() if key[0] != STRANGER}
    return state._replace(books=books, totals=totals)


def _from_scratch(folder: Path) -> State:
    """Return what a new ledger comes to that reads the archive."""
    again = Ledger.open(folder / "again.db", KEYS)
    try:
        items = (item for item in _items(directory(folder)) if item.kind in again.kinds)
        for batch in itertools.batched(items, BATCH_ENTRIES):
            again.take(batch, {})
        return again.state()
    finally:
        again.close()


def _counts_for(fill: Found, counts: Mapping[str, Decimal]) -> Decimal:
    said = dict(zip(record.FIELDS["fills"], fill.values, strict=True))
    qty = Decimal(said["qty"]) * (1 if said["side"] == "BUY" else -1)
    return counts.get(said["trade_id"], qty)
