"""One daemon at a time: keys in Redis that its holder renews, and nobody else may take meanwhile.

The value tells who holds it: token, host, pid, journal uuid. A holder that is dead on this very
host does not keep a newcomer waiting: a restart behind a SIGKILL is not delayed.
"""

import json
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
import structlog

from bridge import endpoints, exits
from bridge.core import scripts
from bridge.core.resp import ProtocolError
from bridge.exits import Exit
from bridge.settings import Config

log = structlog.get_logger("nautilus_bridge.lease")

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
PREFIX: Final = "bridge:lease:"
# What to change where two bridges have this in common; any other key is a producer's.
CHOICES: Final = {
    "prefix": "choose another streams.prefix",
    "trader": "choose another node.trader_id",
    "role": "use another Redis: it has one bridge of a role",
    "cache": "choose another cache.url",
}
PID_SPACE: Final = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class Lease:
    """What one process holds: `keys`, each with `value`, for `milliseconds` at a time."""

    keys: tuple[str, ...]
    value: str
    milliseconds: int

    @classmethod
    def make(cls, keys: Sequence[str], *, seconds: float, uuid: str) -> "Lease":
        """Return a lease that nobody holds yet."""
        holder = {
            "token": secrets.token_hex(8),
            "host": host(),
            "pid": os.getpid(),
            "begun": begun(os.getpid()),
            "journal": uuid,
        }
        return cls(tuple(keys), json.dumps(holder), round(seconds * 1000))

    def take(self, client: redis.Redis, *, takeover: bool) -> None:
        """Take every key, or none. Raises Exit (TAKEN) when another one holds one of them."""
        for number, key in enumerate(self.keys):
            other = self._ask(client, key, "*" if takeover else "")
            if other is not None and is_dead(other):
                other = self._ask(client, key, other)
            if other is not None:
                for taken in self.keys[:number]:
                    client.eval(scripts.RELEASE, 1, taken, self.value)
                raise Exit(exits.TAKEN, _refusal(key, other, self.milliseconds / 1000))

    def release(self, client: redis.Redis) -> None:
        """Give back what is still ours."""
        for key in self.keys:
            client.eval(scripts.RELEASE, 1, key, self.value)

    async def renew(self, ask: Callable[..., Awaitable[object]]) -> None:
        """Renew every key; take again what has vanished. Raises Exit (FENCED) when it is another's.

        `ask` sends a command and returns its answer.
        """
        for key in self.keys:
            other = await self._ask_async(ask, key, "")
            if other is not None and is_dead(other):  # a Redis that was set back
                other = await self._ask_async(ask, key, other)
            if other is not None:
                raise Exit(exits.FENCED, f"{key} is held by another bridge now: {other}")

    def _ask(self, client: redis.Redis, key: str, instead_of: str) -> str | None:
        answer = client.eval(scripts.LEASE, 1, key, self.value, str(self.milliseconds), instead_of)
        return self._other(answer)

    async def _ask_async(
        self, ask: Callable[..., Awaitable[object]], key: str, instead_of: str
    ) -> str | None:
        words = (key, self.value, str(self.milliseconds), instead_of)
        answer = await ask("EVAL", scripts.LEASE, "1", *words)
        if not (isinstance(answer, bytes) and answer.startswith(b"{")):
            raise ProtocolError(f"what stands at {key} is no lease")
        return self._other(answer)

    def _other(self, answer: object) -> str | None:
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
        return None if text == self.value else text


def lease_keys(config: Config) -> list[str]:
    """Return what no two bridges on one Redis may have in common."""
    keys = [
        config.producer_id,
        f"prefix:{config.stream_prefix}",
        f"trader:{config.trader_id}",
        f"role:{config.role}",
    ]
    if config.cache.url is not None:
        target = endpoints.parse_single(config.cache.url.get_secret_value())
        keys.append(f"cache:{target.where}/{target.db}")
    return [f"{PREFIX}{key}" for key in keys]


def host() -> str:
    """Return what tells this boot of this host, and this space of pids, from any other."""
    try:
        return f"{BOOT_ID.read_text().strip()} {PID_SPACE.readlink()}"
    except OSError:  # no Linux: every holder counts as alive until its lease ends
        return f"unknown {secrets.token_hex(8)}"


def is_dead(holder: str) -> bool:
    """Return whether a lease's holder ran on this host and runs no more."""
    try:
        fields = json.loads(holder)
        if fields["host"] != host():
            return False
        return bool(begun(int(fields["pid"])) != fields["begun"])
    except (ValueError, KeyError, TypeError):
        return False


def begun(pid: int) -> str:
    """Return when a process of this host began, in ticks since the boot; empty when it is gone.

    A pid alone may have been given to another process meanwhile.
    """
    try:
        # The second field, the name, is in parentheses and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _refusal(key: str, other: str, seconds: float) -> str:
    kind = key.removeprefix(PREFIX).partition(":")[0]
    choice = CHOICES.get(kind, "choose another producer.id")
    return (
        f"{key} is held by another bridge: {other}; stop that one, wait {seconds:g} s "
        f"(producer.lease_seconds) if it has died, {choice}, or take its place with --takeover"
    )
