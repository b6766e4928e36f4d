"""Entries that a sink cannot use: told, and published to `<stream>:dead`."""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from bridge.reader_link import ReaderLink, is_error
from bridge.reading import Dead

log = structlog.get_logger("nautilus_bridge.reader")

# Of a stream; nor do more wait for it.
ENTRIES_MAX: Final = 10_000
BATCH_ENTRIES_MAX: Final = 100
RETRY_SECONDS: Final = 1.0


class DeadLetters:
    """What waits to be published. `count` are those that the sink returned."""

    def __init__(self, link: ReaderLink, name: str, keys: Mapping[str, str]) -> None:
        self.count = 0
        self._link = link
        self._name = name
        self._keys = keys
        self._waiting: deque[Dead] = deque(maxlen=ENTRIES_MAX)
        self._published: list[Dead] = []
        self._told: set[tuple[str, str]] = set()
        self._retry_at = 0.0

    def on_dead(self, dead: Sequence[Dead]) -> None:
        """Take what a sink returned; each kind of error is told once."""
        self.count += len(dead)
        for each in dead:
            said = (each.kind, each.error.partition(":")[0])
            if said not in self._told:
                self._told.add(said)
                key = self._keys[each.kind]
                log.error(
                    "reader.dead",
                    sink=self._name,
                    stream=key,
                    id=each.id,
                    problem=each.error,
                    remedy=f"see {key}:dead; more of this kind are not told",
                )
        self.add(dead)

    def add(self, dead: Iterable[Dead]) -> None:
        """Have entries published when Redis takes them."""
        self._waiting.extend(dead)

    def publish(self) -> Sequence[Dead]:
        """Publish what waits; what is refused waits on. Raises redis.RedisError.

        Returns what was published, once nothing waits any more.
        """
        if not self._waiting or time.monotonic() < self._retry_at:
            return ()
        dead = list(itertools.islice(self._waiting, BATCH_ENTRIES_MAX))
        answers = self._link.ask([self._letter(each) for each in dead])
        for _ in dead:
            self._waiting.popleft()
        pairs = list(zip(dead, answers, strict=True))
        if refused := [pair for pair in pairs if is_error(pair[1])]:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._waiting.extend([each for each, _ in refused])
            log.warning("reader.dead_refused", sink=self._name, problem=str(refused[0][1]))
        self._published += [each for each, answer in pairs if not is_error(answer)]
        if self._waiting:
            return ()
        published, self._published = self._published, []
        return published

    def _letter(self, dead: Dead) -> bytes:
        head = ("XADD", f"{self._keys[dead.kind]}:dead", "MAXLEN", "~", str(ENTRIES_MAX), "*")
        told = (*head, "id", dead.id, "error", dead.error)
        words = [*[word.encode(errors="replace") for word in told], *dead.fields]
        bulks = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        return b"*%d\r\n%s" % (len(words), b"".join(bulks))
