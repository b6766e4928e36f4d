"""The yardsticks: REF, the fastest a raw socket gets entries in, and a bare PING round trip."""

import socket
import statistics
import time
from collections.abc import Sequence

from nautilus_trader.model.data import QuoteTick

from bridge.core import resp
from bridge.core.contract import default_names
from bridge.embedded_redis import HOST
from integrations.nautilus import market
from integrations.nautilus.market import Routes, Trim
from tests.bench.machine import CHUNK
from tests.bench.rig import ALIAS, MAXLEN, engine
from tests.servers import RedisServer

BATCHES_IN_FLIGHT = 4
RECEIVE_BYTES = 1 << 18
PINGS = 1_000
REPLY_SECONDS_MAX = 30.0


def encode(chunks: Sequence[Sequence[QuoteTick]]) -> list[bytes]:
    """Return the chunks as REF sends them: the producer's own bytes, each entry trimming."""
    with engine() as made:
        trim = Trim(MAXLEN, every=1)
        to_bytes = market.quote_encoder(
            Routes(default_names(), made.kernel.cache, venue_alias=ALIAS, trim=trim)
        )
        return [to_bytes(chunk) for chunk in chunks]


class Reference:
    """A blocking socket that has nothing to do but send what was encoded before."""

    def __init__(self, server: RedisServer, batches: Sequence[bytes]) -> None:
        self._socket = socket.create_connection((HOST, server.port), timeout=REPLY_SECONDS_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._batches = batches

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def blast(self, entries: int) -> float:
        """Return the seconds per entry. Raises RuntimeError when Redis refuses one."""
        total = entries // CHUNK
        sent = ends = 0
        start = time.perf_counter()
        while ends < entries * 2:  # an id is a header line and a line
            done = ends // (2 * CHUNK)
            while sent < total and sent - done < BATCHES_IN_FLIGHT:
                self._socket.sendall(self._batches[sent % len(self._batches)])
                sent += 1
            received = self._socket.recv(RECEIVE_BYTES)
            if not received or received.startswith(b"-") or b"\n-" in received:
                raise RuntimeError(f"REF was refused: {received[:80]!r}")
            ends += received.count(b"\r\n")
        return (time.perf_counter() - start) / entries

    def ping_seconds(self, count: int = PINGS) -> float:
        """Return the median round trip of a PING."""
        ping = resp.command("PING")
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            self._socket.sendall(ping)
            self._socket.recv(RECEIVE_BYTES)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)
