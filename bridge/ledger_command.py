"""`python -m bridge ledger`: open lots, what was realized, and what is not settled."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from bridge import exits, ledger_tables
from bridge.core.fifo import CONTEXT
from bridge.exits import Exit
from bridge.ledger_view import CONFLICT, NO_CONFLICT, REPLACED, WAITING, LedgerView, Total
from bridge.reading import Dead

COLUMNS: Final = ("account", "venue", "symbol", "strategy", "day")
MONEY: Final = ("pnl", "fees", "funding", "net")
# Digits behind the point in the table; everywhere else numbers are exact.
PLACES: Final = 8
PLACES_MIN: Final = 2
GAP: Final = "  "

TITLES: Final = {
    "unpriced": "fees without a price: not in any sum above",
    "unlotted": "payments of fees out of books that did not hold the currency: no gain booked",
    "waiting": "fills of the venue wait to replace one made up in reconciliation",
    "replaced": "fills made up in reconciliation, replaced by the venue's own",
    "conflicts": "fills in conflict: another one has the same id; not booked",
    "dead": "entries that cannot be used",
}

# Shown by order, side and trade: account, instrument and run stand beside it or say nothing.
FILL_IDS: Final = ("fill_id", "lot")

type Row = dict[str, Any]


def report(
    path: Path, *, form: str = "table", by: Sequence[str] = COLUMNS, gains: bool = False
) -> tuple[list[str], int]:
    """Return what to print and the exit code. Reads only, also beside who writes.

    `form` is table, json or csv.
    `by` are the columns that totals are summed up by, each currency apart. The CSV has the gains
    or, without them, the totals; its lines end as RFC 4180 wants when a newline follows each.
    Raises Exit: USAGE for an unknown column, BAD_DATA where there is no ledger, or a
    damaged one.
    """
    if unknown := [name for name in by if name not in COLUMNS]:
        raise Exit(
            exits.USAGE, f"no such column: {', '.join(unknown)}; known: {', '.join(COLUMNS)}"
        )
    view = LedgerView.read_only(path)
    try:
        view.freeze()
        if form == "csv":
            return list(_csv(_gains(view) if gains else _totals(view, by))), exits.DONE
        parts = _parts(view, by, gains=gains)
        return (_json(parts) if form == "json" else list(_table(parts))), exits.DONE
    except sqlite3.DatabaseError as error:
        raise ledger_tables.damaged(path, error) from None
    finally:
        view.close()


def _parts(view: LedgerView, by: Sequence[str], *, gains: bool) -> dict[str, Any]:
    unbooked = [each._asdict() for each in view.unbooked()]
    parts: dict[str, Any] = {
        "totals": list(_totals(view, by)),
        "lots": [each._asdict() for each in view.lots()],
    }
    if gains:
        parts["gains"] = list(_gains(view))
    return parts | {
        "unpriced": [each._asdict() for each in view.unpriced()],
        "unlotted": [_without(each._asdict(), "fills") for each in view.unlotted()],
        "waiting": [_without(row, "state") for row in unbooked if row["state"] == WAITING],
        "replaced": [_without(row, "state") for row in unbooked if row["state"] == REPLACED],
        "conflicts": [_dead(each) for each in view.dead(CONFLICT)],
        "dead": [_dead(each) for each in view.dead(NO_CONFLICT)],
        "counts": view.counts()._asdict(),
    }


def _without(row: Row, name: str) -> Row:
    return {key: value for key, value in row.items() if key != name}


def _totals(view: LedgerView, by: Sequence[str]) -> Iterator[Row]:
    """Yield a row for each currency and each combination of the columns."""
    found: dict[tuple[str, ...], list[Decimal]] = {}
    for total in view.totals():
        key = (*[getattr(total, name) for name in by], total.ccy)
        sums = found.setdefault(key, [Decimal(0)] * 4)
        for place, amount in enumerate(_money(total)):
            sums[place] = CONTEXT.add(sums[place], amount)
    for key in sorted(found):
        yield dict(zip((*by, "ccy", *MONEY), (*key, *found[key]), strict=True))


def _money(total: Total) -> tuple[Decimal, ...]:
    net = CONTEXT.add(CONTEXT.subtract(total.pnl, total.fees), total.funding)
    return total.pnl, total.fees, total.funding, net


def _gains(view: LedgerView) -> Iterator[Row]:
    for gain in view.gains():
        yield gain._asdict()


def _dead(dead: Dead) -> Row:
    fields = [field.decode(errors="surrogateescape") for field in dead.fields]
    return {"kind": dead.kind, "id": dead.id, "error": dead.error, "fields": fields}


def _plain(value: object) -> object:
    """Return a number as its exact digits."""
    return f"{value:f}" if isinstance(value, Decimal) else value


def _json(parts: dict[str, Any]) -> list[str]:
    return [json.dumps(parts, indent=2, default=_plain)]


def _csv(rows: Iterable[Row]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r")
    for number, row in enumerate(rows):
        for line in ([list(row)] if not number else []) + [[_plain(each) for each in row.values()]]:
            writer.writerow(line)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()


def _table(parts: dict[str, Any]) -> Iterator[str]:
    counts = parts["counts"]
    yield "realized"
    yield from _aligned(parts["totals"])
    yield ""
    yield "open lots"
    yield from _aligned(parts["lots"])
    if "gains" in parts:
        yield ""
        yield "gains"
        yield from _aligned(parts["gains"])
    for name, title in TITLES.items():
        if parts[name]:
            yield ""
            yield f"{len(parts[name])} {title}"
            yield from _aligned([_without(row, "fields") for row in parts[name]])
    yield ""
    yield ", ".join([f"{n} {name}" for name, n in counts.items() if n or name == "fills"])


def _aligned(rows: list[Row]) -> Iterator[str]:
    """Yield a heading and the rows, in columns; numbers to the right."""
    if not rows:
        yield "  none"
        return
    shown = [[_shown(name, value) for name, value in row.items()] for row in rows]
    names = list(rows[0])
    widths = [max(map(len, column)) for column in zip(names, *shown, strict=True)]
    sides: list[Callable[[str, int], str]] = [
        str.rjust if isinstance(value, Decimal | int) else str.ljust for value in rows[0].values()
    ]
    for line in (names, *shown):
        cells = [side(text, width) for side, text, width in zip(sides, line, widths, strict=True)]
        yield f"  {GAP.join(cells)}".rstrip()


def _shown(name: str, value: object) -> str:
    if isinstance(value, Decimal):
        digits = f"{value:.{PLACES}f}".rstrip("0")
        point = digits.index(".") + 1 + PLACES_MIN
        return digits.ljust(point, "0")
    if isinstance(value, int) and name.endswith("_ns"):
        seconds, rest = divmod(value, 10**9)
        moment = datetime.fromtimestamp(seconds, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S}.{rest // 10**6:03d}"
    text = str(value)
    if name in FILL_IDS and text.count("|") >= 4:
        text = " ".join(text.split("|")[2:5])
    return "".join([each if each.isprintable() else "?" for each in text])
