"""`python -m bridge replay`: publish a window of the archive into a scratch Redis.

The streams get the names and the fields that were archived, in the archive's order, under new ids.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import redis

from bridge import archive_segments, exits
from bridge.cluster_client import node_of, nodes_of
from bridge.core import scripts
from bridge.core.chain import Record
from bridge.exits import Exit
from bridge.preflight import asked, client_of, refusal_of
from bridge.section import safe_url

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
BATCH_ENTRIES: Final = 500
NS_DIGITS_MAX: Final = 19
# A longer pause in what was recorded is not waited for.
PAUSE_SECONDS_MAX: Final = 3600.0


def replay(
    directory: Path,
    url: str,
    *,
    from_ns: int,
    to_ns: int,
    speed: float,
    source_url: str,
) -> Iterator[str]:
    """Publish what happened in [from_ns, to_ns); yield how far it is.

    `speed` 1 is the pace of the events' own times, 0 none. `source_url`: the Redis that the archive
    was taken from. Raises Exit: TAKEN when the Redis at `url` is that, or holds one of the streams.
    """
    streams = archive_segments.begun(directory).streams
    if not streams:
        raise Exit(exits.BAD_DATA, f"{directory} holds no archive; see archive.directory")
    client = client_of(url)
    try:
        _check_target(client, url, streams, source_url)
        count, began = 0, time.monotonic()
        for batch in _batches(_window(directory, from_ns, to_ns), speed):
            _publish(client, streams, batch)
            count += len(batch)
            yield f"{count:,} entries"
        seconds = time.monotonic() - began
        yield f"{count:,} entries published to {safe_url(url)} in {seconds:.1f} s"
    except (redis.RedisError, ConnectionError, TimeoutError) as error:
        raise refusal_of(error, url) from None
    finally:
        client.close()


def moment(text: str) -> int:
    """Return nanoseconds since 1970 of an ISO time (UTC where it names no zone) or of an integer.

    Raises ValueError.
    """
    if text.isdigit():
        return int(text)
    found = datetime.fromisoformat(text)
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (found - EPOCH) // timedelta(microseconds=1) * 1000


def _check_target(
    client: redis.Redis, url: str, streams: Mapping[str, str], source_url: str
) -> None:
    where = safe_url(url)
    if _identity(client, url) & _identity_at(source_url):
        raise Exit(
            exits.TAKEN, f"--url: {where} is the Redis that the archive was taken from (redis.url)"
        )
    for key in streams.values():
        if client.exists(key, scripts.mark_key(key)):
            raise Exit(
                exits.TAKEN,
                f"--url: {where} holds {key} already; name an empty Redis",
            )


def _publish(client: redis.Redis, streams: Mapping[str, str], batch: Sequence[Record]) -> None:
    parts: dict[redis.Redis, list[Record]] = {}
    for record in batch:
        parts.setdefault(node_of(client, streams[record.kind]), []).append(record)
    for node, records in parts.items():
        with node.pipeline(transaction=False) as pipe:
            for record in records:
                asked(pipe, "XADD", streams[record.kind], "*", *record.fields)
            pipe.execute()


def _identity(client: redis.Redis, url: str) -> set[str]:
    """Return who answers, each node of a Cluster; by its address where it does not tell."""
    return {str(node.info("server").get("run_id") or safe_url(url)) for node in nodes_of(client)}


def _identity_at(url: str) -> set[str]:
    """Return who answers at another address."""
    client = client_of(url)
    try:
        return _identity(client, url)
    except (redis.RedisError, OSError):
        return set()
    finally:
        client.close()


def _window(directory: Path, from_ns: int, to_ns: int) -> Iterator[tuple[int, Record]]:
    """Yield the records of a window, each with its time."""
    for record in archive_segments.records(directory):
        ts_ns = _time_of(record)
        if from_ns <= ts_ns < to_ns:
            yield ts_ns, record


def _time_of(record: Record) -> int:
    """Return when it happened; of an entry that does not tell, when it was published."""
    names = record.fields[::2]
    if b"ts_ns" in names:
        text = record.fields[2 * names.index(b"ts_ns") + 1]
        if text.isdigit() and len(text) <= NS_DIGITS_MAX:
            return int(text)
    return int(record.id.partition("-")[0] or 0) * 10**6


def _batches(records: Iterable[tuple[int, Record]], speed: float) -> Iterator[Sequence[Record]]:
    """Yield records together, each batch when it is due; before damage all that is whole."""
    batch: list[Record] = []
    latest_ns, due = 0, time.monotonic()
    try:
        for ts_ns, record in records:
            # Times may go back by a little: what was told late happened before.
            ahead = (ts_ns - latest_ns) / 1e9 / speed if speed and latest_ns else 0.0
            latest_ns = max(latest_ns, ts_ns)
            due += min(max(0.0, ahead), PAUSE_SECONDS_MAX)
            pause = due - time.monotonic() if speed else 0.0
            if batch and (pause > 0 or len(batch) == BATCH_ENTRIES):
                yield batch
                batch = []
            if pause > 0:
                time.sleep(pause)
            batch.append(record)
    except archive_segments.Damaged:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
