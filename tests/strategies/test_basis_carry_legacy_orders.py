"""strategies/basis_carry/legacy.py: in which clips it trades, and what hedges them."""

from decimal import Decimal

import pytest

from strategies.basis_carry.legacy import Result
from tests.strategies.basis_carry_market import (
    FLAT,
    HELD,
    RICH,
    SECOND,
    basis,
    decision,
    fills,
    pair,
    show,
    steps,
    trade,
    walk,
    wild,
)

D = Decimal


def bought(result: Result) -> dict[str, Decimal]:
    """Return the spot bought per symbol, in the order of the fills."""
    amounts: dict[str, Decimal] = {}
    for fill in result.fills:
        if fill.leg == "spot" and fill.side == "BUY":
            amounts[fill.symbol] = amounts.get(fill.symbol, D(0)) + fill.qty
    return amounts


# Clips.


def test_spot_goes_first_and_the_perp_with_it() -> None:
    """Each clip is two orders of one time, at the sides that are hit: first the spot's."""
    result = trade(steps(RICH | {"spread": "0.02"}, FLAT | {"spread": "0.02"}))

    assert [(f.ts, f.leg, f.side, f.qty, f.px) for f in result.fills] == [
        (decision(0), "spot", "BUY", D("499.95"), D("100.01")),
        (decision(0), "perp", "SELL", D("499.95"), D("100.04")),
        (decision(1), "spot", "SELL", D("499.95"), D("99.99")),
        (decision(1), "perp", "BUY", D("499.95"), D("100.01")),
    ]


@pytest.mark.parametrize(
    ("market", "clip"),
    [
        ({"spot_size": "200.019"}, "200.01"),
        ({"perp_size": "200.01"}, "200.01"),
        ({"spot_size": "300", "perp_size": "200.01"}, "200.01"),
        ({"spot_size": "0.009"}, None),
        ({"perp_size": "0"}, None),
        ({"spot_size": "0"}, None),
    ],
)
def test_a_clip_is_no_larger_than_what_both_legs_show(
    market: dict[str, str], clip: str | None
) -> None:
    """The smaller touch counts, in whole lots, on the way in and on the way out."""
    size = [D(clip)] if clip else []

    entry = trade(steps(RICH | market), end=decision(1))
    leave = trade(steps(RICH, FLAT | market), end=decision(2))

    assert [qty for _, _, qty, _ in fills(entry)] == size
    assert [qty for _, _, qty, _ in fills(leave)] == [500, *size]


def test_each_side_of_the_touch_counts_for_itself() -> None:
    """An entry takes the spot's ask and the perp's bid; the other sides may be empty."""
    quotes = show(decision(0), perp="100.05")
    entry = [quotes[0]._replace(bid_size=0), quotes[1]._replace(ask_size=0)]
    quotes = show(decision(1))
    leave = [quotes[0]._replace(ask_size=0), quotes[1]._replace(bid_size=0)]

    assert len(trade(entry, leave).fills) == 4


def test_the_shown_size_is_not_used_up() -> None:
    """A quote that stands still fills at every decision."""
    result = trade(steps(RICH | {"spot_size": "200"}), end=decision(3))

    assert [(number, qty) for number, _, qty, _ in fills(result)] == [(0, 200), (1, 200), (2, 100)]


@pytest.mark.parametrize(("size", "sent"), [("0.40", True), ("0.39", False)])
def test_an_entry_clip_is_worth_its_minimum_or_waits(size: str, sent: bool) -> None:
    """Twice the larger minimum of both legs, 40 USDT; what is less waits for a larger touch."""
    result = trade(steps(RICH | {"spot_size": size}, RICH))

    numbers = [number for number, *_ in fills(result)]
    assert numbers == ([0, 1] if sent else [1])


@pytest.mark.parametrize(("size", "sent"), [("0.41", True), ("0.40", False)])
def test_an_entry_clip_is_priced_at_the_cheaper_side(size: str, sent: bool) -> None:
    """With the perp below the spot a clip is worth what the perp sells for: 0.40 at 99.9 waits."""
    below = basis("-10", spot_size=size)

    result = trade(steps(below), entry_basis_bps=-10, exit_basis_bps=-20, end=decision(1))

    assert bool(result.fills) == sent


