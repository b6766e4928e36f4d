"""Laws of the port's clips, and of what it remembers."""

from decimal import Decimal as D
from decimal import localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.basis_carry.port_memory import Memory, Record, dumped, loaded
from strategies.basis_carry.port_rules import (
    EXACT,
    Leg,
    Pair,
    Touch,
    entry_orders,
    exit_orders,
    perp_target,
)

LOTS = st.sampled_from([("0.001", "0.01"), ("0.1", "0.01"), ("0.005", "0.005"), ("0.01", "1")])
RATIOS = st.sampled_from([D(1), D("0.7"), D("0.25"), D("0.333")])
COUNTS = st.integers(0, 300)
MIN = D(20)


def market(lots: tuple[str, str], shown: tuple[int, int, int, int]) -> tuple[Pair, Touch]:
    """Return a pair at about 100, and what is shown in lots: spot and perp, bid and ask."""
    spot, perp = (D(lot) for lot in lots)
    bids, asks = (shown[0] * spot, shown[2] * perp), (shown[1] * spot, shown[3] * perp)
    touch = Touch(D("99.9"), D("100.1"), bids[0], asks[0], D(100), D("100.2"), bids[1], asks[1])
    return Pair(Leg(spot, MIN), Leg(perp, MIN)), touch


SHOWN = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS)


@given(LOTS, SHOWN, RATIOS, COUNTS, COUNTS, st.integers(-300, 300))
def test_the_largest_clip_that_can_be_hedged(lots, shown, ratio, left, spot, missing):
    """A clip of an entry is the largest whose orders are shown and large enough, whatever earlier
    refusals have left of hedge or spot; else the hedge is set right alone, as far as it is shown.
    """
    pair, touch = market(lots, shown)
    with localcontext(EXACT):
        left, spot = left * pair.lot, spot * pair.lot
        perp = min(D(0), perp_target(pair, spot, ratio) + missing * pair.perp.lot)

        def hedge(clip: D) -> D:
            return perp - perp_target(pair, spot + clip, ratio)

        most = min(left, touch.spot_ask_size, touch.perp_bid_size)
        clips = [n * pair.lot for n in range(int(most // pair.lot) + 1)]
        clip = max([each for each in clips if hedge(each) <= touch.perp_bid_size], default=D(0))
        is_worth = clip * touch.entry_price >= pair.entry_min
        has_hedge = hedge(D(0)) < 0 and hedge(clip) <= 0
        if not is_worth or not (has_hedge or hedge(clip) * touch.perp_bid >= MIN):
            clip = D(0)
        order = max(-touch.perp_bid_size, min(-hedge(clip), touch.perp_ask_size))
        if -MIN < order * touch.perp_bid < 0:
            order = D(0)
        expected = clip, order

        assert entry_orders(pair, left, spot, perp, touch, ratio) == expected


@given(LOTS, SHOWN, RATIOS, COUNTS, st.integers(-300, 300))
def test_an_exit_only_reduces(lots, shown, ratio, spot, perp):
    """Neither leg grows or turns round, and no order is larger than what it hits."""
    pair, touch = market(lots, shown)
    with localcontext(EXACT):
        spot, perp = spot * pair.spot.lot, perp * pair.perp.lot
        sold, bought = exit_orders(pair, spot, perp, touch, ratio)

        assert 0 <= -sold <= min(spot, touch.spot_bid_size)
        assert abs(perp + bought) <= abs(perp)
        assert (perp + bought) * perp >= 0
        assert -touch.perp_bid_size <= bought <= touch.perp_ask_size


@given(LOTS, RATIOS, COUNTS)
def test_an_exit_ends(lots, ratio, spot):
    """What is hedged is flat after one clip of enough size, or too little to be sold."""
    pair, touch = market(lots, (10**6,) * 4)
    with localcontext(EXACT):
        spot *= pair.lot
        perp = perp_target(pair, spot, ratio)
        sold, bought = exit_orders(pair, spot, perp, touch, ratio)

        assert (spot + sold, perp + bought) == (0, 0) or spot * touch.spot_bid < MIN


AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False)
TIMES = st.integers(0, 2**63)
RECORDS = st.builds(
    Record,
    TIMES,
    st.sampled_from(["rich_basis", "high_funding", "orphan"]),
    *[AMOUNTS] * 2,
    st.floats(allow_nan=False, allow_infinity=False),
    *[AMOUNTS] * 3,
    *[st.booleans()] * 2,
    st.sampled_from(["", "timeout"]),
)
MEMORIES = st.builds(
    Memory,
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(1, 24),
    st.none() | RECORDS,
    AMOUNTS,
    st.none() | TIMES,
    *[st.booleans()] * 2,
)


@given(st.dictionaries(st.sampled_from(["BTC", "ETH", "X"]), MEMORIES))
def test_what_is_kept_is_remembered(memories):
    """Every amount, time and rate comes back as it was, to the last digit."""
    again = loaded(dumped(memories))

    assert again == memories
    assert repr(again) == repr(memories)


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{", b'{"BTC": 1}', b'{"BTC": {"rate": 1}}', b'{"BTC": {"record": "x"}}',
     b'{"BTC": {"rate": 0, "interval_hours": 8, "record": null, "dust": "much"}}'],
)  # fmt: skip
def test_what_cannot_be_read(content):
    """It is refused with a ValueError, whatever is wrong."""
    with pytest.raises(ValueError, match=r"."):
        loaded(content)


@pytest.mark.parametrize(
    ("hours", "minutes", "guarded"),
    [(8, 479, True), (8, 1, False), (8, 0, True), (8, 240, False), (4, 240, True), (1, 60, True)],
)
def test_the_guard(hours, minutes, guarded):
    """Funding times are multiples of the interval since 1970; a whole minute away is far enough."""
    memory, minute = Memory(0.0, hours), 60 * 10**9
    ts = minutes * minute + (1 if minutes == 479 else 0)

    assert memory.is_guarded(ts, minute) is guarded
