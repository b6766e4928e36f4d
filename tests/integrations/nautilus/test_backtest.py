"""A backtest of hand-written quotes: order of events, window, catalog, what the books say."""

import pickle
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from nautilus_trader.analysis.analyzer import PortfolioAnalyzer
from nautilus_trader.portfolio import portfolio

from integrations.binance.dataset import Dataset
from integrations.binance.manifest import DatasetError
from integrations.nautilus import backtest, backtest_data, backtest_settings
from integrations.nautilus.books import Books, Order
from tests.integrations.nautilus.backtests import (
    DUE,
    HEARD,
    PERP,
    SECOND,
    SPOT,
    START,
    at,
    both,
    dataset,
    played,
)

D = Decimal


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' data are converted."""
    return tmp_path_factory.mktemp("catalog")


# Order.


def test_events_of_one_time(catalog: Path) -> None:
    """Mark, funding, spot, perp; within each BTC, ETH, SOL, then the alphabet; timers last."""
    symbols = ("ADA", "SOL", "ETH", "BTC", "XRP")
    quotes = {
        f"{symbol}USDT{leg}": [(DUE, "1.00", "1.01"), (DUE, "1.01", "1.02")]
        for leg in ("-PERP.BINANCE_FUTURES", ".BINANCE_SPOT")
        for symbol in symbols
    }
    rates = {name: [(DUE, "0.0001", "1.00")] for name in quotes if "PERP" in name}
    played(dataset(quotes, rates), catalog, {f"{DUE} {SPOT}": "0.1"})
    names = [f"{symbol}USDT" for symbol in ("BTC", "ETH", "SOL", "ADA", "XRP")]
    expected = [f"mark {name}-PERP.BINANCE_FUTURES" for name in names]
    expected += [f"funding {name}-PERP.BINANCE_FUTURES" for name in names]
    for leg in (".BINANCE_SPOT", "-PERP.BINANCE_FUTURES"):
        expected += [f"quote {name}{leg}" for name in names for _ in range(2)]
    heard = [name for name, _ in HEARD]
    assert heard[: len(expected) + 1] == [*expected, "timer"]


def test_rows_of_one_time_keep_their_order(catalog: Path) -> None:
    """The last row of a time is the quote that is traded on, also when it is the lower one."""
    rows = [(1, "100.00", "100.05"), (1, "100.00", "100.09"), (1, "100.00", "100.02")]
    books = played(dataset({SPOT: rows, PERP: [(1, "1", "2")]}), catalog, {f"1 {SPOT}": "0.1"})
    assert [fill.px for fill in books.fills] == [D("100.02")]


@pytest.mark.parametrize(("seconds", "px"), [("9.999999999", "100.02"), ("10", "200.02")])
def test_a_timer_sees_the_quotes_up_to_its_time(catalog: Path, seconds: str, px: str) -> None:
    """Those of its very time too; and its order fills there, at that time."""
    spot = [(1, "100.00", "100.02"), (10, "200.00", "200.02"), (20, "300.00", "300.02")]
    data = dataset({SPOT: spot, PERP: [(1, "1", "2")]})
    [fill] = played(data, catalog, {f"{seconds} {SPOT}": "0.1"}).fills
    assert (str(fill.px), fill.ts) == (px, at(float(seconds)))


def test_timers_run_to_the_end_of_the_window(catalog: Path) -> None:
    """Also before the first row and behind the last; an order fills at the last quote."""
    script = {f"0.5 {SPOT}": "0.1", f"119.9 {SPOT}": "0.1"}
    books = played(dataset(both(1, 2)), catalog, script)
    assert [event for name, event in HEARD if name == "timer"] == [at(0.5), at(119.9)]
    assert [fill.ts for fill in books.fills] == [at(119.9)]
    assert books.rejected == 1  # no market yet


# Window and instruments.


@pytest.fixture(scope="module")
def two_days() -> Dataset:
    """Quotes around midnight, which is 960 minutes behind the start; half a day each side."""
    midnight = 960 * 60 + 60
    times = (1, midnight - 1, midnight - 1e-6, midnight, midnight + 5, 24 * 3600 + midnight)
    data = dataset(both(*times), seconds=24 * 3600 + midnight + 60)
    assert (data.start_ns + midnight * SECOND) % (86_400 * SECOND) == 0
    return data


