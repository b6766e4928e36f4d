"""bridge/core/bookings.py: what can be applied on top of a book, and what needs a rebuild."""

from decimal import Decimal
from typing import Any

import pytest

from bridge.core.bookings import Front, Key, book, in_order
from bridge.core.fills import Fill
from tests.bridge.core.books import SECOND, SPOT, fill, own, provisional

D = Decimal


def front_of(*fills: Fill) -> Front:
    return book(fills).front


@pytest.mark.parametrize(
    ("new", "comes_on_top"),
    [
        (fill(4, 1, 10), True),
        (fill(4, 1, 10, ts_ns=0), True),  # its producer told later times before
        (fill(2, 1, 10), False),  # a number that was missing
        (fill(1, 1, 10, producer="Q"), False),  # in between
        (fill(1, 1, 10, producer="Q", ts_ns=3 * SECOND), True),  # at the same time, behind P
        (fill(1, 1, 10, producer="O", ts_ns=3 * SECOND), False),
        (fill(4, 1, 10, producer="", seq=0), True),
        (fill(4, 1, 10, producer="", seq=0, ts_ns=2 * SECOND), False),
        (provisional(4, 1, 10, "O3"), True),
    ],
)
def test_what_comes_on_top_needs_no_rebuild(new: Fill, comes_on_top: bool) -> None:
    """A fill behind all others can be applied at once; any other changes what was booked."""
    front = front_of(fill(1, 1, 10), fill(3, 1, 10))

    key = front.next(new)

    assert (key is not None) == comes_on_top
    assert in_order([fill(1, 1, 10), fill(3, 1, 10), new])[-1][1] == new or not comes_on_top


def test_what_may_replace_a_provisional_fill_needs_a_rebuild() -> None:
    """Only its own do, and only until it is replaced."""
    made_up = provisional(1, 5, 100, "O")
    front = front_of(made_up)
    assert front.next(own(2, 3, 98, "O", at=1)) is None
    assert front.next(own(2, 3, 98, "O", at=2)) == Key(2 * SECOND, "P", 2, "f2")
    assert front.next(own(2, 3, 98, "other", at=1)) is not None
    # What pays fees from the book may carry the same number of an order.
    assert front.next(own(2, 3, 98, "O", at=1, **SPOT)) is not None

    # Another provisional fill replaces nothing.
    assert front.next(provisional(2, 5, 98, "O", ts_ns=SECOND)) is not None

    front = front_of(made_up, own(2, 5, 98, "O", at=1))
    assert front.next(own(3, 3, 98, "O", at=1)) is not None


def test_the_latest_provisional_fill_decides() -> None:
    """Of two provisional fills the older may be the later executed: its own need a rebuild too."""
    older, newer = provisional(1, 5, 100, "O", ts_ns=9), provisional(2, 3, 110, "O", ts_ns=5)
    front = front_of(older)
    key = front.next(newer)
    assert key is not None
    front.put(key, newer)

    for each in (front, front_of(older, newer)):
        assert each.open == {("O", "BUY"): 9}
        assert each.next(fill(3, 1, 98, order="O", ts_ns=7)) is None


@pytest.mark.parametrize(
    "other", [{"symbol": "ETHUSDT-PERP"}, {"multiplier": D(10)}, {"base": ""}, {"account": "B"}]
)
def test_a_book_has_one_kind_of_terms(other: dict[str, Any]) -> None:
    """Fills that disagree about what they trade are not booked together."""
    with pytest.raises(ValueError, match="f2 has other terms than the book of BTCUSDT-PERP"):
        book([fill(1, 1, 10), fill(2, 1, 10, **other)])
