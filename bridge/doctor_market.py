"""What `python -m bridge doctor` concludes of a Redis that is for market data alone.

It needs to keep nothing: what it lacks and what it forgets is market data, never an execution.
"""

from collections.abc import Iterator

import redis

from bridge import doctor_keys, doctor_rights, doctor_server
from bridge.cluster_client import nodes_of
from bridge.core.contract import Names
from bridge.doctor import Finding, Level, Reading, judged
from bridge.doctor_cluster import merged, worst
from bridge.doctor_reading import read_all
from bridge.exits import Exit
from bridge.preflight import raw_client_of, refusal_of
from bridge.settings import Config


def examine(url: str, config: Config, names: Names) -> Iterator[Finding]:
    """Read the Redis at `url`, and yield what is found, with `market` before each name."""
    client = raw_client_of(url)
    wanted = [*doctor_rights.market_needs(names)]
    try:
        reads = [read_all(node, names, config.role, wanted) for node in nodes_of(client)]
    except Exit as error:
        yield _away(error)
    except (redis.RedisError, OSError) as error:
        yield _away(refusal_of(error, url, setting="redis.market_url"))
    else:
        found = [[*_of_server(each, config)] for each in reads]
        numbered = {f"node {number}": each for number, each in enumerate(found, start=1)}
        for finding in worst(numbered):
            yield finding._replace(name=f"market {finding.name}")
        maxlen = config.market.maxlen
        yield judged("market streams", doctor_keys.market, merged(reads), maxlen)
    finally:
        client.close()


def _of_server(read: Reading, config: Config) -> Iterator[Finding]:
    kinds = len(config.market.subscribe) + bool(config.market.bar_types)
    yield judged("version", doctor_server.version, read)
    yield judged("role", doctor_server.role, read)
    maxlen = config.market.maxlen
    yield judged("memory", doctor_server.memory, read, market_maxlen=maxlen, kinds=kinds)
    yield judged("latency", doctor_server.latency, read)
    yield judged("permissions", doctor_rights.permissions, read)


def _away(refusal: Exit) -> Finding:
    said, _, remedy = str(refusal).rpartition("; ")
    return Finding(Level.LOSE, "market redis", f"{said}: no market data get there", remedy)