def test_the_larger_minimum_may_be_the_spots() -> None:
    """With a spot minimum of 30 an entry clip is worth 60."""
    table = pair(spot={"min_notional": "30"})

    result = trade(steps(RICH | {"spot_size": "0.59"}, HELD | {"spot_size": "0.60"}), table=table)

    assert fills(result)[0][:3] == (1, "BUY", D("0.60"))


def test_an_entry_is_complete_for_good_when_little_is_left() -> None:
    """0.35 are left, 35 USDT; that they are worth more than 40 later changes nothing."""
    dear = {"spot": "120", "perp": "120.036"}

    result = trade(steps(RICH | {"spot_size": "499.65"}, HELD, dear, dear))

    assert bought(result) == {"BTC": D("499.65")}


def test_completeness_is_tested_with_the_prices_of_the_decision() -> None:
    """0.41 are left, 41 USDT at the entry, less than 40 when it comes to them, and more again."""
    cheap = {"spot": "90", "perp": "90.027"}

    done = trade(steps(RICH | {"spot_size": "499.59"}, cheap, HELD))
    more = trade(steps(RICH | {"spot_size": "499.59"}, HELD))

    assert (bought(done), bought(more)) == ({"BTC": D("499.59")}, {"BTC": D("500.00")})


@pytest.mark.parametrize(("size", "sent"), [("0.05", True), ("0.04", False)])
def test_an_exit_clip_is_worth_the_spot_minimum_or_waits(size: str, sent: bool) -> None:
    """5 USDT, the spot's; the perp's minimum of 20 does not matter for an order that reduces."""
    result = trade(steps(RICH, FLAT | {"spot_size": size}), end=decision(2))

    assert [qty for _, side, qty, _ in fills(result, "perp") if side == "BUY"] == [D(size)] * sent


def test_an_exit_clip_is_priced_at_the_bid() -> None:
    """0.05 at a bid of 99.9 are not 5 USDT."""
    cheap = FLAT | {"spot_size": "0.05", "spread": "0.2"}

    assert len(fills(trade(steps(RICH, cheap), end=decision(2)))) == 1


@pytest.mark.parametrize(
    ("size", "market", "clip"),
    [
        ("499.95", {}, "499.95"),  # leaves 0.05, just enough to be sold
        ("499.96", {}, "499.95"),
        ("499.99", {}, "499.95"),
        ("500.00", {}, "500.00"),
        ("499.96", {"spread": "0.2"}, "499.94"),  # 0.06 at a bid of 99.9
    ],
)
def test_an_exit_leaves_nothing_that_is_too_small_to_be_sold(
    size: str, market: dict[str, str], clip: str
) -> None:
    """It leaves the whole or at least the spot's minimum at the bid."""
    result = trade(steps(RICH, FLAT | {"spot_size": size} | market), end=decision(2))

    assert fills(result)[1] == (1, "SELL", D(clip), "basis_reverted")


def test_what_cannot_be_split_waits() -> None:
    """Of 0.40, worth 6.4 after a crash, no two parts of 5 can be made: it goes as a whole."""
    crash = {"spot": "16", "perp": "16"}

    part, whole = crash | {"spot_size": "0.39"}, crash | {"spot_size": "1"}

    result = trade(steps(RICH | {"spot_size": "0.4"}, part, whole), min_notional=1, max_notional=40)

    assert [(number, qty) for number, _, qty, _ in fills(result)] == [(0, D("0.4")), (2, D("0.4"))]


def test_it_is_not_flat_while_the_perp_is_open() -> None:
    """0.05 are left, hedged. After a fall they are too small to be sold, and wait for a rise."""
    cheap = {"spot": "90", "perp": "90"}

    result = trade(steps(RICH, FLAT | {"spot_size": "499.95"}, cheap, cheap, FLAT, FLAT))

    assert fills(result)[2:] == [(4, "SELL", D("0.05"), "basis_reverted")]
    assert result.round_trips[0].flat_ts == decision(5)


# The hedge.


@pytest.mark.parametrize(
    ("ratio", "hedge"), [("1", "300.03"), ("0.5", "150.01"), ("0.3333", "99.99")]
)
def test_the_perp_is_the_ratio_of_the_spot_in_whole_lots(ratio: str, hedge: str) -> None:
    """After each clip the perp is short the ratio of the spot held, rounded down."""
    result = trade(steps(RICH, HELD), hedge_ratio=ratio, max_notional=30_003)

    assert fills(result, "perp") == [(0, "SELL", D(hedge), "rich_basis")]


