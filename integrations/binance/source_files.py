"""Market data files -> Arrow batches, in constant memory: CSV (plain, zip, gzip) and Parquet.

Numbers of a CSV are parsed from their text into exact decimals. A value that is no number, or has
more decimals than asked for, is refused with file, line and column.
"""

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from integrations.binance.sniffing import Layout, headerless, read_layout

SUFFIXES: Final = (".csv", ".csv.gz", ".zip", ".parquet")
BLOCK_BYTES: Final = 1 << 20
LINE_BYTES: Final = 1 << 16
BATCH_ROWS: Final = 65_536
DIGITS_MAX: Final = 38  # of a decimal128
ENCRYPTED: Final = 1  # flag of a file in a zip

PRICES: Final = frozenset({"price", "bid", "ask", "open", "high", "low", "close"})
SIZES: Final = frozenset({"size", "bid_size", "ask_size", "volume"})
INTEGERS: Final = frozenset({"hours", "sequence"})
TIMES: Final = frozenset({"ts", "init"})


# What reading a file raises that is damaged, or packed in a way that is not known.
UNREADABLE: Final = (
    *(pa.ArrowException, OSError, EOFError, UnicodeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


class FileError(ValueError):
    """A market data file that cannot be used: `path` names it, the message the rest."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class Decimals(NamedTuple):
    """How many decimals the instrument's prices, sizes and rates have."""

    price: int
    size: int
    rate: int

    def of(self, field: str) -> int | None:
        """Return the decimals of a field, None when it is no decimal number."""
        name = field.partition(".")[0]
        if name in PRICES:
            return self.price
        if name in SIZES:
            return self.size
        return self.rate if name == "rate" else None


class Batch(NamedTuple):
    """Some rows under the names of the layout's fields; `done` is the share of the file so far."""

    rows: pa.RecordBatch
    done: float


@dataclass(frozen=True, slots=True)
class Source:
    """A file, what it holds, and the values of its first row by field (None: it has no row)."""

    path: Path
    layout: Layout
    names: Sequence[str]
    first: Mapping[str, str] | None
    header: bool = False

    @property
    def is_parquet(self) -> bool:
        """Tell whether the file is Parquet, not CSV."""
        return self.path.suffix == ".parquet"

    def place(self, row: int, field: str) -> str:
        """Return where a row's field is, for a message: rows count from 0, lines from 1."""
        where = f"row {row}" if self.is_parquet else f"line {row + 1 + self.header}"
        return f"{where}, column {self.layout.fields[field]}"

    def batches(self, decimals: Decimals, skip: int = 0) -> Iterator[Batch]:
        """Yield the rows after the first `skip`. Raises FileError for what cannot be read."""
        read = 0
        try:
            for batch in (self._parquet if self.is_parquet else self._csv)(decimals, skip):
                read += batch.rows.num_rows
                yield batch
        except UNREADABLE as error:
            if not self.is_parquet:
                with suppress(*UNREADABLE):
                    self._locate(decimals, skip + read)
            raise _unreadable(self.path, error) from error

    def _parquet(self, _: Decimals, skip: int) -> Iterator[Batch]:
        columns = list(self.layout.fields.values())
        with pq.ParquetFile(self.path) as file:
            groups: list[int] = []
            passed = 0
            for number in range(file.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                if not groups and passed + rows <= skip:
                    passed += rows
                else:
                    groups.append(number)
            total = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(BATCH_ROWS, groups, columns) if groups else ():
                start = min(batch.num_rows, max(0, skip - passed))
                passed += batch.num_rows
                rows = batch.select(columns).slice(start).rename_columns(list(self.layout.fields))
                if rows.num_rows:
                    yield Batch(rows, passed / total)

    def _csv(self, decimals: Decimals, skip: int) -> Iterator[Batch]:
        columns = list(self.layout.fields.values())
        types = {name: self._type(field, decimals) for field, name in self.layout.fields.items()}
        size = max(1, self.path.stat().st_size)
        with ExitStack() as stack:
            raw = stack.enter_context(self.path.open("rb"))
            content = stack.enter_context(_content(self.path, raw))
            if not content.read(1):
                return
            content.seek(0)
            reader = stack.enter_context(
                pyarrow.csv.open_csv(
                    content,
                    pyarrow.csv.ReadOptions(
                        use_threads=False,
                        block_size=BLOCK_BYTES,
                        column_names=list(self.names),
                        skip_rows=int(self.header),
                        skip_rows_after_names=skip,
                    ),
                    pyarrow.csv.ParseOptions(ignore_empty_lines=False),
                    pyarrow.csv.ConvertOptions(
                        include_columns=columns,
                        column_types=types,
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
            )
            for batch in reader:
                yield Batch(batch.rename_columns(list(self.layout.fields)), raw.tell() / size)

    def _type(self, field: str, decimals: Decimals) -> pa.DataType:
        scale = decimals.of(field)
        if scale is not None:
            return pa.decimal128(DIGITS_MAX, scale)
        if field in INTEGERS or (field in TIMES | {"id"} and self.is_number(field)):
            return pa.int64()
        return pa.timestamp("ns") if field in TIMES else pa.string()

    def is_number(self, field: str) -> bool:
        """Tell whether the field's first value is an integer that fits 64 bits."""
        value = "" if self.first is None else self.first[field]
        return value.isascii() and value.isdecimal() and len(value) < 20

    def _locate(self, decimals: Decimals, skip: int) -> None:
        """Raise FileError for the first value after `skip` rows that is not as it must be."""
        place = {name: i for i, name in enumerate(self.names)}
        with self.path.open("rb") as raw, _content(self.path, raw) as content:
            for number, line in enumerate(content, 1):
                if number <= skip + self.header:
                    continue
                text = line.decode(errors="replace").rstrip("\r\n")
                values = text.split(",")
                if len(values) != len(self.names):
                    message = f"line {number} has {len(values)} fields, expected {len(self.names)}"
                    raise FileError(self.path, f"{message}; repair or download it again")
                for field, name in self.layout.fields.items():
                    value = values[place[name]]
                    wrong = _wrong(value, self._type(field, decimals))
                    if wrong:
                        where = f"line {number}, column {name}"
                        raise FileError(self.path, f"{where}: {value!r} {wrong}")


def open_source(path: Path) -> Source | None:
    """Return what the file at `path` is, None when it is no market data. Raises FileError."""
    try:
        if path.suffix == ".parquet":
            return _open_parquet(path)
        with path.open("rb") as raw, _content(path, raw) as content:
            lines = [content.readline(LINE_BYTES).decode("utf-8-sig") for _ in range(2)]
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    rows = [line.strip().split(",") for line in lines]
    header = rows[0][0][:1].isalpha() or rows[0][0][:1] in ('"', "#")
    names = [name.strip('"# ') for name in rows[0]] if header else headerless(rows[0])
    layout = None if names is None else read_layout(path, names)
    if names is None or layout is None:
        return None
    values = rows[1] if header else rows[0]
    first = None
    if len(values) == len(names) and values != [""]:
        row = dict(zip(names, values, strict=True))
        first = {field: row[name] for field, name in layout.fields.items()}
    return Source(path, layout, names, first, header)


def _open_parquet(path: Path) -> Source | None:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        layout = read_layout(path, names)
        if layout is None:
            return None
        columns = list(layout.fields.values())
        batch: Any = next(file.iter_batches(1, columns=columns), None)
    first = None
    if batch is not None and batch.num_rows:
        row = batch.to_pylist()[0]
        first = {field: str(row[name]) for field, name in layout.fields.items()}
    return Source(path, layout, names, first)


def _content(path: Path, raw: IO[bytes]) -> IO[bytes]:
    """Return the CSV inside of a file. Raises FileError for an archive of several files."""
    if path.suffix == ".zip":
        archive = zipfile.ZipFile(raw)
        names = archive.namelist()
        if len(names) != 1:
            raise FileError(path, f"holds {len(names)} files, expected one CSV; unpack it")
        if archive.getinfo(names[0]).flag_bits & ENCRYPTED:
            raise FileError(path, "is encrypted; unpack it")
        return archive.open(names[0])
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(raw))
    return raw


def _unreadable(path: Path, error: BaseException) -> FileError:
    return FileError(path, f"cannot be read: {error}; download it again")


def _wrong(value: str, kind: pa.DataType) -> str:
    """Return what is wrong with the text of a value of this type, nothing when it fits."""
    if not value or pa.types.is_string(kind):
        return ""  # an empty value is judged with the others of its row
    try:
        if pa.types.is_int64(kind):
            return "" if -(2**63) <= int(value) < 2**63 else "is too large"
        if pa.types.is_timestamp(kind):
            datetime.fromisoformat(value)
            return ""
        number = Decimal(value)
    except (ArithmeticError, ValueError):
        return "is not a number" if not pa.types.is_timestamp(kind) else "is no time"
    if not number.is_finite():
        return "is not a number"
    if number != round(number, kind.scale):
        return (
            f"has more decimals than its instrument ({kind.scale}); correct the file, or name the "
            "tick and lot of that time with --instruments"
        )
    return ""
