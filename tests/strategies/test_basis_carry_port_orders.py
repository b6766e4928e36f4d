"""The Nautilus port of basis carry where the legacy cannot go: refusals, open orders, orphans."""

import json
from collections.abc import Callable
from decimal import Decimal as D
from typing import Any

import pytest
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.models import FeeModel
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.currencies import BTC as BITCOIN
from nautilus_trader.model.data import FundingRateUpdate
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import OrderDenied
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Money

from strategies.basis_carry.port import NautilusBasisCarryStrategy
from tests.strategies.basis_carry_engine import (
    Fill,
    feed,
    fills_of,
    id_of,
    make_engine,
    run,
)
from tests.strategies.basis_carry_market import (
    BTC,
    FLAT,
    HELD,
    RICH,
    SECOND,
    START,
    decision,
    pair,
    steps,
)

SPOT, PERP = (id_of(row) for row in BTC)
PARAMS = {"end_of_run_minutes": 0, "max_notional": 1000}
# What 1000 USDT buy at 100.
WHOLE = D("10")


class Gate:
    """Stands in front of the risk engine; `treats` says what becomes of a command's order."""

    def __init__(self, engine: BacktestEngine, treats: Callable[[Any], str]) -> None:
        self._kernel, self._treats = engine.kernel, treats
        self.held: list[Any] = []
        bus, risk = engine.kernel.msgbus, engine.kernel.risk_engine
        self._pass = risk.execute
        bus.deregister("RiskEngine.execute", risk.execute)
        bus.register("RiskEngine.execute", self.execute)

    def execute(self, command: Any) -> None:
        """Pass a command on, deny its order, or hold it until `release`."""
        match self._treats(command.order):
            case "deny":
                self._deny(command)
            case "hold":
                self.held.append(command)
            case _:
                self._pass(command)

    def _deny(self, command: Any) -> None:
        order, now_ns = command.order, command.ts_init
        names = (order.trader_id, order.strategy_id, order.instrument_id)
        denied = OrderDenied(*names, order.client_order_id, "a test", UUID4(), now_ns)
        self._kernel.msgbus.send("ExecEngine.process", denied)

    def refuse(self, _: Any) -> None:
        """Deny what was held."""
        for command in self.held:
            self._deny(command)
        self.held.clear()

    def release(self, _: Any) -> None:
        """Pass on what was held."""
        for command in self.held:
            self._kernel.exec_engine.execute(command)
        self.held.clear()


def at(number: int) -> Callable[[Any], bool]:
    """Return whether an order was made at this decision."""
    return lambda order: order.ts_init == decision(number)


