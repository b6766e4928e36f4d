"""Sources for tests of the daemon; `source.factory` names them."""

import asyncio
import time
from typing import Any

import structlog

from bridge.exits import RESTART, Exit
from integrations.nautilus.node import factory

HANG_SECONDS = 60


class Hanging:
    """Fails, and leaves a call behind that the loop waits for: as a resolver that hangs does."""

    is_running = True

    async def run(self) -> None:
        asyncio.get_running_loop().run_in_executor(None, time.sleep, HANG_SECONDS)
        raise Exit(RESTART, "this source has failed")

    async def stop(self) -> None:
        """Nothing to stop."""


def hanging(*_: Any) -> Hanging:
    return Hanging()


def announced(*parts: Any) -> Any:
    """Build the real node, and say so first."""
    structlog.get_logger("nautilus_bridge.tests").info("source.building")
    return factory(*parts)
