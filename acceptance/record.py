"""Results of a run: built from its books, written, read.

A file is canonical JSON (sorted keys, one notation per number, nothing that changes from run to
run such as a date or a path), so that equal runs have equal bytes and one sha256.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from acceptance import metrics
from acceptance.shape import (
    EXACT,
    RECORD,
    SCHEMA,
    TOTAL,
    VERSION,
    Data,
    Fill,
    Instrument,
    Metrics,
    Order,
    Record,
    Run,
    Settlement,
    Totals,
    text_of,
)

__all__ = [
    "SCHEMA", "TOTAL", "VERSION", "Data", "Fill", "Instrument", "Metrics", "Order", "Record",
    "RecordError", "Run", "Settlement", "Totals", "dumps", "load", "of_books", "save", "sha256",
    "text_of",
]  # fmt: skip

PROBLEMS_MAX: Final = 5  # that one message names
SUMMED: Final = ("price_spot", "price_perp", "funding", "fees", "net", "turnover")


class RecordError(ValueError):
    """A result file that cannot be used: which, where in it, what, and what was expected."""


def load(path: Path | str) -> Record:
    """Return the result in a file. Raises RecordError."""
    try:
        return RECORD.validate_json(Path(path).read_bytes(), strict=True)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        problems = error.errors(include_url=False)
        lines = [_problem(problem) for problem in problems[:PROBLEMS_MAX]]
        if more := len(problems) - PROBLEMS_MAX:
            lines += [f"and {more} more"] if more > 0 else []
        hint = "`python -m acceptance schema` prints what is expected"
        raise RecordError(f"{path}: " + "; ".join(lines) + f"; {hint}") from error


def dumps(record: Record) -> bytes:
    """Return the canonical file content of a result."""
    content = RECORD.dump_python(record, mode="json", exclude_none=True)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def save(record: Record, path: Path | str) -> str:
    """Write a result, whole or not at all; return the sha256 of the file. Raises OSError.

    A symlink stays one; a device or a pipe is written to, and never replaced.
    """
    target, content = Path(path), dumps(record)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file():
        target.write_bytes(content)
    else:
        _replace(target.resolve(), content)
    return hashlib.sha256(content).hexdigest()


def sha256(record: Record) -> str:
    """Return the hash of the file that `save` would write."""
    return hashlib.sha256(dumps(record)).hexdigest()


def of_books(
    books: Any,
    *,
    program: str,
    data: Data,
    instruments: Iterable[Any],
    params: Mapping[str, str],
    mode: Literal["full", "fast"] = "full",
    strategy: str = "basis_carry",
    mock: bool = False,
) -> Record:
    """Return the result of a run from its books: `legacy.Result`, or whatever is named like it.

    The books need `events, last_ts, fills, settlements, equity, days`; books without `orders` have
    one per fill, filled whole at once; without `denied` and `rejected` none was. A run that did
    not come to its end has no totals. `fast` leaves out orders, fills, funding and the curve.
    """

    def placed(row: Any) -> tuple[int, int, bool]:
        """Return where a row stands: programs differ in the order of what has one time."""
        return row.ts, data.symbols.index(row.symbol), getattr(row, "leg", "") != "spot"

    with localcontext(EXACT):
        done = tuple(_like(Fill, fill) for fill in sorted(books.fills, key=placed))
        orders = _orders(books, done, placed)
        paid = tuple(_like(Settlement, row) for row in sorted(books.settlements, key=placed))
        equity = tuple((ts, pnl) for ts, pnl in books.equity)
        days = tuple(
            (ts, {symbol: _like(Totals, row) for symbol, row in rows.items()})
            for ts, rows in books.days
        )
        last = days[-1][1] if days and days[-1][0] == data.end_ns else None
        full = mode == "full"
        return Record(
            schema=VERSION,
            program=program,
            strategy=strategy,
            mode=mode,
            mock=mock,
            data=data,
            instruments=tuple(_like(Instrument, row) for row in instruments),
            params=dict(params),
            run=Run(
                events=books.events,
                last_ts=books.last_ts,
                orders=None if orders is None else len(orders),
                fills=len(done),
                denied=getattr(books, "denied", 0),
                rejected=getattr(books, "rejected", 0),
                counts=_counts(books),
            ),
            totals=None if last is None else last | {TOTAL: summed(last)},
            metrics=metrics.of_run(data.symbols, orders or (), done, equity),
            days=days,
            orders=orders if full else None,
            fills=done if full else None,
            funding=paid if full else None,
            equity=equity if full else None,
        )


def summed(symbols: Mapping[str, Totals]) -> Totals:
    """Return the totals of all symbols together, which have no position."""
    with localcontext(EXACT):
        return Totals(
            **{
                name: sum((getattr(row, name) for row in symbols.values()), Decimal(0))
                for name in SUMMED
            }
        )


def _replace(target: Path, content: bytes) -> None:
    """Write a file aside, under a name that no other writer has, and put it in its place."""
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _orders(
    books: Any, fills: Sequence[Fill], placed: Callable[[Any], tuple[int, int, bool]]
) -> tuple[Order, ...] | None:
    """Return the orders; None when they would have to be made of fills without a mid."""
    if hasattr(books, "orders"):
        return tuple(_like(Order, order) for order in sorted(books.orders, key=placed))
    orders = [
        Order(f.ts, f.symbol, f.leg, f.side, f.qty, f.mid, f.mid, f.qty)
        for f in fills
        if f.mid is not None
    ]
    return tuple(orders) if len(orders) == len(fills) else None


def _counts(books: Any) -> dict[str, int]:
    """Return what the strategy counted, under the same names for both programs; no zeros."""
    if hasattr(books, "counts"):
        return {name: count for name, count in books.counts.items() if count}
    counts = {"decisions": books.decisions, "round_trips": len(books.round_trips)}
    for name in ("skipped", "exits", "unfilled"):
        counts |= {f"{name}.{cause}": count for cause, count in getattr(books, name).items()}
    return {name: count for name, count in counts.items() if count}


def _like[T](kind: type[T], row: object) -> T:
    """Return a record with the fields of `kind`, taken by name from something like it."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(row, name) for name in names})


def _problem(problem: Any) -> str:
    """Return one line: where, what was expected, what was there."""
    where = ".".join(str(step) for step in problem["loc"]) or "the file"
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return f"{where} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where} is not part of the schema"
    if kind == "json_invalid":
        return f"{where}: {message}"
    found = repr(problem["input"])
    return f"{where} is {found if len(found) < 50 else found[:50] + '...'}: {message}"
