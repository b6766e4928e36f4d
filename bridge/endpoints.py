"""Where Redis is: one server, the primary that Sentinels name, or a Cluster; and clients of each.

All redis-py clients of the bridge are made here. None of them retries: redis-py's own retries turn
one lost reply into several entries.
"""

import functools
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge.cluster_client import ClusterClient
from bridge.sentinel import Sentinel
from bridge.target import Target, tls_context

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
PLAIN: Final = ("redis", "rediss", "unix")
SCHEMES: Final = (*PLAIN, "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# What may follow the ?, by the kind of place.
OPTIONS: Final = {
    "": ("db", "username", "password", "client_name"),
    "sentinel": ("sentinel_username", "sentinel_password"),
    "cluster": (),
}
_HOST = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(:(?P<port>\d{1,5}))?")


@dataclass(slots=True)
class Cluster:
    """A Redis Cluster, by some of its nodes; each is entered in the same way.

    All of a process share one: `problem` is why it is not sure who the primaries are now.
    """

    seeds: tuple[Target, ...]
    db: int = 0
    problem: str = field(default="", compare=False)

    @property
    def where(self) -> str:
        """The addresses, fit to be logged."""
        return ",".join([each.where for each in self.seeds])

    def without_secrets(self, text: str) -> str:
        """Return what Redis said without the password."""
        return self.seeds[0].without_secrets(text)

    async def locate(self, age_seconds_max: float = 0.0) -> Target:
        """Return the first of the nodes: it names all others."""
        return self.locate_now(age_seconds_max)

    def locate_now(self, age_seconds_max: float = 0.0) -> Target:
        """Return the first of the nodes: it names all others."""
        return self.seeds[0]


type Endpoint = Target | Sentinel | Cluster


# URLs.


class _Parts(NamedTuple):
    """A URL, taken apart; `kind` is empty, `sentinel` or `cluster`, `options` what follows ?."""

    scheme: str
    kind: str
    username: str | None
    password: str | None
    hosts: str
    path: str
    options: Mapping[str, str]


@functools.lru_cache(maxsize=64)
def parse(url: str) -> Endpoint:
    """Return where a URL leads; the same object for the same URL.

    `redis[s]://[user:password@]host[:port][/db]`, `unix://[user:password@]/path[?db=n]`,
    `redis[s]+sentinel://[user:password@]host[:port],.../service[/db]`,
    `redis[s]+cluster://[user:password@]host[:port],...`. Raises ValueError with a reason that never
    repeats a part of the URL.
    """
    parts = _split(url)
    if parts.scheme == "unix":
        return _socket(parts)
    tls_options = _tls_options(parts)
    tls = tls_context(tls_options) if parts.scheme.startswith("rediss") else None
    secure: dict[str, Any] = {"tls": tls, "tls_options": tls_options}
    login = {"username": parts.username, "password": parts.password, **secure}
    match parts.kind:
        case "sentinel":
            service, _, db = parts.path.partition("/")
            if not service:
                raise ValueError("the name of the service is missing: a / and it behind the hosts")
            for name in ("username", "password"):
                secure[name] = parts.options.get(f"sentinel_{name}")
            sentinels = [
                Target(host, port, **secure) for host, port in _hosts(parts.hosts, SENTINEL_PORT)
            ]
            primary = Target(db=_database(db), proves_role=True, **login)
            return Sentinel(sentinels, unquote(service), primary)
        case "cluster":
            if parts.path:
                raise ValueError("a Cluster has no databases: nothing may follow the hosts")
            nodes = _hosts(parts.hosts, REDIS_PORT)
            return Cluster(tuple([Target(host, port, **login) for host, port in nodes]))
    [(host, port), *others] = _hosts(parts.hosts or "127.0.0.1", REDIS_PORT)
    if others:
        raise ValueError("it names several hosts; for those there are redis+sentinel:// and "
                         "redis+cluster://")  # fmt: skip
    return Target(host, port, db=_database(parts.options.get("db", parts.path)), **login)


def parse_single(url: str) -> Target:
    """Return the one server that a URL leads to. Raises ValueError as `parse`; for others, too."""
    endpoint = parse(url)
    if not isinstance(endpoint, Target):
        raise ValueError("Nautilus's cache wants one server: redis://, rediss://")
    return endpoint


def _split(url: str) -> _Parts:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(
            "it does not begin with redis://, rediss://, unix://, redis[s]+sentinel:// or "
            "redis[s]+cluster://"
        )
    if not url.isprintable() or " " in url:
        raise ValueError("it has a blank or a control character, which is written %20, %0A, ...")
    try:
        split = urlsplit(url)
        pairs = parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
    except ValueError:
        raise ValueError("it cannot be read: is each part in its place?") from None
    kind = scheme.partition("+")[2]
    options = dict(pairs)
    allowed = (*OPTIONS[kind], *(TLS if scheme.startswith("rediss") else ()))
    if not options.keys() <= set(allowed) or len(options) < len(pairs):
        names = ", ".join(allowed) or "nothing"
        raise ValueError(f"behind its ? may stand, once each: {names}")
    if "%" in "".join([pair.partition("=")[0] for pair in split.query.split("&")]):
        raise ValueError("a name behind its ? has a % in it; only values may")
    if "#" in url:
        raise ValueError("a # in it has to be written %23")
    user, _, hosts = split.netloc.rpartition("@")
    name = user.partition(":")[0]
    if "@" in name or (kind and ("@" in user or "," in name)):
        raise ValueError("user and password stand once, before the hosts: , in them is %2C, @ %40")
    username, _, password = map(unquote, user.partition(":"))
    return _Parts(
        scheme,
        kind,
        username or options.get("username"),
        password or options.get("password"),
        hosts,
        split.path.strip("/") if scheme != "unix" else split.path,
        options,
    )


def _socket(parts: _Parts) -> Target:
    if not parts.path or parts.hosts:
        raise ValueError("the path of the socket is missing: three slashes, unix:///path")
    db = _database(parts.options.get("db", ""))
    path = unquote(parts.path)
    return Target(path=path, db=db, username=parts.username, password=parts.password)


def _hosts(text: str, default_port: int) -> list[tuple[str, int]]:
    found = [_HOST.fullmatch(each) for each in text.split(",")]
    hosts = [
        (each["host"].strip("[]"), int(each["port"] or default_port))
        for each in found
        if each is not None
    ]
    if len(hosts) < len(found) or not all(_may_be(*each) for each in hosts):
        raise ValueError(
            "it has a host that cannot be read: a name or an address, then perhaps : and a port"
            " (in a password / is written %2F)"
        )
    return hosts


def _may_be(host: str, port: int) -> bool:
    try:
        host.encode("idna")  # what no name can be fails there, each time it is looked up
    except UnicodeError:
        return False
    return 0 < port < 1 << 16


def _database(text: str) -> int:
    # redis-py takes database 0 for what is no number; that would be somebody else's data.
    if text and not (text.isascii() and text.isdecimal() and int(text) < 1 << 31):
        raise ValueError("the database behind the last / is not a number")
    return int(text or 0)


def _tls_options(parts: _Parts) -> dict[str, Any]:
    options: dict[str, Any] = {name: value for name, value in parts.options.items() if name in TLS}
    if not all(options.values()):
        raise ValueError("an option behind its ? is empty")
    if "ssl_check_hostname" in options:
        word = options["ssl_check_hostname"].lower()
        if word not in TRUTHS:
            raise ValueError("ssl_check_hostname is neither true nor false")
        options["ssl_check_hostname"] = TRUTHS[word]
    if options.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise ValueError("ssl_cert_reqs is none of: none, optional, required")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("ssl_keyfile without ssl_certfile")
    return options


def told(url: str, error: Exception) -> str:
    """Return what an error of the Redis at `url` says, without secrets; and what else is wrong."""
    endpoint = parse(url)
    said = endpoint.without_secrets(str(error)) or type(error).__name__
    return f"{said}; {endpoint.problem}" if endpoint.problem else said


# Clients.


def sync_client(url: str, **options: Any) -> redis.Redis:
    """Return a client of the Redis at `url`; `options` are redis-py's. Raises ValueError."""
    given: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), **options}
    match parse(url):
        case Target():
            return redis.Redis.from_url(url, **given)
        case Cluster(seeds):
            client = ClusterClient(seeds, **_entry(seeds[0]), **given)
            return cast(redis.Redis, client)  # it takes the same commands
        case Sentinel() as sentinel:

            def discover(_: str) -> tuple[str, int]:
                found = sentinel.locate_now()
                return found.host, found.port

            make_pool: Any = redis.sentinel.SentinelConnectionPool
            pool = make_pool(
                sentinel.service,
                types.SimpleNamespace(discover_master=discover),
                **_entry(sentinel.primary),
                **given,
            )
            return redis.Redis.from_pool(pool)


def async_client(url: str, **options: Any) -> redis.asyncio.Redis:
    """Return a client of the Redis at `url`; `options` are redis-py's. Raises ValueError."""
    given: dict[str, Any] = {"retry": redis.asyncio.retry.Retry(NoBackoff(), 0), **options}
    match parse(url):
        case Target():
            return redis.asyncio.Redis.from_url(url, **given)
        case Cluster(seeds):
            nodes = [redis.asyncio.cluster.ClusterNode(each.host, each.port) for each in seeds]
            client = redis.asyncio.RedisCluster(startup_nodes=nodes, **_entry(seeds[0]), **given)
            return cast(redis.asyncio.Redis, client)  # it takes the same commands
        case Sentinel() as sentinel:

            async def discover(_: str) -> tuple[str, int]:
                found = await sentinel.locate()
                return found.host, found.port

            make_pool: Any = redis.asyncio.sentinel.SentinelConnectionPool
            pool = make_pool(
                sentinel.service,
                types.SimpleNamespace(discover_master=discover),
                **_entry(sentinel.primary),
                **given,
            )
            return redis.asyncio.Redis.from_pool(pool)


def _entry(target: Target) -> dict[str, Any]:
    return target.entry | ({"db": target.db} if target.db else {})
