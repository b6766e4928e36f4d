"""How a reader of the exec streams asks Redis: raw replies, several requests at once."""

from collections.abc import Sequence
from typing import Any, Final

import redis
import structlog

from bridge import endpoints
from bridge.cluster_client import node_of
from bridge.core import resp, scripts, slots
from bridge.link import FOLLOW_SECONDS
from bridge.preflight import client_of
from bridge.reading import SEQ_DIGITS_MAX, Place, digest_of
from bridge.section import safe_url
from bridge.sentinel import Sentinel

log = structlog.get_logger("nautilus_bridge.reader")

START: Final = Place("0-0", b"")


class ReaderLink:
    """The connections of one thread, one to each server, made when they are needed. `problem` says
    why there are none."""

    def __init__(self, url: str, name: str) -> None:
        self.problem = ""
        self._url = url
        self._name = name
        self._client: redis.Redis | None = None
        self._connections: dict[redis.Redis, Any] = {}

    def ask(self, requests: Sequence[bytes], answers: int = 1) -> list[Any]:
        """Send requests that have so many answers each; return them, refusals among them.

        A request is of one slot. Raises redis.RedisError.
        """
        try:
            if self._has_moved():
                self.close()
            wires = [self._connected(each) for each in requests]
            for wire in dict.fromkeys(wires):
                theirs = [each for each, to in zip(requests, wires, strict=True) if to is wire]
                wire.send_packed_command([b"".join(theirs)])
            found = [_answer(wire) for wire in wires for _ in range(answers)]
        except OSError as error:  # not to be taken for one of the sink's
            self.close()
            raise redis.ConnectionError(str(error)) from error
        except BaseException:
            self.close()
            raise
        if any(isinstance(each, redis.exceptions.MovedError) for each in found):
            self.close()
            raise redis.ConnectionError("the slots of the Cluster have moved")
        if self.problem:
            self.problem = ""
            log.info("reader.connected", sink=self._name)
        return found

    def on_down(self, error: Exception) -> None:
        """Tell once why Redis cannot be asked."""
        said = endpoints.told(self._url, error)
        if said != self.problem:
            self.problem = said
            log.error("reader.waiting", sink=self._name, redis=safe_url(self._url), problem=said)

    def close(self) -> None:
        """Hang up; the next request connects again."""
        for connection in self._connections.values():
            connection.disconnect()
        self._connections, self._client = {}, None

    def _connected(self, request: bytes) -> Any:
        """Return a connection to the server that a request is for."""
        if self._client is None:
            self._client = client_of(self._url, protocol=2, decode_responses=False)
        key, _ = next(slots.commands(request))
        node = node_of(self._client, key or b"")
        if node not in self._connections:
            connection: Any = node.connection_pool.make_connection()
            connection.connect()
            self._connections[node] = connection
        return self._connections[node]

    def _has_moved(self) -> bool:
        """Whether another one is the primary by now: the former one may not say so for long."""
        endpoint = endpoints.parse(self._url)
        if not (self._connections and isinstance(endpoint, Sentinel)):
            return False
        primary = endpoint.locate_now(FOLLOW_SECONDS)
        [wire] = self._connections.values()
        return (wire.host, wire.port) != (primary.host, primary.port)


def question(key: str, place: Place, entries_max: int) -> bytes:
    """Return what asks for a stream's marks, then for its place and what follows that.

    The two of the stream are one command, and cannot be of different times.
    """
    marks = resp.command("HGETALL", scripts.mark_key(key))
    count = entries_max + (place.id != START.id)
    return marks + resp.command("XREAD", "COUNT", count, "STREAMS", key, _before(place.id))


def entries_of(page: Any) -> list[Any]:
    """Return the entries of an answer, each an id and its fields. Raises redis.InvalidResponse."""
    if page is None or page == []:  # fakeredis says the latter
        return []
    if not isinstance(page, list):
        raise redis.InvalidResponse("it answers what is no stream")
    entries: list[Any] = page[0][1]
    return entries


def marks_of(flat: Any) -> dict[str, int]:
    """Return the last number of each producer that a stream's mark tells of.

    Raises redis.InvalidResponse.
    """
    if not isinstance(flat, list):
        raise redis.InvalidResponse("it answers what is no hash")
    marks = {}
    for producer, text in zip(flat[::2], flat[1::2], strict=True):
        seq = text.partition(b" ")[0]
        if not producer.startswith(b"owner:") and seq.isdigit() and len(seq) <= SEQ_DIGITS_MAX:
            marks[producer.decode(errors="replace")] = int(seq)
    return marks


def place_of(entry: list[Any]) -> Place:
    """Return the place that an entry is."""
    entry_id, fields = entry
    return Place(entry_id.decode(), digest_of(fields))


def is_error(answer: object) -> bool:
    """Whether Redis refused."""
    return isinstance(answer, Exception)


def _before(entry_id: str) -> str:
    """Return the id right before another."""
    ms, _, n = entry_id.partition("-")
    if n != "0":
        return f"{ms}-{int(n) - 1}"
    return entry_id if ms == "0" else f"{int(ms) - 1}-{(1 << 64) - 1}"


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
