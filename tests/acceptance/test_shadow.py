"""acceptance/shadow.py: what a shadow decided, held against another run's decisions."""

import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from acceptance import shadow, shadow_report
from acceptance.shadow import Shadowing
from acceptance.shape import Fill, Instrument

SECOND = 1_000_000_000
START = 1_751_328_000 * SECOND
D = Decimal
LOT = Instrument("BTC-spot", "BTC", "spot", D("0.01"), D("0.001"), D(5), D("0.001"))


def fill(second: float, side: str = "BUY", qty: str = "1", **changes: Any) -> Fill:
    """Return a fill of BTC's spot at 100, with a fee of 10 bp, at a mid of 99.99."""
    made = Fill(
        START + int(second * SECOND), "BTC", "spot", side, D(qty), D(100), D(qty) / 10, D("99.99")
    )  # type: ignore[arg-type]
    return replace(made, **changes)


def tenth(*fills: Fill, late: float = 0) -> list[Fill]:
    """Return the fills in a tenth of their size, so many seconds later."""
    return [
        replace(each, qty=each.qty / 10, fee=each.fee / 10, ts=each.ts + int(late * SECOND))
        for each in fills
    ]


def compared(ours: Sequence[Fill], theirs: Sequence[Fill], **changes: Any) -> Shadowing:
    given: dict[str, Any] = {
        "size_fraction": D("0.1"), "tolerance_ns": 30 * SECOND, "tolerance_percent": D(5),
    }  # fmt: skip
    return shadow.compare(ours, theirs, **given | changes)


REFERENCE = [
    fill(0), fill(600, "SELL"), fill(1200), fill(1800, "SELL"), fill(2400), fill(3000, "SELL"),
]  # fmt: skip


def test_a_faithful_shadow_passes() -> None:
    """The same decisions in a tenth of the size, within the tolerance: each is matched."""
    found = compared(tenth(*REFERENCE, late=29), REFERENCE)

    assert found.verdict == "pass"
    assert found.counts["matched"] == 6 and sum(found.counts.values()) == 6
    assert {row.delay_ns for row in found.rows} == {29 * SECOND}
    assert {row.shadow_qty for row in found.rows} == {D(1)}


def test_one_missing_one_extra_and_one_late_are_told_apart() -> None:
    """Each is named as what it is, by time; the first of them is the first divergence."""
    extra = fill(3600)
    ours = [
        *REFERENCE[:1],
        *REFERENCE[2:5],
        replace(REFERENCE[5], ts=REFERENCE[5].ts + 100 * SECOND),
    ]

    found = compared(tenth(*ours, extra), REFERENCE)

    assert found.verdict == "fail"
    assert [row.verdict for row in found.rows] == [
        "matched", "missing", "matched", "matched", "matched", "late", "extra",
    ]  # fmt: skip
    assert found.divergence is not None and found.divergence.ts == REFERENCE[1].ts
    assert found.rows[5].delay_ns == 100 * SECOND
    assert (found.rows[1].shadow_qty, found.rows[6].reference_qty) == (None, None)


@pytest.mark.parametrize(
    ("late", "verdicts"),
    [
        (30, ["matched"]),
        (30.000000001, ["late"]),
        (-30, ["matched"]),
        (-31, ["early"]),
        (300, ["late"]),
        (301, ["missing", "extra"]),
    ],
)
def test_time_decides_whether_two_decisions_are_one(late: float, verdicts: list[str]) -> None:
    """Up to the tolerance it is the same, up to ten times that late or early, beyond it another."""
    ours = replace(tenth(REFERENCE[0])[0], ts=START + round(late * 10**9))

    found = compared([ours], REFERENCE[:1])

    assert [row.verdict for row in found.rows] == verdicts


def test_clips_of_one_decision_count_as_one() -> None:
    """What the reference needs three clips for, a shadow fills at once; the other side, or a
    pause, begins another decision."""
    clips = [
        fill(0, qty="0.5"),
        fill(10, qty="0.3"),
        fill(20, qty="0.2"),
        fill(90),
        fill(95, "SELL"),
    ]

    found = compared([*tenth(fill(0), fill(90), fill(95, "SELL"))], clips)

    assert found.verdict == "pass"
    assert [row.reference_qty for row in found.rows] == [D(1), D(1), D(1)]


def test_a_buy_is_never_paired_with_a_sale() -> None:
    """Symbol, leg and side have to be the same, whatever the time."""
    other = [
        fill(0, "SELL"),
        replace(fill(0), leg="perp"),
        replace(fill(0), symbol="ETH"),
    ]

    for each in other:
        assert compared(tenth(each), [fill(0)]).counts["matched"] == 0


@pytest.mark.parametrize(
    ("qty", "verdict"),
    [("0.1", "matched"), ("0.105", "matched"), ("0.1051", "quantity"), ("0.0949", "quantity")],
)
def test_quantities_are_compared_at_full_size(qty: str, verdict: str) -> None:
    """Divided by the size fraction they may differ by the tolerance."""
    found = compared([fill(0, qty=qty)], [fill(0, qty="1.0000")])

    assert [row.verdict for row in found.rows] == [verdict]


