"""Which numbers have been taken: a set of integers that is nearly always one run of them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Spans:
    """Numbers from 1 on, kept as runs: `[first, last]` pairs that rise and do not touch."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._runs: list[list[int]] = []
        for first, last in sorted(runs):
            self.add(first, last)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._runs, number, key=_first) - 1
        return place >= 0 and number <= self._runs[place][1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the runs, `(first, last)`, rising."""
        return iter([(first, last) for first, last in self._runs])

    def __len__(self) -> int:
        """How many numbers there are."""
        return sum([last - first + 1 for first, last in self._runs])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and self._runs == other._runs

    __hash__ = None  # type: ignore[assignment]

    @property
    def last(self) -> int:
        """The highest number, 0 when there is none."""
        return self._runs[-1][1] if self._runs else 0

    def add(self, first: int, last: int | None = None) -> None:
        """Add a number, or all from `first` to `last`."""
        last = first if last is None else last
        if self._runs and self._runs[-1][1] == first - 1:  # what nearly always happens
            self._runs[-1][1] = last
            return
        begin = bisect_right(self._runs, first - 1, key=_last_before)
        end = begin
        while end < len(self._runs) and self._runs[end][0] <= last + 1:
            first, last = min(first, self._runs[end][0]), max(last, self._runs[end][1])
            end += 1
        self._runs[begin:end] = [[first, last]]

    def covers(self, first: int, last: int) -> bool:
        """Return whether all from `first` to `last` are in it."""
        place = bisect_right(self._runs, first, key=_first) - 1
        return place >= 0 and last <= self._runs[place][1]

    def copy(self) -> "Spans":
        """Return another one of the same numbers."""
        copy = Spans()
        copy._runs = [run.copy() for run in self._runs]
        return copy

    def holes(self, upto: int | None = None) -> list[tuple[int, int]]:
        """Return the runs that are missing between 1 and `upto` (None: the highest number)."""
        upto = self.last if upto is None else upto
        missing, wanted = [], 1
        for first, last in self._runs:
            if first > upto:
                break
            if first > wanted:
                missing.append((wanted, first - 1))
            wanted = last + 1
        if wanted <= upto:
            missing.append((wanted, upto))
        return missing


def _first(run: list[int]) -> int:
    return run[0]


def _last_before(run: list[int]) -> int:
    """Order runs by where they end: those that end before `first - 1` stay as they are."""
    return run[1] + 1
