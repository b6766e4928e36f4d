"""Look for what is wrong with market data files, and count it instead of refusing.

It reads what `ingest` reads, the venue's files: of those a catalog has exact copies only.

Files of one folder and layout are one series: gaps and duplicates are found across them, in the
order of their names. What they are depends on the kind:

* trades with numbered ids: ids that are missing, ids that came before;
* klines, mark prices, funding: intervals that are missing, that came before;
* all others: more than 60 s without a row, a row equal to the one before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from integrations.binance.dataset import Integers, Mask
from integrations.binance.dump_columns import HOUR_NS
from integrations.binance.dumps import decimals_of
from integrations.binance.exact import NS_BY_DIGITS, exact_units, in_range, largest, nanoseconds
from integrations.binance.ingest import Job
from integrations.binance.manifest import DECIMALS_MAX
from integrations.binance.progress import Progress
from integrations.binance.source_files import TIMES, Decimals, FileError

PROBLEMS: Final = ("gaps", "duplicates", "ohlc", "unsorted", "precision", "broken")
GAP_NS: Final = 60_000_000_000
INTERVAL_NS: Final[Mapping[str, int]] = {
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": HOUR_NS,
    "d": 24 * HOUR_NS,
    "w": 168 * HOUR_NS,
}
WIDE: Final = Decimals(DECIMALS_MAX, DECIMALS_MAX, DECIMALS_MAX)  # what no file should exceed


@dataclass(slots=True)
class Finding:
    """What was found in one file: rows with each of `PROBLEMS`, and where the first one is."""

    path: Path
    kind: str
    rows: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROBLEMS, 0))
    first: str = ""

    @property
    def total(self) -> int:
        """Return the number of problems."""
        return sum(self.counts.values())


@dataclass(slots=True)
class Series:
    """The end of what was read of some files that belong together."""

    time: int | None = None
    place: int | None = None  # the highest id or time so far
    row: pa.RecordBatch | None = None


def verify(jobs: Sequence[Job]) -> list[Finding]:
    """Return what was found in each file."""
    series: dict[object, Series] = {}
    findings = []
    with Progress("verify") as progress:
        for number, job in enumerate(jobs):
            layout, path = job.source.layout, job.source.path
            names = (layout.kind, layout.interval, *sorted(layout.fields.items()))
            known = series.setdefault((path.parent, job.instrument.id, names), Series())
            check = _Check(job, Finding(path, layout.kind), known)
            findings.append(check.finding)
            try:
                for batch in job.source.batches(WIDE):
                    check.batch(batch.rows)
                    progress.show(path.name, (number + batch.done) / len(jobs))
            except FileError as error:
                check.finding.counts["broken"] += 1
                check.finding.first = check.finding.first or str(error)
    return findings


def table_of(findings: Sequence[Finding]) -> str:
    """Return the findings as a table to print."""
    head = ("file", "kind", "rows", *PROBLEMS)
    rows = [
        (each.path.name, each.kind, f"{each.rows:,}", *(f"{n:,}" for n in each.counts.values()))
        for each in findings
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


class _Check:
    """Goes through one file, batch by batch."""

    def __init__(self, job: Job, finding: Finding, series: Series) -> None:
        self.source, self.finding, self.series = job.source, finding, series
        self.decimals = decimals_of(job.instrument)
        self.fields = job.source.layout.fields

    def batch(self, rows: pa.RecordBatch) -> None:
        times = {name: self._times(rows, name) for name in TIMES if name in self.fields}
        order = times.get("init", times["ts"])
        self._order(order)
        units = {
            name: self._units(rows, name, decimals)
            for name in self.fields
            if (decimals := self.decimals.of(name)) is not None
        }
        if self.source.layout.kind == "klines":
            self._candles(units)
        self._sequence(rows, times["ts"], order)
        self.series.time = int(order[-1])
        self.finding.rows += rows.num_rows

    def _note(self, problem: str, bad: Mask, name: str, what: str) -> None:
        """Count the bad rows; remember where the first one of the file is."""
        if not bad.any():
            return
        self.finding.counts[problem] += int(bad.sum())
        if not self.finding.first:
            where = self.source.place(self.finding.rows + int(np.argmax(bad)), name)
            self.finding.first = f"{self.source.path}: {where} {what}"

    def _times(self, rows: pa.RecordBatch, name: str) -> Integers:
        array = rows.column(name)
        self._note("broken", _bits(array.is_null()), name, "is empty")
        digits = len((self.source.first or {}).get(name, ""))
        if pa.types.is_integer(array.type):
            array = pc.fill_null(array, 0)
            digits = digits if digits in NS_BY_DIGITS else max(NS_BY_DIGITS)
        times, fits = nanoseconds(array, digits)
        self._note("broken", ~fits, name, "is no time, or of another unit than the first row's")
        return times

    def _order(self, order: Integers) -> None:
        before = order[0] if self.series.time is None else self.series.time
        name = "init" if "init" in self.fields else "ts"
        self._note("unsorted", order < np.append(before, order[:-1]), name, "goes back")

    def _units(self, rows: pa.RecordBatch, name: str, decimals: int) -> Any:
        array = rows.column(name)
        if "." not in name:  # a level of a book may be empty
            self._note("broken", _bits(array.is_null()), name, "is empty")
        zero = pa.scalar(0).cast(array.type)
        signed = name != "volume"
        units, exact = exact_units(pc.fill_null(array, zero), decimals, signed=signed)
        exact &= in_range(units if signed else units.view(np.uint64), largest(name), decimals)
        message = f"has more decimals than its instrument ({decimals}), is too large or no number"
        self._note("precision", ~exact, name, message)
        return units

    def _candles(self, units: Mapping[str, Any]) -> None:
        open_, high, low, close = (units[name] for name in ("open", "high", "low", "close"))
        self._note("ohlc", high < np.maximum(np.maximum(open_, close), low), "high", "is too low")
        self._note("ohlc", low > np.minimum(open_, close), "low", "is too high")

    def _sequence(self, rows: pa.RecordBatch, ts: Integers, order: Integers) -> None:
        layout = self.source.layout
        if layout.kind == "trades" and "id" in self.fields:
            ids = rows.column("id")
            if pa.types.is_integer(ids.type):
                self._places(pc.fill_null(ids, 0).to_numpy(), np.ones(len(ts)), "id")
                return
        elif layout.kind == "rates":
            hours = pc.fill_null(rows.column("hours"), 1).to_numpy(zero_copy_only=False)
            self._places((ts + HOUR_NS // 2) // HOUR_NS, hours, "ts")
            return
        elif layout.interval and layout.interval[-1] in INTERVAL_NS:
            step = int(layout.interval[:-1]) * INTERVAL_NS[layout.interval[-1]]
            self._places(ts, np.full(len(ts), step), "ts")
            return
        self._rows(rows, order)

    def _places(self, places: Integers, steps: Any, name: str) -> None:
        """Compare each place with the highest one before it."""
        last = places[0] - int(steps[0]) if self.series.place is None else self.series.place
        highest = np.maximum.accumulate(np.append(last, places))
        self._note("gaps", places > highest[:-1] + steps, name, "comes after a gap")
        self._note("duplicates", places <= highest[:-1], name, "came before")
        self.series.place = int(highest[-1])

    def _rows(self, rows: pa.RecordBatch, order: Integers) -> None:
        """Compare each row with the one before it."""
        name = "init" if "init" in self.fields else "ts"
        before = order[0] if self.series.time is None else self.series.time
        gaps = order - np.append(before, order[:-1]) > GAP_NS
        self._note("gaps", gaps, name, f"comes after more than {GAP_NS // 10**9} s without a row")
        last = self.series.row
        table = pa.Table.from_batches([rows] if last is None else [last, rows]).combine_chunks()
        same = np.ones(max(0, table.num_rows - 1), dtype=np.bool_)
        for column in table.columns:
            equal = pc.equal(column.slice(1), column.slice(0, table.num_rows - 1))
            same &= _bits(pc.fill_null(equal.combine_chunks(), True))
        if last is None:
            same = np.append(False, same)
        self._note("duplicates", same, name, "is in a row equal to the one before")
        self.series.row = rows.slice(rows.num_rows - 1)


def _bits(array: pa.BooleanArray) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False)
    return mask
