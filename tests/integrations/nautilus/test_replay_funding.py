"""The replay's settlements of funding, and the mark prices that they are due at."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from nautilus_trader.model.data import FundingRateUpdate, MarkPriceUpdate
from nautilus_trader.model.identifiers import InstrumentId

from integrations.binance.dataset import Funding
from integrations.nautilus.replay import ReplayDataClient, Tape
from strategies.basis_carry.port import (
    NautilusBasisCarryStrategy,
    NautilusBasisCarryStrategyConfig,
)
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import PERP, running, until
from tests.integrations.nautilus.scripts import Script

SECOND_NS = 1_000_000_000


@pytest.fixture
def data():
    """Two minutes of the sample, with two settlements of the bitcoin perpetual."""
    sample = engines.sample_data()
    times = sample.start_ns + np.array([30, 60]) * SECOND_NS
    columns = [np.array(each) for each in ([4334, -150], [8, 4], [10_698_880, 10_700_000])]
    return replace(sample, funding={**sample.funding, PERP.value: Funding(times, *columns)})


def test_a_settlement_comes_behind_its_mark(data):
    """Rate, interval and mark are the dataset's, exactly; no next time makes it a prediction."""
    tape = Tape(data, data.instruments)
    events = [tape.event(i, 7) for i in range(len(tape))]
    wanted = [event for event in events if isinstance(event, MarkPriceUpdate | FundingRateUpdate)]

    marks, rates = wanted[::2], wanted[1::2]

    assert [str(mark.value) for mark in marks] == ["106988.80", "107000.00"]
    assert [rate.rate for rate in rates] == [Decimal("0.00004334"), Decimal("-0.0000015")]
    assert [(rate.interval, rate.next_funding_ns) for rate in rates] == [(480, None), (240, None)]
    assert {(each.instrument_id, each.ts_event, each.ts_init) for each in wanted} == {(PERP, 7, 7)}


def test_a_settlement_is_in_order_of_time(data):
    """It comes when the dataset has it."""
    tape = Tape(data, data.instruments)
    at = [
        offset
        for i, offset in enumerate(tape.offsets_ns)
        if isinstance(tape.event(i, 0), FundingRateUpdate)
    ]

    assert at == pytest.approx([30 * SECOND_NS, 60 * SECOND_NS], abs=SECOND_NS)
    assert tape.offsets_ns == sorted(tape.offsets_ns)


class Paid(Script):
    """Keeps what is settled."""

    def __init__(self):
        super().__init__()
        self.paid = []

    def on_start(self):
        """Subscribe both."""
        self.subscribe_mark_prices(PERP)
        self.subscribe_funding_rates(PERP)

    def on_funding_rate(self, update):
        """Keep it, with the mark that is known by then."""
        mark = self.cache.mark_price(PERP)
        self.paid.append((update.rate, str(mark.value), update.ts_event))


async def test_a_node_is_told(data, monkeypatch):
    """Who subscribes gets each settlement, stamped with the present, its mark in the cache."""
    monkeypatch.setattr(engines, "sample_data", lambda: data)
    script = Paid()
    node = engines.make_node(script, rate=50_000)
    before = node.kernel.clock.timestamp_ns()

    async with running(node):
        await until(lambda: len(script.paid) > 2, "settlements")
        after = node.kernel.clock.timestamp_ns()

    assert {paid[:2] for paid in script.paid} == {
        (Decimal("0.00004334"), "106988.80"),
        (Decimal("-0.0000015"), "107000.00"),
    }
    assert all(before <= ts <= after for *_, ts in script.paid)


async def test_a_client_without_settlements(monkeypatch):
    """Basis carry trades on where the data client has neither funding rates nor mark prices."""
    for kind in ("mark_prices", "funding_rates"):
        monkeypatch.delattr(ReplayDataClient, f"_subscribe_{kind}")
    ids = [InstrumentId.from_str(row.id) for row in engines.sample_data().instruments]
    params = {"interval_seconds": 0.05, "funding_guard_seconds": 0}
    params |= {"entry_basis_bps": -1_000, "exit_basis_bps": -1_000}
    strategy = NautilusBasisCarryStrategy(
        NautilusBasisCarryStrategyConfig(instrument_ids=tuple(ids), params=params)
    )
    node = engines.make_node(strategy)

    async with running(node):
        await until(lambda: node.cache.positions_open_count() == len(ids), "all positions")
