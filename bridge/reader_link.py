"""How a reader of the exec streams asks Redis: raw replies, several requests at once."""

from collections.abc import Sequence
from typing import Any, Final

import redis
import structlog

from bridge.core import resp, scripts
from bridge.link import Target
from bridge.preflight import client_of
from bridge.reading import SEQ_DIGITS_MAX, Place, digest_of
from bridge.section import safe_url

log = structlog.get_logger("nautilus_bridge.reader")

START: Final = Place("0-0", b"")


class ReaderLink:
    """One connection of one thread, made when it is needed. `problem` says why there is none."""

    def __init__(self, url: str, name: str) -> None:
        self.problem = ""
        self._url = url
        self._name = name
        self._connection: Any = None

    def ask(self, requests: Sequence[bytes], answers: int = 1) -> list[Any]:
        """Send requests that have so many answers each; return them, refusals among them.

        Raises redis.RedisError.
        """
        try:
            connection = self._connected()
            connection.send_packed_command([b"".join(requests)])
            found = [_answer(connection) for _ in range(answers * len(requests))]
        except OSError as error:  # not to be taken for one of the sink's
            self.close()
            raise redis.ConnectionError(str(error)) from error
        except BaseException:
            self.close()
            raise
        if self.problem:
            self.problem = ""
            log.info("reader.connected", sink=self._name)
        return found

    def on_down(self, error: Exception) -> None:
        """Tell once why Redis cannot be asked."""
        said = Target.from_url(self._url).without_secrets(str(error)) or type(error).__name__
        if said != self.problem:
            self.problem = said
            log.error("reader.waiting", sink=self._name, redis=safe_url(self._url), problem=said)

    def close(self) -> None:
        """Hang up; the next request connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _connected(self) -> Any:
        if self._connection is None:
            pool = client_of(self._url).connection_pool
            pool.connection_kwargs |= {"protocol": 2, "decode_responses": False}
            self._connection = pool.make_connection()
            self._connection.connect()
        return self._connection


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
