"""The hash `bridge:state:<role>` as the commands read it: what stands there need not be ours."""

import itertools
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import redis

from bridge import lease
from bridge.cluster_client import ClusterClient
from bridge.controller import STATE_SECONDS_MAX, Keys
from bridge.core.control import Raw

FIELDS: Final = ("state", "reason", "flag", "mode", "latched", "pid", "done_ns", "heartbeat_ns")
# A clock that is behind that of the bridge's machine by more tells no ages.
AHEAD_SECONDS_MAX: Final = 5.0
NS_DIGITS_MAX: Final = 19

type State = Mapping[str, str]


class Shown(NamedTuple):
    """What stands at a state's key: the state, empty where none does, and why it is none that can
    be read, empty where it is one."""

    key: str
    state: State
    problem: str
    age_seconds: float | None  # None: it does not say

    @property
    def answers(self) -> bool:
        """Whether it is of a bridge that runs."""
        age = self.age_seconds
        return not self.problem and age is not None and age < STATE_SECONDS_MAX

    @property
    def words(self) -> str:
        """What to do about a state that cannot be read, empty where it can."""
        remedy = f"RENAME {self.key} {self.key}:old, a bridge that runs writes it anew"
        return f"{self.key} is no state that can be read: {self.problem}; {remedy}"


def shown(role: str, said: Any, now_ns: int) -> Shown:
    """Return what Redis said to an HGETALL of a role's state: flat, a mapping, or an error.

    Raises redis.RedisError, `said` itself, when it is another error than that it is no hash.
    """
    key = Keys.of(role).state
    if isinstance(said, redis.ResponseError) and str(said).startswith("WRONGTYPE"):
        return Shown(key, {}, "it holds no hash", None)
    if isinstance(said, Exception):
        raise said
    try:
        pairs = said.items() if isinstance(said, Mapping) else itertools.batched(said, 2)
        state = {_text(name): _text(value) for name, value in pairs}
    except (AttributeError, TypeError, ValueError):
        return Shown(key, {}, f"Redis answers {said!r:.60}", None)
    missing = [name for name in FIELDS if name not in state]
    problem = heartbeat_problem(state, now_ns)
    if state and missing and not problem:
        problem = f"it has no {' '.join(missing)}"
    return Shown(key, state, problem if state else "", age_seconds_of(state, now_ns))


def heartbeat_problem(state: State, now_ns: int) -> str:
    """Return why a state's heartbeat tells no age, empty where it does."""
    if "heartbeat_ns" not in state:
        return "it has no heartbeat_ns"
    age = age_seconds_of(state, now_ns)
    if age is None:
        return f"its heartbeat_ns {state['heartbeat_ns'][:40]!r} is no time in ns"
    if age < -AHEAD_SECONDS_MAX:
        return f"its heartbeat_ns is {-age:.0f} s ahead of this machine's clock; is that right?"
    return ""


def age_seconds_of(state: State, now_ns: int) -> float | None:
    """Return how long ago a state was written; None: it does not say."""
    beat = state.get("heartbeat_ns", "")
    is_time = beat.isascii() and beat.isdecimal() and len(beat) <= NS_DIGITS_MAX
    return (now_ns - int(beat)) / 1e9 if is_time else None


def _text(said: bytes) -> str:
    return said.decode(errors="replace")


def shown_of(client: redis.Redis, role: str) -> Shown:
    """Return what stands where the state of a role's bridge is to be."""
    try:
        said: Any = client.hgetall(Keys.of(role).state)
    except redis.exceptions.ResponseError as error:
        said = error
    return shown(role, said, time.time_ns())


def state_of(client: redis.Redis, role: str) -> State | None:
    """Return the state of a role's bridge, None when none answers."""
    found = shown_of(client, role)
    return found.state if found.answers else None


def pid_here(holder: Raw) -> int | None:
    """Return the process of a lease's holder when it runs on this host, None when that is not
    known."""
    try:
        fields = json.loads(holder if isinstance(holder, bytes) else b"")
        pid = int(fields["pid"])
        is_here = fields["host"] == lease.host() and lease.begun(pid) == fields["begun"]
    except (ValueError, KeyError, TypeError):
        return None
    return pid if is_here else None


def ask(client: redis.Redis, commands: Sequence[tuple[str, ...]]) -> list[Any]:
    """Return what Redis answers to each command, an error where it refuses: in one pipeline, but
    for a Cluster, whose nodes are asked one by one.

    All of it, look-up of the name, greeting and answers, takes no longer than the client waits for
    one answer. Raises redis.RedisError.
    """
    done: list[list[Any] | Exception] = []
    # A time limit of the socket begins anew with each byte, and a look-up has none.
    asking = threading.Thread(target=_ask, args=(client, commands, done), daemon=True)
    asking.start()
    asking.join(client.get_connection_kwargs()["socket_timeout"])
    if not done:
        raise redis.exceptions.TimeoutError("no answer in time")
    if isinstance(done[0], Exception):
        raise done[0]
    return done[0]


def _ask(
    client: redis.Redis, commands: Sequence[tuple[str, ...]], done: list[list[Any] | Exception]
) -> None:
    if isinstance(client, ClusterClient):
        done.append([_answer(client, each) for each in commands])
        return
    pool = client.connection_pool
    # Without what redis-py tells of itself: each would be a round trip more.
    pool.connection_kwargs |= {"protocol": 2, "driver_info": None}
    try:
        connection: Any = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            done.append([_reply(connection) for _ in commands])
        finally:
            connection.disconnect()
            pool.release(connection)
    except Exception as error:  # noqa: BLE001 - raised in the thread that waits for it
        done.append(error)


def _answer(client: ClusterClient, words: Sequence[str]) -> Any:
    try:
        return client.execute_command(*words)
    except redis.RedisError as error:
        return error


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
