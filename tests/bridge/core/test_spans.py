"""A set of numbers kept as runs, compared with a plain set."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.spans import Spans

RUNS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda run: (run[0], run[0] + run[1])),
    max_size=20,
)


def numbers(spans: Spans) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


@given(runs=RUNS)
def test_it_holds_what_was_added(runs: list[tuple[int, int]]) -> None:
    """In whatever order and however often: its runs rise, do not touch, and hold just that."""
    spans, known = Spans(), set[int]()
    for first, last in runs:
        spans.add(first, last)
        known |= set(range(first, last + 1))
    found = list(spans)
    assert numbers(spans) == known
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(found))
    assert (len(spans), spans.last) == (len(known), max(known, default=0))
    assert [number in spans for number in range(60)] == [number in known for number in range(60)]
    assert spans == Spans(runs) == spans.copy()


@given(runs=RUNS, upto=st.none() | st.integers(0, 60))
def test_its_holes_are_what_is_missing(runs: list[tuple[int, int]], upto: int | None) -> None:
    """Between 1 and the number asked for, the highest one without."""
    spans = Spans(runs)
    last = spans.last if upto is None else upto
    assert numbers(Spans(spans.holes(upto))) == set(range(1, last + 1)) - numbers(spans)


@given(runs=RUNS, first=st.integers(1, 50), more=st.integers(0, 8))
def test_it_covers_what_has_no_hole(runs: list[tuple[int, int]], first: int, more: int) -> None:
    """All of a run of numbers, not only its ends."""
    spans = Spans(runs)
    wanted = set(range(first, first + more + 1))
    assert spans.covers(first, first + more) == (wanted <= numbers(spans))


def test_a_copy_is_another_one() -> None:
    """What is added to one of them the other does not get."""
    spans = Spans([(1, 3)])
    copy = spans.copy()
    spans.add(4)
    assert (list(spans), list(copy)) == ([(1, 4)], [(1, 3)])
