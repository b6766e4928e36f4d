"""A dataset as the legacy program reads it: one iterator of events, in the order of the spec.

At one time funding comes before quotes, spot before perp, BTC before ETH before SOL before the
others by the alphabet, and then as in the file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain, pairwise
from typing import Any, Final

import numpy as np

from integrations.binance.dataset import Dataset, Integers
from integrations.binance.layout import RATE_DECIMALS
from integrations.binance.manifest import DatasetError, Instrument
from strategies.basis_carry.legacy import SYMBOLS_FIRST, Funding, Quote

CHUNK: Final = 50_000  # events that are Python objects at the same time
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
QUOTED: Final = ("ts", "bid", "ask", "bid_size", "ask_size")

type Progress = Callable[[float], None]  # the fraction that is done


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a dataset: its symbols in the order in which they decide, and `[start, end)`."""

    data: Dataset
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int

    def instruments(self) -> list[Instrument]:
        """Return the instruments in the order in which their quotes of one time come."""
        rows = [row for row in self.data.instruments if row.symbol in self.symbols]
        return sorted(rows, key=lambda row: (row.leg != "spot", self.symbols.index(row.symbol)))

    def fed(self) -> tuple[int, int | None]:
        """Return how many quotes and funding rows there are in it, and the time of the last."""
        rows = [part[self._slice(part)] for part in self._times()]
        return sum(map(len, rows)), max((int(ts[-1]) for ts in rows if len(ts)), default=None)

    def _times(self) -> Iterator[Integers]:
        for row in self.instruments():
            yield self.data.quotes[row.id].ts
            if row.leg == "perp":
                yield self.data.funding[row.id].ts

    def _slice(self, ts: Integers) -> slice:
        low, high = np.searchsorted(ts, [self.start_ns, self.end_ns])
        return slice(int(low), int(high))

    def events(self, progress: Progress | None = None) -> Iterator[Quote | Funding]:
        """Yield the events in order; tell `progress` now and then."""
        columns, names = self._quotes()
        funding = self._funding()
        # Where funding goes in between: before the quotes of its time.
        places = np.searchsorted(columns["ts"], [event.ts for event in funding]).tolist()
        total = len(columns["ts"])
        starts = sorted({0, total, *range(0, total, CHUNK), *places})
        at: dict[int, list[Funding]] = {}
        for place, event in zip(places, funding, strict=True):
            at.setdefault(place, []).append(event)

        def parts() -> Iterator[Iterable[Quote | Funding]]:
            for low, high in pairwise(starts):
                yield at.get(low, ())
                if progress:
                    progress(low / total)
                lists = [names[low:high].tolist()]
                lists += [columns[name][low:high].tolist() for name in QUOTED]
                ids, ts, *prices = lists
                yield map(Quote._make, zip(ts, ids, *prices, strict=True))
            yield at.get(total, ())

        return chain.from_iterable(parts())

    def _quotes(self) -> tuple[dict[str, Integers], np.ndarray[Any, np.dtype[np.object_]]]:
        """Return the columns of all quotes, and the ids they belong to, in order of time."""
        rows = self.instruments()
        slices = [self._slice(self.data.quotes[row.id].ts) for row in rows]
        columns = {
            name: np.concatenate(
                [
                    getattr(self.data.quotes[row.id], name)[part]
                    for row, part in zip(rows, slices, strict=True)
                ]
            )
            for name in QUOTED
        }
        codes = np.repeat(np.arange(len(rows)), [part.stop - part.start for part in slices])
        order = np.argsort(columns["ts"], kind="stable")  # concatenated in the order of one time
        ids = np.array([row.id for row in rows], dtype=object)
        return {name: values[order] for name, values in columns.items()}, ids[codes[order]]

    def _funding(self) -> list[Funding]:
        """Return the settlements in order; rate and mark are the float64 nearest to the file's."""
        events = []
        for row in self.instruments():
            if row.leg != "perp":
                continue
            table, scale = self.data.funding[row.id], 10**row.price_decimals
            part = self._slice(table.ts)
            events += [
                Funding(ts, row.symbol, rate / 10**RATE_DECIMALS, hours, mark / scale)
                for ts, rate, hours, mark in zip(
                    *(
                        values[part].tolist()
                        for values in (table.ts, table.rate, table.interval_hours, table.mark)
                    ),
                    strict=True,
                )
            ]
        return sorted(events, key=lambda event: event.ts)


def window(
    data: Dataset,
    symbols: Sequence[str] = (),
    start: date | None = None,
    end: date | None = None,
) -> Window:
    """Return whole UTC days of a dataset, both included; by default all of it, all symbols.

    Raises DatasetError for symbols and days that the dataset does not have.
    """
    known = sorted({row.symbol for row in data.instruments})
    wanted = set(symbols or known)
    if missing := sorted(wanted.difference(known)):
        raise DatasetError(data.path, f"has no {', '.join(missing)}; it has {', '.join(known)}")
    start_ns = data.start_ns if start is None else _midnight_ns(start)
    end_ns = data.end_ns if end is None else _midnight_ns(end + timedelta(days=1))
    if not data.start_ns <= start_ns < end_ns <= data.end_ns:
        asked, has = (
            " to ".join(f"{EPOCH + timedelta(seconds=ns // 10**9):%Y-%m-%d %H:%M}" for ns in pair)
            for pair in ((start_ns, end_ns), (data.start_ns, data.end_ns))
        )
        raise DatasetError(data.path, f"has {has}, not the window {asked}; choose other days")
    first = [symbol for symbol in SYMBOLS_FIRST if symbol in wanted]
    return Window(data, (*first, *sorted(wanted.difference(first))), start_ns, end_ns)


def _midnight_ns(day: date) -> int:
    return (
        (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH)
        // timedelta(microseconds=1)
        * 1000
    )
