"""What Redis refuses or leaves unanswered: what passes by itself, what a person has to do."""

import time
from typing import Final

RETRY_SECONDS_MIN: Final = 0.02
RETRY_SECONDS_MAX: Final = 1.0
# Errors that pass by themselves: the lane waits. Others belong to one entry or one stream.
PASSING: Final = frozenset({"oom", "readonly", "loading", "moved", "auth"})
REMEDIES: Final = {
    "oom": "raise maxmemory, or free some; publishing resumes by itself",
    "readonly": (
        "make this server the primary, or name the primary in redis.url; a Cluster needs one for"
        " every slot"
    ),
    "loading": "wait until it has loaded its data",
    "moved": "wait until the slot has moved; of a Cluster, redis.url begins with redis+cluster://",
    "auth": "give the user of redis.url the rights it lacks",
    "wrongtype": "another program owns the key: RENAME or DEL it, or rename ours under streams.*",
}


def remedy_of(kind: str) -> str:
    """Return what to do about an error of `kind`."""
    return REMEDIES.get(kind, "see the troubleshooting part of the README")


class Silence:
    """How long a connection with something in flight has said nothing."""

    def __init__(self) -> None:
        self._since_ns = 0

    def on_write(self, *, first: bool) -> None:
        """Note a write; the clock starts with the first one that waits for an answer."""
        if first:
            self._since_ns = time.monotonic_ns()

    def on_answer(self) -> None:
        """Note an answer: whatever else is due starts to wait now."""
        self._since_ns = time.monotonic_ns()

    @property
    def seconds(self) -> float:
        """Seconds since the last of the two."""
        return (time.monotonic_ns() - self._since_ns) / 1e9