def test_the_perp_follows_the_whole_spot_position() -> None:
    """What rounding left over goes with a later clip, and comes back with the last."""
    slow = {"spot_size": "100.01"}

    result = trade(
        steps(RICH | slow, HELD | slow, HELD | slow, FLAT | slow, FLAT | slow, FLAT),
        hedge_ratio="0.5", max_notional=30_003,
    )  # fmt: skip

    assert [(side, qty) for _, side, qty, _ in fills(result, "perp")] == [
        ("SELL", D("50.00")), ("SELL", D("50.01")), ("SELL", D("50.00")),
        ("BUY", D("50.00")), ("BUY", D("50.01")), ("BUY", D("50.00")),
    ]  # fmt: skip
    assert result.symbols["BTC"].perp_position == 0


def test_an_entry_whose_hedge_is_too_small_waits() -> None:
    """A tenth of 150 USDT is below the perp's minimum; of 200 it is not."""
    result = trade(
        steps(RICH | {"spot_size": "1.5"}, HELD | {"spot_size": "2"}),
        hedge_ratio="0.1", end=decision(2),
    )  # fmt: skip

    assert fills(result) == [(1, "BUY", D("2.00"), "rich_basis")]
    assert fills(result, "perp") == [(1, "SELL", D("0.20"), "rich_basis")]


def test_spot_too_small_to_be_sold_is_dust() -> None:
    """With a tenth hedged, 0.06 are left without a hedge; below 5 USDT they are flat.

    The next position starts from nothing, and the dust stays in the end position, at mid.
    """
    cheap = {"spot": "80", "perp": "80"}
    richer = {"spot": "80", "perp": "80.04"}
    events = steps(RICH, FLAT | {"spot_size": "2.94"}, cheap | {"spot_size": "0"}, cheap)

    result = trade(
        events, walk(richer, 10, first=4), hedge_ratio="0.1", min_notional=1, max_notional=300
    )

    assert [(number, side, qty) for number, side, qty, _ in fills(result)] == [
        (0, "BUY", D("3.00")), (1, "SELL", D("2.94")), (8, "BUY", D("3.75")),
    ]  # fmt: skip
    assert result.round_trips[0].flat_ts == decision(2)
    totals = result.symbols["BTC"]
    assert (totals.spot_position, totals.dust) == (D("3.81"), D("0.06"))
    assert totals.price_spot == -300 + 294 - 300 + D("3.81") * 80


@pytest.mark.parametrize("seed", range(8))
def test_orders_keep_their_laws_in_a_wild_market(seed: int) -> None:
    """At every time: no order larger than its touch, the perp short by the ratio of the spot and
    never long, entries above and exits above their minimums."""
    table, quotes, changes = wild(seed)

    result = trade(quotes, table=table, end=decision(300), **changes)

    assert len(result.fills) > 20
    ratio = D(str(changes["hedge_ratio"]))
    held = {instrument.id: D(0) for instrument in table}
    last = {(quote.ts, quote.instrument): quote for quote in quotes}
    for fill in result.fills:
        own = f"{fill.symbol}-{fill.leg}"
        quote = last[fill.ts - SECOND, own]
        buy = fill.side == "BUY"
        shown = quote.ask_size if buy else quote.bid_size
        assert fill.qty <= D(shown) * (D("0.001") if fill.leg == "spot" else D("0.01"))
        assert fill.px * 1000 == (quote.ask if buy else quote.bid)
        held[own] += fill.qty if buy else -fill.qty
        if fill.leg == "perp":
            spot = held[f"{fill.symbol}-spot"]
            assert held[own] == -(ratio * spot // D("0.01") * D("0.01")) <= 0
            assert buy or fill.qty * fill.px >= 20
        else:
            assert fill.qty * fill.px >= (40 if buy else 5)
            assert held[own] >= 0
    for symbol, totals in result.symbols.items():
        assert totals.spot_position == held[f"{symbol}-spot"]
        assert totals.perp_position == held[f"{symbol}-perp"]
