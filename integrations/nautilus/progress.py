"""Whether a live node still moves: what waits in front of its engines must become another."""

import time
from typing import Any

from nautilus_trader.system.kernel import NautilusKernel


class Progress:
    """Looks at the heads of the engines' queues; a head that stays the same is stuck.

    A strategy that never returns hangs the loop, and with it whoever would look.
    """

    def __init__(self, kernel: NautilusKernel) -> None:
        data, risk, execution = kernel.data_engine, kernel.risk_engine, kernel.exec_engine
        self._queues: list[Any] = [  # asyncio.Queue, whose head no public name shows
            *(data._cmd_queue, data._req_queue, data._res_queue, data._data_queue),
            *(risk._cmd_queue, risk._evt_queue, execution._cmd_queue, execution._evt_queue),
        ]
        self._heads: list[object] = [None] * len(self._queues)
        self._moved_ns = time.monotonic_ns()

    def look(self) -> int:
        """Return the monotonic time of the last look at which no queue was stuck.

        Looks want a second or so between them: within one turn of the loop nothing moves.
        """
        heads = [next(iter(queue._queue), None) for queue in self._queues]
        pairs = zip(heads, self._heads, strict=True)
        if not any(head is not None and head is was for head, was in pairs):
            self._moved_ns = time.monotonic_ns()
        self._heads = heads
        return self._moved_ns
