"""What `source.factory` returns: whatever trades, behind gates that the daemon opens and closes."""

import importlib
from collections.abc import Callable, Container, Mapping, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

from bridge import exits
from bridge.core.control import State
from bridge.core.limits import Limits
from bridge.exits import Exit

type Action = Literal["cancel", "flatten", "reduce"]


class HaltAccount(NamedTuple):
    """What a halt did: orders canceled, orders and changes refused meanwhile, positions left."""

    canceled: int
    refused: int
    positions_left: int


class Source(Protocol):
    """Runs until `stop`, and raises Exit when it cannot.

    `stop` may come before `run`, and while `run` starts; afterwards nothing is emitted any more.
    It sets `on_failure` of the exec lane, stops trading when that is called, and has `run` raise
    what it is given. Nothing leaves before `apply` opened the gates. `on_breach` is set by the
    daemon: it is called, on the loop, with the reason why a limit halts trading. `symbols` are what
    it trades.
    """

    on_breach: Callable[[str], None]
    symbols: Sequence[str]

    async def run(self) -> None: ...
    async def stop(self) -> None: ...
    def apply(self, state: State, reason: str) -> None:
        """Open or close the gates, at once."""

    def limit(self, limits: Limits) -> None:
        """Check orders and positions by these limits from now on."""

    async def halt(self, action: Action) -> HaltAccount:
        """Cancel every order, until all are terminal; close positions for `flatten`.

        `reduce` cancels only what could enlarge a position.
        """

    @property
    def is_running(self) -> bool: ...
    @property
    def progress_ns(self) -> int:
        """The monotonic time of the last look at which it moved; having nothing to do is moving.

        Asking is looking: the watchdog goes hungry while the answer stays the same.
        """

    def marks(self, wanted: Container[tuple[str, str]]) -> Mapping[tuple[str, str], Decimal]:
        """The last prices of instruments, by venue, as the streams have it, and symbol: of those
        `wanted`, as far as there are any. The ops page values positions by them, and does without
        where a source has no such method."""


def load(path: str) -> Callable[..., Source]:
    """Return `module:function`, the source's factory. Raises Exit."""
    module, _, name = path.partition(":")
    try:
        factory: Callable[..., Source] = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - whatever a module of the user's raises
        problem = f"{type(error).__name__}: {error}"
        raise Exit(
            exits.CONFIGURATION,
            f"source.factory: cannot load {path}: {problem}; write module:function, with the "
            "module below the working folder or on PYTHONPATH",
        ) from None
    if not callable(factory):
        raise Exit(exits.CONFIGURATION, f"source.factory: {path} is no function")
    return factory
