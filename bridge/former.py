"""The primary that was, for as long as nobody has told it.

Sentinel is in no hurry to: until then it takes writes, which are forgotten with it, and whoever
halts there is answered OK. So it is asked on whether anything changes there.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from bridge.core.resp import Reply
from bridge.link import NO_PRIMARY, OUTAGE, RedisRefused, connect
from bridge.target import Target

POLL_SECONDS: Final = 0.01
RETRY_SECONDS: Final = 0.25
ANSWER_SECONDS_MAX: Final = 5.0
# One of which nothing was heard for so long is asked no more.
SILENT_SECONDS_MAX: Final = 60.0

type Said = Mapping[str, Reply]


class Left(NamedTuple):
    """A primary that was left, and what its keys held when they were last read there."""

    target: Target
    said: Said


class FormerPrimary:
    """Tells `hear` what keys of the primary that was left last become, as soon as they change.

    It is asked no more once it is no primary, or has been silent for a minute.
    """

    def __init__(self, hear: Callable[[Target, Said], None]) -> None:
        self._hear = hear
        self._left: Left | None = None
        self._is_left = asyncio.Event()
        self._said: Said = {}
        self._heard_at = 0.0

    def leave(self, left: Left) -> None:
        """Ask this one from now on, in place of another."""
        self._left = left
        self._is_left.set()

    async def run(self) -> None:
        """Ask until cancelled. Raises what `hear` raises."""
        while True:
            await self._is_left.wait()
            self._is_left.clear()
            while (left := self._left) is not None:
                await self._follow(left)
                if self._left is left:
                    self._left = None

    async def _follow(self, left: Left) -> None:
        """Connect for as long as it is worth it."""
        now = asyncio.get_running_loop().time
        self._said, self._heard_at = left.said, now()
        while self._left is left and now() - self._heard_at < SILENT_SECONDS_MAX:
            try:
                await self._listen(left)
            except ConnectionRefusedError:
                self._said = {}  # it has died: what it comes back with may be old
            except RedisRefused as error:
                if error.error.is_elsewhere:
                    return
            except OUTAGE:
                pass
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, left: Left) -> None:
        """Ask while the connection stands. Raises one of OUTAGE."""
        # The role last: what a replica holds is what its primary has told it.
        commands = [*[("GET", key) for key in left.said], ("ROLE",)]
        connection = await connect(left.target)
        try:
            while self._left is left:
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    *values, role = await connection.ask(commands)
                if not (isinstance(role, list) and role[:1] == [b"master"]):
                    raise RedisRefused(NO_PRIMARY)
                self._compare(left.target, dict(zip(left.said, values, strict=True)))
                await asyncio.sleep(POLL_SECONDS)
        finally:
            connection.forget()

    def _compare(self, target: Target, said: Said) -> None:
        changed = {key: said[key] for key, was in self._said.items() if said[key] != was}
        self._said, self._heard_at = said, asyncio.get_running_loop().time()
        if changed:
            self._hear(target, changed)
