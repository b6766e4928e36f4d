"""The fills of a program of anyone's, out of a CSV file."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from acceptance.shape import NUMBER, Fill

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NS: Final = re.compile(r"[0-9]{1,19}")
BELOW_MICROSECONDS: Final = re.compile(r"\.[0-9]{6}[0-9]")


class FillsError(ValueError):
    """Fills that cannot be used; the message says where, what, and what was expected."""


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is read. `parse` raises ValueError with what is wrong with a text."""

    about: str
    parse: Callable[[str], Any]
    required: bool = True


def moment(text: str) -> int:
    """Return nanoseconds since 1970 of an ISO time (UTC where it names no zone) or of an integer.

    Raises ValueError.
    """
    if NS.fullmatch(text):
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or BELOW_MICROSECONDS.search(text):
        raise ValueError(f"{text!r} is no time; write ns since 1970 or 2025-07-01T00:00:05+00:00")
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (found - EPOCH) // timedelta(microseconds=1) * 1000


def _number(text: str) -> Decimal:
    if not re.fullmatch(NUMBER, text):
        raise ValueError(f"{text!r} is no decimal number; write it as 12.5")
    return Decimal(text)


def _positive(text: str) -> Decimal:
    if (number := _number(text)) <= 0:
        raise ValueError(f"{text!r} is not above 0; the side says the direction")
    return number


def _word(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text!r} is unknown; expected {' or '.join(known)}")
        return text

    return parse


def _name(text: str) -> str:
    if not text:
        raise ValueError("it is empty; name the symbol, as BTC")
    return text


COLUMNS: Final[Mapping[str, Column]] = {
    "ts": Column("when it filled: ns since 1970, or an ISO time (UTC unless it says)", moment),
    "symbol": Column("base currency, as BTC", _name),
    "leg": Column("spot or perp", _word("spot", "perp")),
    "side": Column("BUY or SELL", _word("BUY", "SELL")),
    "qty": Column("in base currency, above 0", _positive),
    "px": Column("in quote currency, above 0", _positive),
    "fee": Column("in quote currency, a rebate is negative", _number),
    "mid": Column("its own instrument's mid at ts; not needed with a dataset", _positive, False),
    "reason": Column("why the program traded", str, False),
}


def read(path: Path) -> list[Fill]:
    """Return the fills of the file, by time. Its first line names the columns, in any order.

    Raises FillsError with file, line and column of the first problem.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            fills = list(_rows(path, csv.reader(file, strict=True)))
    except OSError as error:
        raise FillsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FillsError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise FillsError(f"{path}: is no CSV: {error}") from None
    return sorted(fills, key=lambda fill: fill.ts)


def _rows(path: Path, reader: Any) -> Iterator[Fill]:
    header: list[str] = next(reader, [])
    required = [name for name, column in COLUMNS.items() if column.required]
    for name in header:
        if name not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise FillsError(f"{path}, line 1: column {name!r} is unknown; known are {known}")
        if header.count(name) > 1:
            raise FillsError(f"{path}, line 1: column {name!r} is there twice")
    if missing := [name for name in required if name not in header]:
        raise FillsError(
            f"{path}, line 1: column {missing[0]!r} is missing; write {','.join(required)}"
        )
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            where = f"{path}, line {reader.line_num}"
            raise FillsError(f"{where}: it has {len(row)} values, line 1 names {len(header)}")
        yield Fill(**dict(_values(path, reader.line_num, header, row)))


def _values(path: Path, line: int, header: list[str], row: list[str]) -> Iterator[tuple[str, Any]]:
    for name, text in zip(header, row, strict=True):
        column = COLUMNS[name]
        if text or column.required:
            try:
                yield name, column.parse(text.strip())
            except ValueError as error:
                raise FillsError(f"{path}, line {line}, column {name}: {error}") from None
