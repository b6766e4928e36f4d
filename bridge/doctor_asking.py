"""How `python -m bridge doctor` asks Redis one thing: the answer, or what was refused of it."""

import itertools
from typing import Any

import redis

from bridge.core.control import WRONG_TYPE, Raw
from bridge.doctor import Refused
from bridge.preflight import asked


def tried(client: redis.Redis, *words: str) -> Any:
    """Return the answer, or the error that Redis answers with; None for a key that another node of
    a Cluster has. Raises redis.RedisError, OSError."""
    try:
        return asked(client, *words)
    except redis.exceptions.MovedError:
        return None
    except redis.ResponseError as error:
        return error


def refusal(key: str, said: Any) -> Refused | None:
    """Return what Redis refused to tell; None: it told, or there is no such thing to tell of."""
    if not isinstance(said, Exception) or isinstance(said, redis.exceptions.MovedError):
        return None
    is_told = str(said).startswith("WRONGTYPE") or "no such key" in str(said)
    return None if is_told else Refused(key, _words(said))


def _words(error: Exception) -> str:
    """Return an error as Redis says it: redis-py takes the first word of a refusal away."""
    is_right = isinstance(error, redis.exceptions.NoPermissionError)
    return f"NOPERM {error}" if is_right and "NOPERM" not in str(error) else str(error)


def value_of(client: redis.Redis, key: str) -> Raw | Refused:
    """Return what stands at a key."""
    said = tried(client, "GET", key)
    if isinstance(said, Exception):
        return refusal(key, said) or WRONG_TYPE
    return said if isinstance(said, bytes) else None


def hash_at(client: redis.Redis, key: str) -> dict[str, str] | Refused:
    """Return a hash, empty where there is no key."""
    said = tried(client, "HGETALL", key)
    return Refused(key, _words(said)) if isinstance(said, Exception) else hash_of(said)


def hash_of(said: Any) -> dict[str, str]:
    """Return names and values that stand in turn; nothing for an error."""
    if not isinstance(said, list):
        return {}
    return {text_of(name): text_of(value) for name, value in itertools.batched(said, 2)}


def text_of(said: bytes) -> str:
    """Return what Redis said, bytes that are no UTF-8 as redis-cli reads them."""
    return said.decode(errors="backslashreplace")
