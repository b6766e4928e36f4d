"""Clients that mean no good: requests that are none, and clients that take their time."""

import contextlib
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator

PATHS = (
    "/",
    "/events",
    "/metrics",
    "/health",
    "/page.js",
    "/../../etc/passwd",
    "/%00",
    "http://127.0.0.1/health",
    "http://?@[",
    "/" + "a" * 9000,
)
METHODS = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "TRACE",
    "PRI",
    "get",
    "G\x00T",
    "",
    "M" * 5000,
)
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/9.9", "HTTP/1.1.1", "", "http/1.1", "HTTP/2.0")
HOST = "Host: 127.0.0.1\r\n"
HEALTH = f"GET /health HTTP/1.1\r\n{HOST}"
# What a connection begins with, and what follows without end; nothing: another connection.
FLOODS = {
    "chunks": (f"{HEALTH}Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n" * 5_000),
    "body": (f"{HEALTH}Content-Length: 99999999999\r\n\r\n", "x" * 65_536),
    "headers": (HEALTH, "a:b\r\n" * 10_000),
    "heads": ("", (HEALTH + "a:b\r\n" * 2_000 + "\r\n") * 10),
    "requests": ("", f"{HEALTH}\r\n" * 5_000),
    "connections": ("", ""),
}


def garbage(rng: random.Random) -> bytes:
    """Bytes of any value, null bytes among them."""
    return rng.randbytes(rng.randrange(1, 4096)) + b"\r\n\r\n"


def huge_headers(rng: random.Random) -> bytes:
    """Many headers, or one that is long."""
    many = [f"X-{n}: {'v' * rng.randrange(200)}\r\n" for n in range(rng.randrange(1, 400))]
    one = f"X-Long: {'v' * rng.randrange(1, 200_000)}\r\n"
    return f"GET / HTTP/1.1\r\n{HOST}{rng.choice((one, ''.join(many)))}\r\n".encode()


def bad_line(rng: random.Random) -> bytes:
    """A first line of parts that do not go together."""
    line = " ".join((rng.choice(METHODS), rng.choice(PATHS), rng.choice(VERSIONS)))
    return f"{line}\r\n{HOST}\r\n".encode()


def bad_headers(rng: random.Random) -> bytes:
    """Headers that contradict each other, or are none."""
    lines = [
        "Content-Length: -1", "Content-Length: 1e9", "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: gzip", "Transfer-Encoding: chunked\r\nContent-Length: 3", "Host: b",
        "no colon", " folded: 1", "Name : value", ": nothing", "X: a\x00b", "Cookie: \x7f=;;=",
        "Authorization: Bearer " + "t" * 5000, "Connection: upgrade\r\nUpgrade: websocket",
        "Expect: 100-continue", "Connection: close, close", "Range: bytes=0-0",
        "Cookie: bridge_0=%s" % ("x" * 3000),
    ]  # fmt: skip
    some = "\r\n".join(rng.sample(lines, rng.randrange(1, 4)))
    return f"GET {rng.choice(PATHS)} HTTP/1.1\r\n{HOST}{some}\r\n\r\n".encode("latin-1")


def bad_chunks(rng: random.Random) -> bytes:
    """A body in chunks that are none."""
    chunks = (
        "zz\r\n",
        "-5\r\nhello\r\n",
        "FFFFFFFFFFFFFFFFFF\r\n",
        "5\r\nhel",
        "3;x=\x00\r\nabc\r\n",
    )
    head = f"{rng.choice(('GET', 'POST'))} {rng.choice(PATHS[:5])} HTTP/1.1\r\n{HOST}"
    body = "".join(rng.choices(chunks, k=rng.randrange(1, 5)))
    return f"{head}Transfer-Encoding: chunked\r\n\r\n{body}".encode()


def half(rng: random.Random) -> bytes:
    """The beginning of a good request."""
    whole = f"GET {rng.choice(PATHS[:5])} HTTP/1.1\r\n{HOST}Accept: */*\r\n\r\n".encode()
    return whole[: rng.randrange(len(whole))]


def pipelined(rng: random.Random) -> bytes:
    """Good requests with a bad one among them."""
    good = f"GET /health HTTP/1.1\r\n{HOST}\r\n".encode()
    return good * rng.randrange(1, 20) + garbage(rng) + good


def query(rng: random.Random) -> bytes:
    """A query that is no text."""
    text = "".join([f"%{rng.randrange(256):02x}" for _ in range(rng.randrange(1, 500))])
    return f"GET /?token={text}&&=;&token HTTP/1.1\r\n{HOST}\r\n".encode()


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    garbage, huge_headers, bad_line, bad_headers, bad_chunks, half, pipelined, query,
)  # fmt: skip


def requests(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield requests that are none, with what kind of it they are."""
    rng = random.Random(seed)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield kind.__name__, kind(rng)


def send(address: tuple[str, int], sent: bytes, seconds: float) -> bytes:
    """Send it; return what comes back in so much time, at most a little of it."""
    with socket.create_connection(address, timeout=5) as client:
        client.settimeout(seconds)
        got = b""
        with contextlib.suppress(OSError):
            client.sendall(sent)
            while len(got) < 4096 and (part := client.recv(4096)):
                got += part
        return got


def slow(address: tuple[str, int], number: int) -> socket.socket:
    """Return a client that does not read: a half request, events, metrics, or nothing at all."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.settimeout(5)
    client.connect(address)
    paths = ("/events", "/metrics")
    ask = f"GET {paths[number % 2]} HTTP/1.1\r\n{HOST}\r\n".encode()
    client.sendall((ask, ask * 20, ask[:30], b"")[number % 4])
    return client


@contextlib.contextmanager
def flooding(address: tuple[str, int], kind: str) -> Iterator[None]:
    """Send a flood for the block, on one connection at a time; take what is answered."""
    opening, more = [each.encode() for each in FLOODS[kind]]
    is_over = threading.Event()

    def flood() -> None:
        while not is_over.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(address, timeout=5) as client,
            ):
                client.sendall(opening)
                rest = b""
                while more and not is_over.is_set():
                    readable, writable, _ = select.select([client], [client], [], 0.1)
                    rest = rest or more
                    if writable:
                        rest = rest[client.send(rest) :]
                    if readable and not client.recv(1 << 16):
                        break

    sender = threading.Thread(target=flood)
    sender.start()
    try:
        yield
    finally:
        is_over.set()
        sender.join()
