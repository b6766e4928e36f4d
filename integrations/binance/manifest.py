"""The manifest of a dataset: instruments, time range, and what each file must hold."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from integrations.binance.layout import FILES, MANIFEST, REQUIRED

DECIMALS_MAX = 16  # of an instrument; more than any venue quotes
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AGAIN = "copy or generate the dataset again"
GENERATORS = ("integrations.binance sample", "integrations.binance.sample")  # a week, a half hour


class DatasetError(ValueError):
    """A dataset that cannot be used: `path` names the file or folder, the message the rest."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the instruments table. `fee` is the taker's fraction, `leg` is spot or perp."""

    id: str
    symbol: str
    leg: str
    tick: Decimal
    lot: Decimal
    min_notional: Decimal
    fee: Decimal
    base: str
    quote: str

    @property
    def price_decimals(self) -> int:
        """Return the decimals of prices: those the tick is written with."""
        return _decimals(self.tick)

    @property
    def size_decimals(self) -> int:
        """Return the decimals of sizes: those the lot is written with."""
        return _decimals(self.lot)


class FileEntry(NamedTuple):
    """What the manifest says of one file: its rows and the hash of its content."""

    rows: int
    sha256: str


class Manifest(NamedTuple):
    """What is known of a dataset before its files are read; `[start_ns, end_ns)` in ns UTC."""

    start_ns: int
    end_ns: int
    instruments: tuple[Instrument, ...]
    files: Mapping[str, FileEntry]

    @property
    def sha256(self) -> str:
        """Return a hash over the instruments, the time range and the content of every file."""
        files = {name: self.files[name].sha256 for name in sorted(self.files)}
        rows = [[str(value) for value in astuple(each)] for each in self.instruments]
        text = json.dumps([self.start_ns, self.end_ns, rows, files])
        return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Return the checked manifest of `directory`. Raises DatasetError."""
    path = directory / MANIFEST
    if not path.is_file():
        missing = path if directory.is_dir() else directory
        commands = [f"`python -m {module} {directory}`" for module in GENERATORS]
        raise DatasetError(missing, f"does not exist; generate a dataset: {', '.join(commands)}")
    try:
        content = json.loads(path.read_bytes())
        instruments = tuple(instrument_of_row(row) for row in content["instruments"])
        if len({(i.symbol, i.leg) for i in instruments}) < len(instruments):
            raise ValueError("two instruments have the same symbol and leg")
        if len({i.id for i in instruments}) < len(instruments):
            raise ValueError("two instruments have the same id")
        entries = _typed(content, "files", dict)
        files = {name: _file(entry) for name, entry in entries.items()}
        if unknown := files.keys() - FILES.keys():
            raise ValueError(f"files has {min(unknown)!r}, expected {', '.join(FILES)}")
        if absent := [name for name in REQUIRED if name not in files]:
            raise ValueError(f"files has no {absent[0]}, and nothing can stand in for it")
        return Manifest(_time(content, "start"), _time(content, "end"), instruments, files)
    except KeyError as error:
        raise DatasetError(path, f"{error} is missing in it; {AGAIN}") from error
    except (OSError, TypeError, ValueError) as error:
        raise DatasetError(path, f"broken: {error}; {AGAIN}") from error


def _file(entry: Mapping[str, object]) -> FileEntry:
    return FileEntry(_typed(entry, "rows", int), _typed(entry, "sha256", str))


def instrument_of_row(row: Mapping[str, object]) -> Instrument:
    """Return the instrument of a row of the table. Raises KeyError, ValueError."""
    leg = _typed(row, "leg", str)
    if leg not in ("spot", "perp"):
        raise ValueError(f"leg is {leg!r}, expected spot or perp")
    return Instrument(
        id=_typed(row, "id", str),
        symbol=_typed(row, "symbol", str),
        leg=leg,
        tick=_number(row, "tick", zero=False),
        lot=_number(row, "lot", zero=False),
        min_notional=_number(row, "min_notional", zero=True),
        fee=_number(row, "fee", zero=True),
        base=_typed(row, "base", str),
        quote=_typed(row, "quote", str),
    )


def _number(row: Mapping[str, object], key: str, *, zero: bool) -> Decimal:
    text = _typed(row, key, str)
    try:
        number = Decimal(text)
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{key} is {text!r}, expected a number {'from' if zero else 'above'} 0")
    if _decimals(number) > DECIMALS_MAX:
        raise ValueError(f"{key} is {text!r}, expected at most {DECIMALS_MAX} decimals")
    return number


def _typed[T](row: Mapping[str, object], key: str, kind: type[T]) -> T:
    value = row[key]
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {value!r}, expected {kind.__name__}")
    return value


def _time(content: Mapping[str, object], key: str) -> int:
    time = datetime.fromisoformat(_typed(content, key, str))
    if time.tzinfo is None:
        raise ValueError(f"{key} is {time}, without a time zone")
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