def traded(engine: BacktestEngine) -> list[tuple[int, str, str, D, str]]:
    """Run, and return the fills: number of the decision, leg, side, quantity, reason."""
    run(engine)
    fills: list[Fill] = fills_of(engine)
    return [((f.ts - decision(0)) // (10 * SECOND), f.leg, f.side, f.qty, f.reason) for f in fills]


@pytest.fixture
def make():
    """Return `make_engine`; what it made is disposed of."""
    made = []

    def call(*args, **settings):
        engine, strategy = make_engine(*args, **({"params": PARAMS} | settings))
        made.append(engine)
        return engine, strategy

    yield call
    for engine in made:
        engine.dispose()


def test_a_denied_perp_is_sent_alone(make):
    """What was refused of the hedge goes out at the next decision, in the sizes that are shown."""
    engine, _ = make()
    thin = HELD | {"perp_size": "6"}
    feed(engine, BTC, steps(RICH, thin, thin, HELD))
    Gate(engine, lambda o: "deny" if at(0)(o) and o.instrument_id == PERP else "")

    assert traded(engine) == [
        (0, "spot", "BUY", WHOLE, "rich_basis"),
        (1, "perp", "SELL", D(6), "rich_basis"),
        (2, "perp", "SELL", D(4), "rich_basis"),
    ]


def test_a_hedge_that_was_denied_leaves_room_in_the_next_clip(make):
    """The next clip is cut until its hedge, with what was refused before, is shown."""
    engine, _ = make()
    thin, late = HELD | {"spot_size": "4"}, HELD | {"perp_size": "7"}
    feed(engine, BTC, steps(RICH | {"spot_size": "4"}, late, thin, thin))
    Gate(engine, lambda o: "deny" if at(0)(o) and o.instrument_id == PERP else "")

    assert traded(engine) == [
        (0, "spot", "BUY", D(4), "rich_basis"),
        (1, "spot", "BUY", D(3), "rich_basis"),
        (1, "perp", "SELL", D(7), "rich_basis"),
        (2, "spot", "BUY", D(3), "rich_basis"),
        (2, "perp", "SELL", D(3), "rich_basis"),
    ]


def test_a_denied_spot_keeps_its_hedge_back(make):
    """The perp of a clip whose spot is refused at once is not sent; both go out together later."""
    engine, _ = make()
    feed(engine, BTC, steps(RICH, HELD))
    Gate(engine, lambda o: "deny" if at(0)(o) else "")

    assert traded(engine) == [
        (1, "spot", "BUY", WHOLE, "rich_basis"),
        (1, "perp", "SELL", WHOLE, "rich_basis"),
    ]
    assert engine.cache.orders_total_count() == 3


def test_a_spot_that_is_refused_late(make):
    """Where its hedge has gone out, the spot alone is bought at the next decision."""
    engine, strategy = make()
    feed(engine, BTC, steps(RICH, HELD))
    gate = Gate(engine, lambda o: "hold" if at(0)(o) and o.instrument_id == SPOT else "")
    strategy.clock.set_time_alert_ns("refuse", decision(0) + SECOND, gate.refuse)

    assert traded(engine) == [
        (0, "perp", "SELL", WHOLE, "rich_basis"),
        (1, "spot", "BUY", WHOLE, "rich_basis"),
    ]


def test_no_order_beside_an_open_one(make):
    """While an order of the symbol is open, no other is sent, whatever fires."""
    engine, strategy = make()
    feed(engine, BTC, steps(RICH, HELD, FLAT, FLAT, FLAT))
    gate = Gate(engine, lambda o: "hold" if at(0)(o) and o.instrument_id == SPOT else "")
    strategy.clock.set_time_alert_ns("release", decision(2) + SECOND, gate.release)

    assert traded(engine) == [
        (0, "perp", "SELL", WHOLE, "rich_basis"),
        (2, "spot", "BUY", WHOLE, "rich_basis"),
        (3, "spot", "SELL", WHOLE, "basis_reverted"),
        (3, "perp", "BUY", WHOLE, "basis_reverted"),
    ]


def test_not_flat_beside_an_open_order(make):
    """A record is not dropped while an order may still fill: what fills is left for its reason."""
    engine, strategy = make()
    feed(engine, BTC, steps(RICH, FLAT, FLAT, FLAT, FLAT))
    gate = Gate(engine, lambda o: ("hold" if o.instrument_id == SPOT else "deny") * at(0)(o))
    strategy.clock.set_time_alert_ns("release", decision(2) + SECOND, gate.release)

    assert traded(engine) == [
        (2, "spot", "BUY", WHOLE, "rich_basis"),
        (3, "spot", "SELL", WHOLE, "basis_reverted"),
    ]


class Careless(NautilusBasisCarryStrategy):
    """Buys what it has no record of, in front of its first decision; `sizes` by instrument."""

    sizes: dict[Any, str] = {}  # noqa: RUF012 - each test gives its own

    def on_start(self):
        """Buy in time."""
        super().on_start()
        self.clock.set_time_alert_ns("buy", decision(0) - SECOND // 2, self.buy)

    def buy(self, _):
        """Buy, or sell what is below 0."""
        for instrument_id, size in self.sizes.items():
            side = OrderSide.BUY if D(size) > 0 else OrderSide.SELL
            quantity = self.cache.instrument(instrument_id).make_qty(abs(D(size)))
            self.submit_order(self.order_factory.market(instrument_id, side, quantity, tags=["x"]))


def careless(make, sizes, *markets):
    """Return what `Careless` has traded after its own orders, and its counts."""
    engine, strategy = make(strategy_class=Careless)
    strategy.sizes = sizes
    feed(engine, BTC, steps(*markets))
    return [fill for fill in traded(engine) if fill[4] != "x"], strategy.counts


def test_an_orphan_is_closed(make):
    """A position without a record is closed, in the sizes that are shown, and before an entry."""
    thin = HELD | {"spot_size": "2"}

    fills, counts = careless(make, {SPOT: "5", PERP: "-5"}, HELD | {"spot_size": "5"}, thin, HELD)

    assert fills == [
        (0, "spot", "SELL", D(5), "orphan"),
        (0, "perp", "BUY", D(5), "orphan"),
    ]
    assert (counts["exits.orphan"], counts["round_trips"]) == (1, 1)


@pytest.mark.parametrize(
    ("held", "sold"),
    [
        ({SPOT: "5"}, [(0, "spot", "SELL", D(5), "orphan")]),
        ({PERP: "-5"}, [(0, "perp", "BUY", D(5), "orphan")]),
        ({PERP: "5"}, [(0, "perp", "SELL", D(5), "orphan")]),
        ({SPOT: "0.04"}, []),
    ],
    ids=["spot", "short perp", "long perp", "dust"],
)
def test_half_an_orphan(make, held, sold):
    """One leg is closed alone, and never hedged first; what cannot be sold is left."""
    assert careless(make, held, HELD, HELD)[0] == sold


def test_a_new_entry_behind_an_orphan(make):
    """Once the orphan is flat and the cooldown over, the symbol trades as ever."""
    fills, _ = careless(make, {PERP: "-5"}, *[HELD] * 7, RICH)

    assert [fill[:2] for fill in fills] == [(0, "perp"), (7, "spot"), (7, "perp")]


class FeeInKind(FeeModel):
    """Takes a thousandth of what is bought on the spot market, as Binance does."""

    def get_commission(self, order, fill_qty, fill_px, instrument):
        """Return the fee."""
        if isinstance(instrument, CurrencyPair) and order.is_buy:
            return Money(fill_qty.as_decimal() / 1000, BITCOIN)
        return Money(0, instrument.quote_currency)


def test_a_fee_in_kind(make):
    """The hedge follows what the fee has left; no more is sold than the account has, 9.45054,
    though the position is rounded to 9.451."""
    params = PARAMS | {"max_notional": 946}
    engine, strategy = make(fee_model=FeeInKind(), params=params)
    feed(engine, BTC, steps(RICH, HELD, FLAT, FLAT, FLAT))

    fills = traded(engine)

    assert fills == [
        (0, "spot", "BUY", D("9.46"), "rich_basis"),
        (0, "perp", "SELL", D("9.46"), "rich_basis"),
        (1, "perp", "BUY", D("0.01"), "rich_basis"),
        (2, "spot", "SELL", D("9.45"), "basis_reverted"),
        (2, "perp", "BUY", D("9.45"), "basis_reverted"),
    ]
    assert strategy.counts["round_trips"] == 1


def test_the_record_is_kept_before_orders_go_out(make):
    """When an order leaves, the cache has the record that it is made for, exit included."""
    engine, strategy = make()
    feed(engine, BTC, steps(RICH, HELD, FLAT, FLAT))
    kept = []

    def look(order):
        memory = json.loads(engine.cache.get(f"{strategy.id}.memories"))["BTC"]
        kept.append((order.tags, memory["record"]["reason"], memory["record"]["exit_reason"]))
        return ""

    Gate(engine, look)
    run(engine)

    entry, exit_ = (["rich_basis"], "rich_basis", ""), (["basis_reverted"],)
    assert kept == [entry, entry, *[(*exit_, "rich_basis", "basis_reverted")] * 2]


def test_what_is_saved_is_loaded(make):
    """Another strategy goes on with what `on_save` has returned: here it still cools down."""
    engine, strategy = make()
    feed(engine, BTC, steps(RICH, FLAT, FLAT))
    run(engine, end=decision(2) + SECOND)
    again, other = make()
    other.on_load(strategy.on_save())
    feed(again, BTC, steps(*[RICH] * 10))

    assert traded(again)[0] == (8, "spot", "BUY", WHOLE, "rich_basis")


def test_a_predicted_rate_is_no_settlement(make):
    """A rate that names the time of its next settlement moves nothing."""
    engine, strategy = make()
    feed(engine, BTC, steps(*[FLAT] * 4))
    engine.add_data(
        [
            FundingRateUpdate(
                PERP, D("0.01"), START, START, interval=480, next_funding_ns=decision(999)
            ),
            FundingRateUpdate(PERP, D("0.01"), START + 1, START + 1),
        ]
    )

    assert traded(engine) == []
    assert strategy.counts["decisions"] > 0


def test_without_a_start_it_counts_from_midnight(make):
    """Live, decisions are due at the offset and whole intervals from the last midnight UTC."""
    params = PARAMS | {"interval_seconds": 7, "offset_seconds": 2}
    engine, _ = make(params=params, start_ns=None, end_ns=None)
    feed(engine, BTC, steps(RICH))

    run(engine)

    midnight = START - START % (86_400 * SECOND)
    first, *_ = fills_of(engine)
    assert first.ts - midnight == (2 + 7 * 515) * SECOND  # the first behind 01:00:04


@pytest.mark.parametrize(
    "table",
    [
        BTC[:1],
        [*BTC, pair("BTC")[0]._replace(id="BTC2-spot")],
        pair(spot={"lot": "0.003"}, perp={"lot": "0.01"}),
    ],
    ids=["no perp", "two spots", "lots that do not fit"],
)
def test_instruments_that_do_not_fit(make, table):
    """It stops, and trades nothing."""
    engine, strategy = make(table)
    feed(engine, table, [quote for quote in steps(RICH, RICH) if quote.instrument == table[0].id])

    assert traded(engine) == []
    assert not strategy.is_running
    assert not strategy.counts


def test_unknown_parameters_are_refused():
    """The message names them."""
    with pytest.raises(ValueError, match="unknown parameter entry_bps"):
        make_engine(params={"entry_bps": 5})
