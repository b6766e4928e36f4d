"""A source whose pump stops while everything else goes on; `source.factory` names it."""

import asyncio
from typing import Any

import structlog

from integrations.nautilus.node import factory


def stuck(*parts: Any) -> Any:
    """Build the real node; once it has run for a moment nobody serves the queue of its data."""
    source = factory(*parts)
    run = source.run

    async def run_and_stick() -> None:
        running = asyncio.create_task(run())
        engine = source.node.kernel.data_engine
        while engine.data_count < 10:  # noqa: ASYNC110 - of an engine, which sets no Event
            await asyncio.sleep(0.01)
        engine.get_data_queue_task().cancel()
        structlog.get_logger("nautilus_bridge.tests").info("source.stuck")
        await running

    source.run = run_and_stick  # type: ignore[method-assign]
    return source
