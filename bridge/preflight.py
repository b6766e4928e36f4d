"""What Redis must answer before anything starts: that it takes what will be written to it."""

import contextlib
import json
import time
from typing import Any, Final

import redis
import structlog

from bridge import endpoints, exits
from bridge.core import contract, scripts
from bridge.core.contract import Names
from bridge.core.control import FLAG_OF_ROLE, flag_of
from bridge.exits import Exit
from bridge.lease import Lease
from bridge.section import safe_url
from bridge.sentinel import NotLocated, Sentinel, SentinelRefused
from bridge.settings import Config
from bridge.tls import Trouble, trouble

log = structlog.get_logger("nautilus_bridge.preflight")

ANSWER_SECONDS_MAX: Final = 5.0
RELEASE_SECONDS_MAX: Final = 0.5
LOADING_POLL_SECONDS: Final = 0.05

# What Redis may say: exception classes, how its text begins, exit code, what to do. The first
# match wins: some of the classes are kinds of ConnectionError or ResponseError.
REFUSALS: Final = (
    (
        SentinelRefused,
        "",
        exits.REFUSED,
        "correct sentinel_username and sentinel_password in redis.url",
    ),
    (
        NotLocated,
        "",
        exits.UNAVAILABLE,
        "start a Sentinel there, or correct the addresses and the service in redis.url",
    ),
    (
        (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError),
        "",
        exits.REFUSED,
        "correct user and password in redis.url, or the user's ACL",
    ),
    (
        redis.exceptions.ResponseError,
        "The user executing the script",
        exits.REFUSED,
        "correct the user's ACL: ops/redis/bridge.acl",
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
        "This instance has cluster support disabled",
        exits.CONFIGURATION,
        "write redis:// for a server that is no Cluster",
    ),
    (
        redis.exceptions.MovedError,
        "",
        exits.CONFIGURATION,
        "it is a node of a Cluster: write redis+cluster://",
    ),
    (
        redis.exceptions.ClusterDownError,
        "",
        exits.UNAVAILABLE,
        "wait until each of its slots has a primary; see CLUSTER INFO",
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
        endpoint = endpoints.parse(url)
    except ValueError as error:
        raise Exit(exits.CONFIGURATION, f"redis.url: {where}: {error}") from None
    try:
        while True:
            try:
                with contextlib.closing(client_of(url)) as client:
                    if isinstance(endpoint, Sentinel):
                        client.role()  # the lanes ask for it at each connect
                    return _prepare(client, config, names, lease, takeover=takeover)
            except redis.exceptions.BusyLoadingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOADING_POLL_SECONDS)
    except Exit:
        raise
    except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
        raise refusal_of(error, url, where) from None


def _prepare(
    client: redis.Redis, config: Config, names: Names, lease: Lease | None, *, takeover: bool
) -> bool:
    key = names.prefixed(contract.CONTRACT_KEY)
    client.set(key, json.dumps(contract.json_schema(names), separators=(",", ":")))
    # The exec lane needs the right to scripts.
    client.evalsha(client.script_load(scripts.RELEASE), 1, key, "")
    if lease is not None:
        lease.take(client, takeover=takeover)
    if config.redis.url is None:
        client.set(FLAG_OF_ROLE[config.role], "1")  # of a Redis that is ours alone
    return _flag(client, FLAG_OF_ROLE[config.role])


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
    try:
        with contextlib.closing(client_of(url, RELEASE_SECONDS_MAX)) as client:
            lease.release(client)
    except (redis.exceptions.RedisError, OSError) as error:
        log.warning("lease.not_released", problem=str(error))


def client_of(
    url: str, answer_seconds_max: float = ANSWER_SECONDS_MAX, **options: Any
) -> redis.Redis:
    """Return a client that never retries. Raises ValueError when the URL is none."""
    seconds = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), answer_seconds_max)
    return endpoints.sync_client(url, **seconds, **options)


def raw_client_of(url: str) -> redis.Redis:
    """Return a client whose answers are lists, bytes and integers, as they came: see `asked`."""
    client = client_of(url, protocol=2)
    client.response_callbacks.clear()
    return client


def asked(client: redis.Redis, *words: bytes | str | int) -> Any:
    """Return what Redis answers to a command. Raises redis.RedisError."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def refusal_of(
    error: Exception, url: str, where: str | None = None, *, setting: str = "redis.url"
) -> Exit:
    """Return the exit for what Redis said, or did not say: its code, the text, what to do."""
    code, remedy = _judge(error)
    said = endpoints.told(url, error)
    if (code, remedy) == NO_ANSWER and (found := _trouble(url)):
        code, said, remedy = found
    remedy = remedy.replace("redis.url", setting)
    return Exit(code, f"{setting}: {where or safe_url(url)}: {said}; {remedy}")


def _trouble(url: str) -> Trouble | None:
    """Return what is wrong with TLS there, if that is it."""
    try:
        return trouble(endpoints.parse(url).locate_now())
    except NotLocated:
        return None


def _judge(error: Exception) -> tuple[int, str]:
    """Return the exit code and the remedy for what Redis said, or did not say."""
    for kinds, beginning, code, remedy in REFUSALS:
        if isinstance(error, kinds) and str(error).startswith(beginning):
            return code, remedy
    return NO_ANSWER
