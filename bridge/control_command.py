"""`python -m bridge status | flags | halt | resume`: what redis-cli does, and then the answer.

Each asks by a key that the bridge watches, and waits until `bridge:state:<role>` shows that it was
obeyed. None of them needs Nautilus.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis

from bridge import exits, hints, journal_directory, latch, lease
from bridge.controller import Keys
from bridge.core.control import (
    FLAG_OF_ROLE,
    FLAGS,
    MODE_KEY,
    ON_WORDS,
    RENEWED,
    Mode,
    Raw,
    flag_of,
    word_of,
)
from bridge.exits import Exit
from bridge.latch import LatchFile, new_id
from bridge.preflight import ANSWER_SECONDS_MAX, client_of, refusal_of
from bridge.role_state import Shown, State, ask, pid_here, shown, shown_of, state_of
from bridge.section import check_redis_url, safe_url
from bridge.settings import Config

ROLES: Final = tuple(FLAG_OF_ROLE)
POLL_SECONDS: Final = 0.01
OFF_WORDS: Final = ("0", "false", "off", "no")
_OR_PLAIN: Final = ", or it has no TLS there (then write redis://)"
SHORT_NAMES: Final = {name.removeprefix("features:nautilus_"): name for name in FLAGS}


@contextlib.contextmanager
def connected(url: str, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> Iterator[redis.Redis]:
    """Yield a client of the Redis at `url`.

    Raises Exit for whatever Redis refuses: UNAVAILABLE, too, when an answer takes too long.
    """
    try:
        client = client_of(check_redis_url(url), answer_seconds_max)
    except ValueError as error:
        raise Exit(exits.USAGE, f"--url: {error}") from None
    try:
        yield client
    except redis.exceptions.TimeoutError:
        raise Exit(
            exits.UNAVAILABLE,
            f"redis.url: {safe_url(url)}: no answer within {answer_seconds_max:g} s: Redis hangs, "
            f"or what lies between{_OR_PLAIN if url.startswith('rediss') else ''}; how the bridges "
            "stand is not known",
        ) from None
    except redis.exceptions.RedisError as error:
        raise refusal_of(error, url) from None
    finally:
        client.close()


def url_of(config: Config) -> str:
    """Return the Redis of the settings, else the demo's own."""
    return config.redis.secret_url or f"redis://127.0.0.1:{config.embedded.port}/0"


def role_of(client: redis.Redis, role: str) -> str:
    """Return the only role whose bridge answers; `role` where several do, or none."""
    answering = [each for each in ROLES if state_of(client, each) is not None]
    return answering[0] if len(answering) == 1 else role


def status(client: redis.Redis, roles: Sequence[str], *, as_json: bool) -> Iterator[str]:
    """Yield how the bridges of these roles stand, asked within the time that `client` waits for one
    answer. Raises Exit (UNAVAILABLE) when none answers."""
    keys = [Keys.of(role).state for role in roles]
    leases = [f"{lease.PREFIX}role:{role}" for role in roles]
    said = ask(client, [*(("HGETALL", key) for key in keys), *(("GET", key) for key in leases)])
    found = {role: shown(role, said.pop(0), time.time_ns()) for role in roles}
    states = {role: each.state for role, each in found.items() if each.answers}
    if as_json:
        yield json.dumps(states)
    for role, state in states.items() if not as_json else ():
        why = f": {state['reason']}" if state["reason"] else ""
        yield f"{role}  {state['state']}{why}"
        flag, mode = "on" if state["flag"] == "1" else "off", state["mode"]
        yield f"  {FLAG_OF_ROLE[role]} is {flag}, mode is {mode}, pid {state['pid']}"
        if away := state.get("market_problem"):
            yield f"  no market data: {away}"
        if state["latched"]:
            yield f"  halt {state['latched']} holds: {hints.command('resume', role)}"
        if state["done_ns"]:
            yield f"  {_account(state)}"
    holders = dict(zip(roles, said, strict=True))
    if not states:
        silent = [_silent(role, found[role], holders[role]) for role in roles]
        told = "".join([f"; {each}" for each in silent if each])
        raise Exit(exits.UNAVAILABLE, f"no bridge answers ({' '.join(roles)}){told}")
    for role, each in found.items() if not as_json else ():
        if each.problem:
            yield f"{role}  not known: {each.words}"


