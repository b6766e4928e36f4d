"""bridge/core/bookings.py: what is booked depends on the fills, never on when they arrived."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.bookings import book
from bridge.core.fills import Fill, Pair, holds, key_of, pays, trade_of
from tests.bridge.core.books import (
    BNB,
    SPOT,
    Shelf,
    books,
    cash,
    fill,
    realized,
    total,
    view,
    worth,
)

D = Decimal
INSTRUMENTS: tuple[dict[str, Any], ...] = (
    {}, SPOT, BNB, {"symbol": "BTC-PERPETUAL", "quote": "USD", "inverse": True}
)  # fmt: skip
FEES: tuple[dict[str, Any], ...] = (
    {}, {"fee": D("0.5")}, {"fee": D("0.25"), "fee_ccy": "BTC"},
    {"fee": D("0.5"), "fee_ccy": "BNB", "fee_quote": D(7)},
    {"fee": D("-0.5"), "fee_ccy": "BNB", "fee_quote": D(-7)},
    {"fee": D("0.5"), "fee_ccy": "BNB"},
    {"fee": D("0.5"), "fee_ccy": "BTC", "fee_quote": D(7)},
)  # fmt: skip


@st.composite
def fills_of(draw: st.DrawFn) -> list[Fill]:
    """Return fills of two producers and of somebody else, few orders, some of them provisional."""
    numbers = dict.fromkeys("PQ", 0)
    fills = []
    for each in range(draw(st.integers(0, 12))):
        producer = draw(st.sampled_from(["P", "P", "Q", ""]))
        if producer:
            numbers[producer] += draw(st.integers(1, 2))
        made = fill(
            each,
            draw(st.integers(1, 4)) * draw(st.sampled_from([1, -1])),
            draw(st.integers(1, 9)),
            producer=producer,
            seq=numbers.get(producer, 0),
            ts_ns=draw(st.integers(0, 9)),
            order=draw(st.sampled_from(["O", "O", "O2", ""])),
            provisional=draw(st.sampled_from([False, False, True])),
            **draw(st.sampled_from(INSTRUMENTS)),
        )
        fills.append(made._replace(**draw(st.sampled_from(FEES))))
    return fills


@given(fills=fills_of(), chance=st.randoms(use_true_random=False))
def test_books_do_not_depend_on_arrival(fills: list[Fill], chance: Any) -> None:
    """In whatever order fills are given, the books are equal: lots, gains, costs, states."""
    expected = {key: view(booked) for key, booked in books(fills).items()}

    chance.shuffle(fills)

    assert {key: view(booked) for key, booked in books(fills).items()} == expected


@given(fills=fills_of(), chance=st.randoms(use_true_random=False))
def test_one_at_a_time_is_all_at_once(fills: list[Fill], chance: Any) -> None:
    """Taken as they arrive, on top or by building a book again, fills come to the same books after
    every single one."""
    if chance.random() < 0.7:
        chance.shuffle(fills)
    shelf = Shelf()
    for number, each in enumerate(fills, 1):
        shelf.take(each)
        expected = {key: view(booked) for key, booked in books(fills[:number]).items()}
        assert {key: view(booked) for key, booked in shelf.books.items()} == expected


@given(fills=fills_of(), mark=st.integers(1, 9).map(D))
def test_each_fill_counts_once_or_not_at_all(fills: list[Fill], mark: Decimal) -> None:
    """Positions and PnL are those of the fills that count, and of the fees that they pay."""
    booked = books(fills)
    idle = {each for one in booked.values() for each in one.states}
    for key, one in booked.items():
        of_book = [each for each in fills if key_of(each) == key and each.fill_id not in idle]
        trades = [trade_of(each) for each in of_book]
        holder = holds(next(each for each in fills if key_of(each) == key))
        paid = [each for each in fills if paid_from(each, holder) and each.fill_id not in idle]
        moved = total([trade.qty for trade in trades]) - total([each.fee for each in paid])
        assert Fraction(one.book.position) == moved + Fraction(one.book.unlotted)
        if not paid:
            made = realized(one.gains) + Fraction(one.book.unrealized(mark))
            terms = one.book.terms
            assert made == cash(terms, trades) + worth(terms, one.book.position, mark)
        assert len({(gain.lot, gain.fill_id) for gain in one.gains}) == len(one.gains)


def paid_from(each: Fill, holder: Pair | None) -> bool:
    return holder is not None and pays(each) == holder


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Fill, Decimal]]:
    """Return what a node is told of one order, and what the position then is.

    The venue executes; now and then the node squares what it missed with a provisional fill; what
    the venue executed is told late, in any order.
    """
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    executed, untold = 0, dict[int, int]()  # execution -> size, of those that were not told
    covered, known, told = set[int](), D(0), list[tuple[Fill, Decimal]]()
    while executed < len(sizes) or untold:
        number = len(told) + 1
        step = draw(st.sampled_from(["execute", "tell", "square"]))
        missed = [each for each in untold if each not in covered]
        if step == "execute" and executed < len(sizes):
            untold[executed] = sizes[executed]
            executed += 1
        elif step == "square" and missed:
            size = sum([untold[each] for each in missed])
            covered.update(missed)
            made_up = fill(number, size, 100, order="O", provisional=True, ts_ns=executed)
            told.append((made_up, known := known + size))
        elif untold and (step == "tell" or executed == len(sizes)):
            each = draw(st.sampled_from(sorted(untold)))
            # The venue's total of an order has all that it executed before.
            size = untold.pop(each)
            known += 0 if each in covered else size
            told.append((fill(number, size, 90, order="O", ts_ns=each + 1), known))
    return told


@given(told=histories())
def test_the_position_is_right_at_every_moment(told: list[tuple[Fill, Decimal]]) -> None:
    """After every entry the position is what the venue is known to have executed: what a
    provisional fill stands for counts once, before, while and after its own are told."""
    for number, (_, known) in enumerate(told, 1):
        assert book([each for each, _ in told[:number]]).book.position == known
