"""What Redis must answer before anything starts: that it takes what will be written to it."""

import json
import time
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge import exits
from bridge.core import contract
from bridge.core.contract import Names
from bridge.exits import Exit
from bridge.link import Target
from bridge.settings import Config

ANSWER_SECONDS_MAX: Final = 5.0
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


def prepare_redis(url: str, config: Config, names: Names) -> None:
    """Check that Redis can be written to, and publish the contract.

    Waits while it loads. Raises Exit with the code and the remedy for every way it can fail.
    """
    deadline = time.monotonic() + config.redis.start_timeout_seconds
    where = config.redis.safe_url or "the embedded Redis"
    try:
        client = redis.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_SECONDS_MAX,
            socket_connect_timeout=ANSWER_SECONDS_MAX,
        )
    except (TypeError, ValueError) as error:
        raise Exit(exits.CONFIGURATION, f"redis.url: {where}: {error}") from None
    schema = json.dumps(contract.json_schema(names), separators=(",", ":"))
    try:
        while True:
            try:
                # In a transaction, because the exec lane needs the right to them.
                with client.pipeline(transaction=True) as pipe:
                    pipe.set(names.prefixed(contract.CONTRACT_KEY), schema)
                    pipe.execute()
                return
            except redis.exceptions.BusyLoadingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOADING_POLL_SECONDS)
    except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
        code, remedy = _judge(error)
        said = Target.from_url(url).without_secrets(str(error))
        raise Exit(code, f"redis.url: {where}: {said}; {remedy}") from None
    finally:
        client.close()


def _judge(error: Exception) -> tuple[int, str]:
    """Return the exit code and the remedy for what Redis said, or did not say."""
    for kinds, beginning, code, remedy in REFUSALS:
        if isinstance(error, kinds) and str(error).startswith(beginning):
            return code, remedy
    return NO_ANSWER