def _silent(role: str, found: Shown, holder: Any) -> str:
    """Return in words why a role's bridge does not answer; empty when none is known to run."""
    if found.problem:
        return f"{role}: {found.words}"
    pid = pid_here(holder)
    if pid is None:
        return ""
    age = "is missing" if found.age_seconds is None else f"is {found.age_seconds:.0f} s old"
    return (
        f"{role}: process {pid} of this host holds its lease, and its state in Redis {age}: Redis "
        f"takes no writes, or the bridge starts or hangs; ask systemctl status "
        f"nautilus-bridge@{role}, or /health"
    )


def flags(client: redis.Redis, changes: Mapping[str, str], *, seconds_max: float) -> Iterator[str]:
    """Make the changes, wait until every bridge has seen them, and yield how the flags stand.

    Raises Exit: UNAVAILABLE when a change has no bridge that it is meant for.
    """
    for key, value in changes.items():
        client.set(key, value)
    unseen = []
    for key, value in changes.items():
        concerned = [role for role in ROLES if key in (FLAG_OF_ROLE[role], MODE_KEY)]
        seen = [_saw(client, role, key, value, seconds_max) for role in concerned]
        if concerned and (True not in seen or False in seen):
            unseen.append(key)
    for key in FLAGS:
        yield f"{key} is {'on' if flag_of(_read(client, key)) else 'off'}"
    mode = _read(client, MODE_KEY)
    yield f"{MODE_KEY} is {word_of(mode) or 'missing (normal)'}"
    for role in ROLES:
        if (state := state_of(client, role)) is not None:
            why = f": {state['reason']}" if state["reason"] else ""
            yield f"{role} is {state['state']}{why}"
    if unseen:
        raise Exit(
            exits.UNAVAILABLE,
            f"{' '.join(unseen)}: set, but no bridge has answered within {seconds_max:g} s"
            + "".join([_unread(client, role) for role in ROLES]),
        )


def changes_of(words: Sequence[str]) -> dict[str, str]:
    """Return `NAME=VALUE` words as keys and values. Raises Exit (USAGE)."""
    changes = {}
    for word in words:
        name, has_value, value = word.partition("=")
        key = SHORT_NAMES.get(name, name)
        if not has_value or not value.strip() or key not in (*FLAGS, MODE_KEY):
            names = " ".join([*SHORT_NAMES, MODE_KEY])
            raise Exit(exits.USAGE, f"{word}: write NAME=VALUE, NAME one of {names}")
        if key in FLAGS and value.strip().casefold() not in (*ON_WORDS, *OFF_WORDS):
            words_known = " ".join([*ON_WORDS, *OFF_WORDS])
            raise Exit(exits.USAGE, f"{word}: a flag is one of {words_known}")
        changes[key] = value
    return changes


def halt(client: redis.Redis, role: str, reason: str, *, seconds_max: float) -> Iterator[str]:
    """Halt a role; yield when its gates are closed, and when its orders have ended.

    Raises Exit (UNAVAILABLE) when no bridge answers: what was asked then stays, and holds for the
    next one.
    """
    id_ = new_id()
    began = time.monotonic()
    try:
        client.set(Keys.of(role).halt, f"{id_} {reason}")
    except redis.exceptions.ResponseError as error:
        raise Exit(
            exits.UNAVAILABLE,
            f"Redis refused it: {error}: the halt was NOT asked for, that is certain; "
            "make Redis accept writes (see doctor), ask again, or cancel at the venue",
        ) from None
    except redis.exceptions.RedisError as error:
        raise Exit(
            exits.UNAVAILABLE,
            f"{error}: it is NOT certain that the halt was asked for; ask again, or cancel at the "
            "venue",
        ) from None
    state = _until(client, role, lambda s: _halt_of(s) == id_, seconds_max)
    if state is None:
        raise Exit(
            exits.UNAVAILABLE,
            f"no bridge of the role {role} has answered within {seconds_max:g} s; the halt stays "
            f"asked for: one that starts now is halted{_unread(client, role)}",
        )
    yield f"{role} is HALTED, seen {time.monotonic() - began:.3f} s later; halt {id_}"
    left = max(0.0, seconds_max - (time.monotonic() - began))
    done = _until(client, role, lambda s: _halt_of(s) == id_ and s["done_ns"] != "", left)
    yield _account(done) if done is not None else "orders are still being canceled"


