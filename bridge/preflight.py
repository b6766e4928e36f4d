"""What Redis must answer before anything starts: that it takes what will be written to it."""

import json
import time
from typing import Any, Final

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge import exits
from bridge.core import contract, scripts
from bridge.core.contract import Names
from bridge.core.control import FLAG_OF_ROLE, flag_of
from bridge.exits import Exit
from bridge.lease import Lease
from bridge.link import Target
from bridge.section import safe_url
from bridge.settings import Config

log = structlog.get_logger("nautilus_bridge.preflight")

ANSWER_SECONDS_MAX: Final = 5.0
RELEASE_SECONDS_MAX: Final = 0.5
LOADING_POLL_SECONDS: Final = 0.05

# What Redis may say: exception classes, how its text begins, exit code, what to do. The first
# match wins: some of the classes are kinds of ConnectionError or ResponseError.
REFUSALS: Final = (
    (
        (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError),
        "",
        exits.REFUSED,
        "correct user and password in redis.url, or the user's ACL",
    ),
    (
        redis.exceptions.BusyLoadingError,
        "",
        exits.UNAVAILABLE,
        "wait until it has loaded its data, or raise redis.start_timeout_seconds",
    ),
    (
        redis.exceptions.ReadOnlyError,
        "",
        exits.UNAVAILABLE,
        "name the primary there, not a replica",
    ),
    (
        redis.exceptions.OutOfMemoryError,
        "",
        exits.UNAVAILABLE,
        "raise its maxmemory, or free some",
    ),
    (
        redis.exceptions.ResponseError,
        ("DB index", "invalid DB index"),
        exits.CONFIGURATION,
        "correct the database, the number behind the last /",
    ),
    (
        redis.exceptions.ResponseError,
        "",
        exits.UNAVAILABLE,
        "make it accept writes",
    ),
)
NO_ANSWER: Final = (exits.UNAVAILABLE, "start Redis there, or correct the address")


def prepare_redis(
    url: str,
    config: Config,
    names: Names,
    *,
    lease: Lease | None = None,
    takeover: bool = False,
) -> bool:
    """Check that Redis can be written to, publish the contract, take the lease.

    Returns whether the role's flag is on. Waits while Redis loads. Raises Exit with the code and
    the remedy for every way it can fail.
    """
    deadline = time.monotonic() + config.redis.start_timeout_seconds
    where = config.redis.safe_url or "the embedded Redis"
    try:
        client = client_of(url)
    except (TypeError, ValueError) as error:
        raise Exit(exits.CONFIGURATION, f"redis.url: {where}: {error}") from None
    schema = json.dumps(contract.json_schema(names), separators=(",", ":"))
    try:
        while True:
            try:
                key = names.prefixed(contract.CONTRACT_KEY)
                client.set(key, schema)
                # The exec lane needs the right to scripts.
                client.evalsha(client.script_load(scripts.RELEASE), 1, key, "")
                if lease is not None:
                    lease.take(client, takeover=takeover)
                if config.redis.url is None:
                    client.set(FLAG_OF_ROLE[config.role], "1")  # of a Redis that is ours alone
                return _flag(client, FLAG_OF_ROLE[config.role])
            except redis.exceptions.BusyLoadingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOADING_POLL_SECONDS)
    except Exit:
        raise
    except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
        raise refusal_of(error, url, where) from None
    finally:
        client.close()


def _flag(client: redis.Redis, key: str) -> bool:
    """Return whether a flag is on; what is no string is off."""
    try:
        value = client.get(key)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        value = None
    return flag_of(value if isinstance(value, bytes) else None)


def release(url: str, lease: Lease) -> None:
    """Give the lease back, if Redis is there to take it; else it ends by itself."""
    client = client_of(url, RELEASE_SECONDS_MAX)
    try:
        lease.release(client)
    except (redis.exceptions.RedisError, OSError) as error:
        log.warning("lease.not_released", problem=str(error))
    finally:
        client.close()


def client_of(url: str, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> redis.Redis:
    """Return a client that never retries."""
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=answer_seconds_max,
        socket_connect_timeout=answer_seconds_max,
    )


def raw_client_of(url: str) -> redis.Redis:
    """Return a client whose answers are lists, bytes and integers, as they came: see `asked`."""
    client = client_of(url)
    client.connection_pool.connection_kwargs["protocol"] = 2
    client.response_callbacks.clear()
    return client


def asked(client: redis.Redis, *words: bytes | str | int) -> Any:
    """Return what Redis answers to a command. Raises redis.RedisError."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def refusal_of(error: Exception, url: str, where: str | None = None) -> Exit:
    """Return the exit for what Redis said, or did not say: its code, the text, what to do."""
    code, remedy = _judge(error)
    said = Target.from_url(url).without_secrets(str(error))
    return Exit(code, f"redis.url: {where or safe_url(url)}: {said}; {remedy}")


def _judge(error: Exception) -> tuple[int, str]:
    """Return the exit code and the remedy for what Redis said, or did not say."""
    for kinds, beginning, code, remedy in REFUSALS:
        if isinstance(error, kinds) and str(error).startswith(beginning):
            return code, remedy
    return NO_ANSWER