def test_rows_outside_the_window_are_not_read(two_days: Dataset, catalog: Path) -> None:
    """Its start is included, its end is not; nothing of before is known inside."""
    books = played(two_days, catalog, start=date(2025, 7, 2), end=date(2025, 7, 2))
    midnight = at(960 * 60 + 60)
    quotes = [ts for name, ts in HEARD if name == f"quote {SPOT}"]
    assert quotes == [midnight, midnight + 5 * SECOND]
    assert (books.fed, books.events, books.last_ts) == (4, 4, midnight + 5 * SECOND)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"start": "2025-06-30"}, "not the window 2025-06-30 00:00 to"),
        ({"end": "2025-07-04"}, "not the window"),
        ({"start": "2025-07-03", "end": "2025-07-02"}, "window is empty"),
        ({"symbols": ("BTC", "DOGE")}, "has no DOGE; it has BTC"),
        ({"instruments": {"X.Y": {"fee": 1}}}, "has no X.Y"),
        ({"instruments": {SPOT: {"tick": "0.001"}}}, "other decimals"),
    ],
)
def test_what_a_dataset_does_not_have(two_days: Dataset, given: dict, said: str) -> None:
    """Days, symbols, instruments, decimals: refused, with what there is."""
    with pytest.raises(DatasetError, match=said):
        backtest_data.select(two_days, backtest_settings.load(overrides=given))


def test_symbols_are_chosen(catalog: Path) -> None:
    """Only the instruments of the chosen symbols are fed."""
    quotes = both(1) | {"ETHUSDT.BINANCE_SPOT": [(1, "1", "2")]}
    quotes |= {"ETHUSDT-PERP.BINANCE_FUTURES": [(1, "1", "2")]}
    books = played(dataset(quotes), catalog, symbols=("ETH",))
    assert (books.fed, books.events, list(books.symbols)) == (2, 2, ["ETH"])


def test_terms_of_the_settings_hold(catalog: Path) -> None:
    """Fees by leg, and by instrument in front of those."""
    given = {"fees": {"spot": "0.002", "perp": "0.003"}, "instruments": {PERP: {"fee": "0.01"}}}
    script = {f"1 {SPOT}": "0.1", f"2 {PERP}": "-0.1"}
    books = played(dataset(both(1, 2)), catalog, script, **given)
    assert [fill.fee for fill in books.fills] == [D("0.020004"), D("0.10005")]


# Books.


@pytest.fixture(scope="module")
def books(catalog: Path) -> Books:
    """A spot bought and a perp sold 70 s from the start, the spot sold behind the first minute."""
    spot = [(1, "100.00", "100.02"), (60, "101.00", "101.02"), (90, "102.00", "102.02")]
    perp = [(1, "100.05", "100.07"), (100, "102.05", "102.07")]
    funding = {PERP: [(DUE, "0.0001", "101.00")]}
    script = {f"5 {SPOT}": "0.2", f"5 {PERP}": "-0.1", f"95 {SPOT}": "-0.2"}
    return played(dataset({SPOT: spot, PERP: perp}, funding, seconds=150), catalog, script)


def test_fills_have_mid_and_reason(books: Books) -> None:
    """Each has its own instrument's mid at the time, and the order's tag."""
    assert [tuple(fill) for fill in books.fills] == [
        (at(5), "BTC", "spot", "BUY", D("0.2"), D("100.02"), D("0.020004"), D("100.01"), "told"),
        (at(5), "BTC", "perp", "SELL", D("0.1"), D("100.05"), D("0.0050025"), D("100.06"), "told"),
        (at(95), "BTC", "spot", "SELL", D("0.2"), D("102.00"), D("0.0204"), D("102.01"), "told"),
    ]


def test_orders_have_the_mid_of_their_decision(books: Books) -> None:
    """One per order, in the order in which they were sent, filled whole."""
    assert books.orders == [
        Order(at(5), "BTC", "spot", "BUY", D("0.2"), D("100.01"), D("100.01"), D("0.2")),
        Order(at(5), "BTC", "perp", "SELL", D("0.1"), D("100.06"), D("100.06"), D("0.1")),
        Order(at(95), "BTC", "spot", "SELL", D("0.2"), D("102.01"), D("102.01"), D("0.2")),
    ]