def resume(client: redis.Redis, role: str, *, seconds_max: float) -> Iterator[str]:
    """End the halt of a role's bridge; yield what became of it.

    Raises Exit: UNAVAILABLE when none answers, FAILED while `mode` is halt.
    """
    state = state_of(client, role)
    if state is None:
        unread = _unread(client, role)
        raise Exit(exits.UNAVAILABLE, f"no bridge of the role {role} answers{unread}")
    id_ = state["latched"]
    if not id_:
        yield f"nothing is halted; {role} is {state['state']}"
        return
    if state["mode"] == Mode.HALT:
        raise Exit(
            exits.FAILED,
            "mode is halt, for everybody who reads it; first: redis-cli set mode normal",
        )
    client.set(Keys.of(role).resume, id_)
    after = _until(client, role, lambda s: s["latched"] != id_, seconds_max)
    if after is None:
        raise Exit(exits.UNAVAILABLE, f"the bridge has not answered within {seconds_max:g} s")
    why = f": {after['reason']}" if after["reason"] else ""
    if after["latched"]:
        raise Exit(exits.FAILED, f"another halt holds by now: {after['latched']}{why}")
    yield f"halt {id_} is ended; {role} is {after['state']}{why}"


def resume_on_disk(directory: Path) -> str:
    """End the halt that a bridge which runs no more has left in `directory`.

    Raises Exit: BAD_DATA when there is no latch, TAKEN when a bridge runs there.
    """
    if not (directory / latch.NAME).exists():
        raise Exit(exits.BAD_DATA, f"{directory} holds no latch; see state.directory")
    lock = journal_directory.lock(directory, "state.directory")
    try:
        halt = LatchFile(directory).clear()
    finally:
        os.close(lock)
    if halt is None:
        return "nothing was halted"
    return f"ended: {halt.reason}; start the bridge again"


def _saw(client: redis.Redis, role: str, key: str, value: str, seconds_max: float) -> bool | None:
    """Return whether a role's bridge shows a change in time; None: there is no such bridge."""
    if state_of(client, role) is None:
        return None
    word = value.strip().casefold()
    if key == MODE_KEY:
        return _until(client, role, lambda s: s["mode"] == word, seconds_max) is not None
    wanted = "1" if word in ON_WORDS else "0"
    return _until(client, role, lambda s: s["flag"] == wanted, seconds_max) is not None


def _halt_of(state: State) -> str:
    """Return the id that a halt began with."""
    return state["latched"].partition(RENEWED)[0]


def _until(
    client: redis.Redis, role: str, shows: Callable[[State], bool], seconds_max: float
) -> State | None:
    """Return the state once it shows something, None when it does not in time."""
    deadline = time.monotonic() + seconds_max
    while True:
        state = state_of(client, role)
        if state is not None and shows(state):
            return state
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_SECONDS)


def _read(client: redis.Redis, key: str) -> Raw:
    try:
        value = client.get(key)
    except redis.exceptions.ResponseError:
        return None
    return value if isinstance(value, bytes) else None


def _unread(client: redis.Redis, role: str) -> str:
    """Return in words that a role's state cannot be read, empty where it can."""
    found = shown_of(client, role)
    return f"; {found.words}" if found.problem else ""


def _account(state: State) -> str:
    canceled, refused, left = [
        state.get(name, "?") for name in ("canceled", "refused", "positions_left")
    ]
    return f"orders canceled {canceled}, refused {refused}; positions left {left}"
