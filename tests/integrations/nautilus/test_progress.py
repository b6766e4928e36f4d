"""Whether a node moves: judged by the queues in front of its engines."""

import asyncio

import pytest
from nautilus_trader.trading.strategy import Strategy

from integrations.nautilus.progress import Progress
from tests.integrations.nautilus.engines import PERP, make_node, running, until

QUEUES = ("data_engine.cmd", "data_engine.data", "risk_engine.evt", "exec_engine.cmd")


class Quotes(Strategy):
    def on_start(self) -> None:
        self.subscribe_quote_ticks(PERP)


async def test_a_node_that_runs_moves() -> None:
    """With data that flow, and with nothing to do, each look finds it moving."""
    async with running(make_node(Quotes())) as node:
        progress = Progress(node.kernel)
        await until(lambda: node.kernel.data_engine.data_count > 10)
        looks = []
        for _ in range(5):
            looks.append(progress.look())
            await asyncio.sleep(0.005)

    assert sorted(set(looks)) == looks


@pytest.mark.parametrize("name", QUEUES)
async def test_a_queue_that_nobody_serves(name: str) -> None:
    """What waits and stays the first of its queue is stuck, until it is taken."""
    engine_name, queue_name = name.split(".")
    async with running(make_node()) as node:
        progress = Progress(node.kernel)
        engine = getattr(node.kernel, engine_name)
        queue = getattr(engine, f"_{queue_name}_queue")
        task = getattr(engine, f"_{queue_name}_queue_task")
        task.cancel()
        await asyncio.wait({task})
        queue.put_nowait(object())

        looks = [progress.look() for _ in range(3)]
        queue.get_nowait()
        freed_ns = progress.look()
        while not queue.empty():
            queue.get_nowait()

    assert looks[0] == looks[1] == looks[2] < freed_ns