@pytest.mark.parametrize(("qty", "verdict"), [("0.002", "matched"), ("0.001", "quantity")])
def test_a_lot_of_the_shadow_is_allowed(qty: str, verdict: str) -> None:
    """A shadow cannot trade parts of a lot: 0.029 of the reference are 0.002 or 0.003 of it."""
    found = compared([fill(0, qty=qty)], [fill(0, qty="0.029")], instruments=[LOT])

    assert [row.verdict for row in found.rows] == [verdict]


def test_costs_are_positive_when_they_cost() -> None:
    """Slippage is against the mid, shortfall has the fee too, and the price is held against the
    reference's: 1 bp, 11 bp, and 2 bp worse."""
    reference = fill(0, px=D("100"), mid=D("99.99"))
    ours = tenth(replace(reference, px=D("100.02")))

    (bought,) = compared(ours, [reference]).rows
    (sold,) = compared(
        *[[replace(each, side="SELL") for each in part] for part in (ours, [reference])]
    ).rows

    assert bought.reference_slippage_bps == pytest.approx(1, rel=1e-3)
    assert bought.reference_shortfall_bps == pytest.approx(11, rel=1e-3)
    assert bought.shadow_slippage_bps == pytest.approx(3, rel=1e-3)
    assert bought.worse_bps == pytest.approx(2)
    assert sold.worse_bps == pytest.approx(-2)
    assert sold.reference_slippage_bps == pytest.approx(-1, rel=1e-3)


def test_a_shadow_without_mids_takes_the_references() -> None:
    """A stream has no mids; both saw the same market. With no mid at all no cost is invented."""
    ours = [replace(each, mid=None) for each in tenth(REFERENCE[0])]

    (row,) = compared(ours, REFERENCE[:1]).rows
    (bare,) = compared(ours, [replace(REFERENCE[0], mid=None)]).rows

    assert row.shadow_slippage_bps == row.reference_slippage_bps != 0
    assert bare.shadow_slippage_bps is bare.reference_shortfall_bps is None
    assert bare.worse_bps == 0


def test_nothing_to_compare_is_no_pass() -> None:
    """An empty side cannot be judged, and is named."""
    assert compared([], REFERENCE).reasons == ("no fill in the shadow between --from and --to",)
    assert compared(REFERENCE, []).reasons == ("no fill in the reference between --from and --to",)
    assert compared([], []).verdict == "cannot judge"


def test_a_window_ends_before_its_end() -> None:
    """From is in it, to is not; without bounds all is."""
    times = [REFERENCE[0].ts, REFERENCE[2].ts]

    assert shadow.window(REFERENCE, *times) == REFERENCE[:2]
    assert shadow.window(REFERENCE, None, None) == REFERENCE


@pytest.mark.parametrize("seed", range(5))
def test_every_fill_is_in_exactly_one_decision(seed: int) -> None:
    """Whatever trades are made, their quantities come back in the rows, once each."""
    chance = random.Random(seed)

    def trades() -> list[Fill]:
        return [
            fill(
                chance.randint(0, 2000),
                chance.choice(["BUY", "SELL"]),
                str(chance.randint(1, 9)),
                leg=chance.choice(["spot", "perp"]),
            )
            for _ in range(chance.randint(0, 30))
        ]

    for _ in range(20):
        ours, theirs = trades(), trades()
        rows = compared(ours, theirs).rows
        assert sum(row.shadow_qty or 0 for row in rows) == 10 * sum(each.qty for each in ours)
        assert sum(row.reference_qty or 0 for row in rows) == sum(each.qty for each in theirs)


def test_the_table_shows_what_differs_first() -> None:
    """Of more decisions than fit, those that are not the same stay, by time."""
    many = [fill(600 * number, "BUY" if number % 2 else "SELL") for number in range(100)]

    table = shadow_report.table(compared(tenth(*many[:70], *many[71:]), many))

    assert table.title == "Decisions (60 more of them with --json)"
    assert sum(row[0] == "missing" for row in table.rows) == 1
    assert [row[1] for row in table.rows] == sorted(row[1] for row in table.rows)
    assert len({len(row) for row in (table.head, *table.rows)}) == 1


def test_the_first_lines_say_what_matters() -> None:
    """Verdict, counts and the first divergence stand above the table."""
    text = shadow_report.terminal(compared(tenth(*REFERENCE[1:]), REFERENCE))

    assert text.splitlines()[:2] == [
        "fail: 5 matched, 1 missing",
        f"  first divergence: missing, BTC spot BUY at 2025-07-01T00:00:00Z (ts {START})",
    ]


def test_json_has_every_decision() -> None:
    """Numbers of decisions are exact text, costs are numbers, and all rows are there."""
    known = compared(tenth(*REFERENCE[1:]), REFERENCE).as_dict()

    assert known["verdict"] == "fail"
    assert known["decisions"] == {
        "matched": 5, "quantity": 0, "late": 0, "early": 0, "missing": 1, "extra": 0,
    }  # fmt: skip
    assert known["first_divergence"]["reference_qty"] == "1"
    assert len(known["orders"]) == 6
