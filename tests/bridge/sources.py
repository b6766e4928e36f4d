"""Sources for tests of the daemon; `source.factory` names them."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import structlog

from bridge.core.control import State
from bridge.core.limits import Limits
from bridge.exits import RESTART, Exit
from bridge.source import Action, HaltAccount
from integrations.nautilus.node import factory

HANG_SECONDS = 60


class Hanging:
    """Fails, and leaves a call behind that the loop waits for: as a resolver that hangs does."""

    is_running = True
    symbols = ()

    async def run(self) -> None:
        asyncio.get_running_loop().run_in_executor(None, time.sleep, HANG_SECONDS)
        raise Exit(RESTART, "this source has failed")

    async def stop(self) -> None:
        """Nothing to stop."""

    def apply(self, state: State, reason: str) -> None:
        """Nothing to open or close."""

    def limit(self, limits: Limits) -> None:
        """Nothing to limit."""

    async def halt(self, action: Action) -> HaltAccount:
        """Nothing to cancel."""
        return HaltAccount(0, 0, 0)


def hanging(*_: Any) -> Hanging:
    return Hanging()


def lingering(*parts: Any) -> Any:
    """Build the real node, and have it wait for the file MAY_STOP before it stops."""
    source, may_stop = factory(*parts), Path(os.environ["MAY_STOP"]).exists
    stop = source.stop

    async def linger() -> None:
        while not may_stop():  # noqa: ASYNC110 - of another process, which sets no Event
            await asyncio.sleep(0.01)
        await stop()

    source.stop = linger  # type: ignore[method-assign]
    return source


def announced(*parts: Any) -> Any:
    """Build the real node, and say so first."""
    structlog.get_logger("nautilus_bridge.tests").info("source.building")
    return factory(*parts)
