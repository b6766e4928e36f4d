"""A connection's view of one stream: it calls the scripts and tells what they answer."""

import time
from typing import Any

import redis

from bridge.core import scripts
from bridge.core.scripts import mark_key

STREAM = "exec:orders"
MARK = mark_key(STREAM)
ID_MAX = 2**64 - 1


class Caller:
    """Calls the scripts as one connection of one producer does; answers and errors are values."""

    def __init__(
        self, client: Any, producer: str = "P", token: str = "t", scope: str = "S"
    ) -> None:
        self.client = client
        self.producer = producer
        self.token = token
        self.scope = scope

    def call(self, script: str, *words: object) -> Any:
        try:
            return self.client.eval(script, 2, STREAM, MARK, self.scope, self.token, *words)
        except redis.ResponseError as error:
            return str(error)

    def claim(self, *producers: str) -> Any:
        """Return the answer by producer, without the ids of mark and stream."""
        answer = self.call(scripts.CLAIM, *(producers or [self.producer]))
        return answer if isinstance(answer, str) else [each.split()[0] for each in answer]

    def remark(self, seq: int, entry_id: str) -> Any:
        return self.call(scripts.REMARK, self.producer, seq, entry_id)

    def ship(self, first: int, last: int, *, base: object = "") -> Any:
        """Ship the numbers `first` to `last`, each as the value of its one field."""
        values = [word for seq in range(first, last + 1) for word in ("n", f"{self.producer}{seq}")]
        return self.call(scripts.SHIP, self.producer, first, base, "", 2, *values)

    @property
    def entries(self) -> list[str]:
        return [fields["n"] for _, fields in self.client.xrange(STREAM)]

    @property
    def last_id(self) -> str:
        return str(self.client.xrevrange(STREAM, count=1)[0][0])

    @property
    def mark(self) -> str | None:
        text = self.client.hget(MARK, self.producer)
        return None if text is None else str(text)

    @property
    def everything(self) -> object:
        """What both keys hold, to see that nothing of it changes."""
        kinds = [self.client.type(key) for key in (STREAM, MARK)]
        stream = self.client.xinfo_stream(STREAM) if kinds[0] == "stream" else None
        mark = self.client.hgetall(MARK) if kinds[1] == "hash" else None
        return kinds, stream, mark


def numbered(producer: str, first: int, last: int) -> list[str]:
    """Return what `ship` has written of these numbers."""
    return [f"{producer}{seq}" for seq in range(first, last + 1)]


def foreign(caller: Caller, count: int) -> None:
    """Write to the stream as a program does that knows nothing of marks."""
    for _ in range(count):
        caller.client.xadd(STREAM, {"n": "foreign"})


def pass_millisecond() -> None:
    """Wait until new entries get other ids than those that were written until now."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= now:
        pass


def begin_again(caller: Caller, count: int) -> None:
    """Delete the stream, and have another program begin it."""
    caller.client.delete(STREAM)
    pass_millisecond()
    foreign(caller, count)


def set_back(caller: Caller, count: int) -> None:
    """Leave only the oldest entries, as in an older copy of the data: they keep their ids."""
    rows = caller.client.xrange(STREAM, count=count)
    caller.client.delete(STREAM)
    for entry_id, fields in rows:
        caller.client.xadd(STREAM, fields, id=entry_id)
    pass_millisecond()
