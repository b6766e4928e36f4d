"""What `python -m bridge doctor` does: read everything, judge it, and report."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import redis

from bridge import (
    doctor_host,
    doctor_keys,
    doctor_market,
    doctor_nautilus,
    doctor_rights,
    doctor_server,
    endpoints,
    exits,
)
from bridge.cluster_client import nodes_of
from bridge.controller import Keys
from bridge.core.contract import Names
from bridge.doctor import Finding, Level, Reading, judged
from bridge.doctor_cluster import merged, worst
from bridge.doctor_reading import read_all
from bridge.endpoints import Cluster
from bridge.exits import Exit
from bridge.lease import lease_keys
from bridge.preflight import raw_client_of, refusal_of
from bridge.section import safe_url
from bridge.sentinel import Sentinel
from bridge.settings import Config
from bridge.target import Target


class Examination:
    """What was found, in the order of the report; `refusal` is why Redis could not be asked.

    `path` is the file that the settings are from; `is_ours`: the Redis is the demo's own, which
    keeps nothing on purpose.
    """

    def __init__(self, config: Config, url: str, path: Path | None, *, is_ours: bool) -> None:
        self.findings: list[Finding] = []
        self.refusal: Exit | None = None
        self._config = config
        self._url = url
        self._path = path
        self._is_ours = is_ours
        self._names = Names(config.stream_prefix, config.streams.templates)

    def run(self, environ: Mapping[str, str]) -> None:
        """Read and judge everything."""
        config = self._config
        self.findings += doctor_host.settings(config, self._path, self._names)
        self.findings += doctor_host.disk(config, doctor_host.folders(config))
        self.findings += doctor_host.unit(config.role, doctor_host.unit_properties(config.role))
        market_url = config.redis.secret_market_url
        keys, leases = Keys.of(config.role, self._url), lease_keys(config)
        is_market = market_url is None
        has_sentinels = isinstance(endpoints.parse(self._url), Sentinel)
        wanted = [
            *doctor_rights.needs(
                self._names, keys, leases, market=is_market, has_sentinels=has_sentinels
            )
        ]
        client = raw_client_of(self._url)
        try:
            reads = {
                self._url_of(node): read_all(node, self._names, config.role, wanted)
                for node in nodes_of(client)
            }
            self._check_kind(reads[next(iter(reads))])
        except Exit as error:
            self._refuse(error)
        except (redis.RedisError, OSError) as error:
            self._refuse(refusal_of(error, self._url))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            said = f"it answers what no Redis does: {type(error).__name__}: {error}"
            self._refuse(Exit(exits.UNAVAILABLE, f"{said}; name a Redis in --url"))
        else:
            self.findings += self._of_redis(reads, environ)
        finally:
            client.close()
        if market_url is not None:
            self.findings += doctor_market.examine(market_url, config, self._names)

    def _refuse(self, refusal: Exit) -> None:
        self.refusal = refusal
        said, _, remedy = str(refusal).rpartition("; ")
        self.findings.append(Finding(Level.LOSE, "redis", said, remedy))

    def _url_of(self, node: redis.Redis) -> str:
        """Return the URL of a server by itself."""
        if not isinstance(endpoints.parse(self._url), Cluster):
            return self._url
        where = node.connection_pool.connection_kwargs
        host = f"[{where['host']}]" if ":" in where["host"] else where["host"]
        return f"redis://{host}:{where['port']}"

    def _check_kind(self, read: Reading) -> None:
        is_cluster = isinstance(endpoints.parse(self._url), Cluster)
        if read.info.get("cluster_enabled") == "1" and not is_cluster:
            what = f"redis.url: {safe_url(self._url)}: it is a node of a Cluster"
            raise Exit(exits.CONFIGURATION, f"{what}; write redis+cluster://")

    def _of_server(self, url: str, read: Reading) -> Iterator[Finding]:
        config, maxlen = self._config, self._config.market.maxlen
        kinds = len(config.market.subscribe) + bool(config.market.bar_types)
        kinds = kinds if config.redis.market_url is None else 0
        yield from doctor_server.server(
            read,
            is_ours=self._is_ours,
            is_replaceable=not isinstance(endpoints.parse(self._url), Target),
            market_maxlen=maxlen,
            kinds=kinds,
        )
        yield judged("permissions", doctor_rights.permissions, read)
        used, folder = read.info.get("used_memory", ""), read.settings.get("dir", "")
        of_disk = doctor_host.redis_disk(url, folder, int(used) if used.isdecimal() else 0)
        if of_disk is not None:
            yield of_disk

    def _of_redis(
        self, reads: Mapping[str, Reading], environ: Mapping[str, str]
    ) -> Iterator[Finding]:
        config, maxlen = self._config, self._config.market.maxlen
        found = {url: [*self._of_server(url, read)] for url, read in reads.items()}
        yield from worst({url.removeprefix("redis://"): each for url, each in found.items()})
        read = merged([*reads.values()])
        yield from doctor_keys.keys(
            read,
            now_ns=time.time_ns(),
            names=self._names,
            role=config.role,
            normal_words=config.control.normal_modes,
            limits=config.limits_in_force,
        )
        if config.redis.market_url is None:
            yield judged("market streams", doctor_keys.market, read, maxlen)
        yield from doctor_nautilus.nautilus(
            read,
            now_ns=time.time_ns(),
            db=endpoints.parse(self._url).db,
            cache_db=self._cache_db(),
            nodes=doctor_host.node_configs(environ, self._url),
        )

    def _cache_db(self) -> int | None:
        """Return the database of cache.url, None where that is no part of this server."""
        if self._config.cache.url is None:
            return None
        cache = endpoints.parse_single(self._config.cache.url.get_secret_value())
        here = endpoints.parse(self._url).locate_now()
        return cache.db if doctor_host.is_same(cache, here) else None

    @property
    def code(self) -> int:
        """The exit code: FAILED when something would lose data, that of Redis when it is away."""
        if self.refusal is not None:
            return self.refusal.code
        would_lose = any(each.level is Level.LOSE for each in self.findings)
        return exits.FAILED if would_lose else exits.DONE

    def lines(self, *, as_json: bool) -> Sequence[str]:
        """Return the report."""
        if as_json:
            found = [each._asdict() | {"numbers": dict(each.numbers)} for each in self.findings]
            return [json.dumps({"code": self.code, "findings": found}, indent=2)]
        return [*_table(self.findings), _verdict(self.findings)]


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    width = max([len(each.name) for each in findings])
    columns = "{:<7}  {:<" + str(width) + "}  {}"
    for level, name, what, remedy, _ in findings:
        word = level.upper() if level is Level.LOSE else level.value
        yield columns.format(word, name, what)
        if remedy:
            yield columns.format("", "", f"-> {remedy}")


def _verdict(findings: Sequence[Finding]) -> str:
    counts = {level: sum([each.level is level for each in findings]) for level in Level}
    if counts[Level.LOSE]:
        return f"{counts[Level.LOSE]} of {len(findings)} would lose data"
    return (
        f"nothing would lose data; {counts[Level.WARN]} of {len(findings)} to change, "
        f"{counts[Level.UNKNOWN]} not known"
    )
