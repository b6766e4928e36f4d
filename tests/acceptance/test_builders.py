"""acceptance/builders.py: fills of anyone's, with the data they were made on, are a result."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from acceptance import builders, consistency, events, fills_csv, fills_redis, run, tolerance
from acceptance.builders import Named
from acceptance.compare import Comparison, compare
from acceptance.fills_csv import FillsError
from acceptance.record import Fill, Record
from strategies.basis_carry.legacy import Funding
from tests.acceptance.fills_rig import base, dataset, publish, write_csv
from tests.acceptance.rigs import END, MINUTE, PARAMS, START, market
from tests.servers import RedisServer
from tests.strategies.basis_carry_market import merged, show

BASE = base()
FILLS = BASE.fills or ()
NAMED = Named("ours", params=run.texts(PARAMS), denied=0, rejected=0)


def built(*fills: Fill) -> Record:
    """Return the result of the fills on the small market."""
    return builders.of_dataset(fills, NAMED, events.window(dataset()))


def judged(made: Record) -> Comparison:
    """Compare with the program that made the fills, whose decisions nobody else can count."""
    assert made.run.counts == {}
    return compare(made, BASE, tolerance.load())


def test_fills_in_a_csv_make_the_result_they_came_from(tmp_path: Path) -> None:
    """Prices, funding and equity follow from fills and data: every gate of the strict tier
    passes."""
    fills = fills_csv.read(write_csv(tmp_path / "fills.csv", FILLS))

    found = judged(built(*fills))

    assert (found.verdict, found.reasons) == ("pass", ())


def test_fills_in_a_stream_make_the_result_they_came_from(redis_server: RedisServer) -> None:
    """The same out of a stream as a bridge writes it."""
    publish(redis_server.client, FILLS, "backtest:x:")
    place = fills_redis.address(redis_server.url, "backtest:x:")
    window = events.window(dataset())

    fills = fills_redis.read(place, window.instruments(), tell=str)

    found = judged(builders.of_dataset(fills, NAMED, window))
    assert (found.verdict, found.reasons) == ("pass", ())


def test_a_built_result_equals_the_programs_own() -> None:
    """All that both state is the same number, and the result does not contradict itself."""
    made = built(*[replace(fill, mid=None, reason=None) for fill in FILLS])

    assert made.equity == BASE.equity
    assert made.funding == BASE.funding
    assert made.orders == BASE.orders
    assert made.metrics == BASE.metrics
    assert set(made.instruments or ()) == set(BASE.instruments or ())
    assert made.data == BASE.data
    assert made.totals is not None and BASE.totals is not None
    for name, row in made.totals.items():
        assert replace(row, dust=BASE.totals[name].dust) == BASE.totals[name]
    assert [ts for ts, _ in made.days or ()] == [ts for ts, _ in BASE.days or ()]
    assert consistency.contradictions(made) == []


@pytest.mark.parametrize(("offset", "paid"), [(-1, True), (0, False), (1, False)])
def test_a_settlement_takes_the_position_before_its_time(offset: int, paid: bool) -> None:
    """What is bought at the settlement's very time or later is not charged."""
    due = next(event.ts for event in market() if isinstance(event, Funding))
    fill = replace(FILLS[1], ts=due + offset, side="SELL")

    made = built(fill)

    assert [each.position for each in made.funding or ()] == [-fill.qty] * paid


def test_the_position_at_a_settlement_counts_closed_ones_too() -> None:
    """A perpetual closed at the settlement's time pays, one closed before it does not."""
    due = next(event.ts for event in market() if isinstance(event, Funding))
    opened = replace(FILLS[1], ts=due - MINUTE, side="SELL")
    amounts = {
        offset: built(opened, replace(opened, ts=due + offset, side="BUY")).funding
        for offset in (-1, 0)
    }

    assert amounts[-1] == ()
    (settled,) = amounts[0] or ()
    exact = opened.qty * Decimal("105.25") * Decimal("0.0001")
    assert settled.amount == exact.quantize(Decimal("1e-8"))


def test_a_quote_of_the_fills_own_time_sets_its_mid() -> None:
    """Mids are those behind all quotes of a time, for fills and at full minutes."""
    fill = replace(FILLS[0], ts=START + 10 * MINUTE)
    now = show(fill.ts, "BTC", spot="200", perp="201")

    made = builders.of_dataset([fill], NAMED, events.window(dataset(merged(market(), now))))

    assert [each.mid for each in made.fills or ()] == [Decimal(200)]
    pnl = (200 - fill.px) * fill.qty - fill.fee
    assert dict(made.equity or ())[fill.ts] == pnl


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"symbol": "XRP"}, "the run has BTC, ETH; see --symbols"),
        ({"ts": START - 1}, "is outside of the run, 2025-07-01T23:50:00Z to 2025-07-02T00:10:00Z"),
        ({"ts": END}, "is outside of the run"),
        ({"ts": START}, "no quote of the dataset is before it"),
    ],
)
def test_fills_that_the_run_cannot_have_made_are_refused(
    changes: dict[str, object], said: str
) -> None:
    """Another symbol, another time, and a fill before any quote are named with their time."""
    fill = replace(FILLS[0], **changes)  # type: ignore[arg-type]

    with pytest.raises(FillsError, match=r"fill of .* at 2025-07-0.*ts 175141") as error:
        built(fill)

    assert said in str(error.value)


def test_without_data_a_result_states_what_fills_say() -> None:
    """Fills and their fees are judged; PnL is not, and so neither is the whole."""
    made = builders.of_fills(FILLS, NAMED, start_ns=START, end_ns=END)

    found = compare(made, BASE, tolerance.load())

    passed = {gate.name for gate in found.gates if gate.passed}
    unseen = {gate.name for gate in found.gates if gate.passed is None}
    assert {"fills", "fill_fees", "slippage"} <= passed
    assert {"pnl", "funding_events", "equity"} <= unseen
    assert found.verdict == "cannot judge"


def test_without_data_a_wrong_fill_fails_all_the_same() -> None:
    """What can be seen to be wrong is a fail, whatever cannot be seen."""
    wrong = replace(FILLS[3], qty=FILLS[3].qty + Decimal("0.001"))
    made = builders.of_fills([*FILLS[:3], wrong, *FILLS[4:]], NAMED, start_ns=START, end_ns=END)

    assert compare(made, BASE, tolerance.load()).verdict == "fail"