def test_equity_at_full_minutes_and_the_end(books: Books) -> None:
    """At the mids of that time, with the settlement of that time; the first is the start."""
    fees = D("0.0250065")
    paid = D("0.00101")
    open_spot, short = D("101.01") - D("100.02"), D("100.05") - D("100.06")
    closed_spot, late_short = D("102.00") - D("100.02"), D("100.05") - D("102.06")
    assert books.equity == [
        (START, D(0)),
        (at(60), open_spot * D("0.2") + short * D("0.1") + paid - fees),
        (at(120), closed_spot * D("0.2") + late_short * D("0.1") + paid - fees - D("0.0204")),
        (at(150), closed_spot * D("0.2") + late_short * D("0.1") + paid - fees - D("0.0204")),
    ]
    [(ts, totals)] = books.days
    assert (ts, totals["BTC"].net) == books.equity[-1]
    assert (totals["BTC"].spot_position, totals["BTC"].perp_position) == (D(0), D("-0.1"))


def test_events_counts_and_the_last_time(books: Books) -> None:
    """Events are quotes and funding rows, not marks; what the strategy counts is taken over."""
    assert (books.fed, books.events, books.last_ts) == (6, 6, at(100))
    assert (books.denied, books.rejected, books.problems) == (0, 0, [])
    assert books.counts == {"decisions": 3}


def test_a_starved_account_is_no_result(catalog: Path) -> None:
    """What the account cannot pay is denied, and the books say that nothing can be concluded."""
    accounts = {"BINANCE_SPOT": {"balances": ["10 USDT"]}}
    script = {f"5 {SPOT}": "0.2", f"5 {PERP}": "-0.2"}
    books = played(dataset(both(1, 9)), catalog, script, accounts=accounts)
    assert books.denied == 1
    assert [fill.leg for fill in books.fills] == ["perp"]
    assert books.problems == ["1 orders were denied"]


def test_a_run_that_stops_early_is_no_result(catalog: Path) -> None:
    """The fee takes the account below zero: Nautilus ends the run without an exception."""
    accounts = {"BINANCE_SPOT": {"balances": ["20.01 USDT"]}}
    books = played(dataset(both(1, 9, 60)), catalog, {f"5 {SPOT}": "0.2"}, accounts=accounts)
    assert books.events < books.fed == 6
    assert books.problems[0].startswith("the run stopped early: ")
    assert (books.last_ts, books.equity) == (at(1), [(START, D(0))])


def test_an_empty_run_is_no_result(catalog: Path) -> None:
    """A window without any row is run through, and says so."""
    books = played(dataset({SPOT: [], PERP: []}), catalog)
    assert (books.fed, books.events, books.last_ts) == (0, 0, None)
    assert "no quote" in books.problems[0]


def test_nautilus_keeps_its_own_statistics_elsewhere(catalog: Path) -> None:
    """The analyzer that slows a run down is silenced in that run's engine, not in its class."""
    before = dict(vars(PortfolioAnalyzer))
    with backtest.Backtest(
        dataset(both(1)),
        settings=backtest_settings.load(
            overrides={"strategy": "tests.integrations.nautilus.backtests:Scripted"}
        ),
        catalog=catalog,
    ) as built:
        assert "record_trade" in vars(built.engine.portfolio.analyzer)
        built.run()
    assert dict(vars(PortfolioAnalyzer)) == before


def test_a_closed_position_is_read_once(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the portfolio, and at the end by the engine twice at most, however many positions of two
    instruments are closed by turns; and pickle is put back."""
    read: list[bytes] = []
    loads = pickle.loads
    monkeypatch.setattr(pickle, "loads", lambda content: read.append(content) or loads(content))
    trips = {
        f"{start + step} {name}": size
        for start, name in [(second, (SPOT, PERP)[second // 2 % 2]) for second in range(2, 50, 2)]
        for step, size in ((0, "1"), (1, "-1"))
    }

    books = played(dataset(both(*range(1, 55)), {}), catalog, trips)

    assert len(books.fills) == 48
    assert 40 < len(set(read)) <= len(read) <= 3 * len(set(read))
    assert portfolio.pickle is pickle
