"""A bridge that is attached takes `redis.market_url` from the environment."""

from tests.integrations.nautilus import engines
from tests.integrations.nautilus.record import Record, rows_of, same_fields
from tests.integrations.nautilus.test_bridge import attach, market_buys


async def test_market_data_elsewhere(make_redis, monkeypatch):
    """Executions are in the one Redis, market data in the other, all of both, and nothing else."""
    server, market = make_redis(), make_redis()
    monkeypatch.setenv("BRIDGE_REDIS__MARKET_URL", market.url)
    engine = engines.make_engine(market_buys(3))
    record = Record(engine.kernel)
    bridge = attach(engine, server.url)

    await bridge.start()
    engine.run()
    await bridge.stop()

    quotes = rows_of(market.client, f"{bridge.prefix}market.raw.crypto.BTCUSDT-PERP")
    assert same_fields(quotes, record.by_kind["quotes"]) == record.by_kind["quotes"] != []
    fills = rows_of(server.client, f"{bridge.prefix}exec:fills")
    assert same_fields(fills, record.by_kind["fills"]) == record.by_kind["fills"] != []
    assert not [*server.client.scan_iter("*market.raw*")]
    assert not [*market.client.scan_iter("*exec*")]
    engine.dispose()
