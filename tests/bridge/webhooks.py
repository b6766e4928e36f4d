"""A webhook on the loopback: an HTTP server that keeps what it is sent, refuses it, or hangs."""

import http.server
import json
import threading
from typing import Any, Final, Self

import pytest

from tests.bridge.processes import eventually

TOKEN: Final = "T0ken-in-the-path"


def need_apprise() -> None:
    """Skip a module while apprise is not installed, and say so."""
    pytest.importorskip("apprise", reason="apprise is not installed here: no alert can be sent")


class Webhook:
    """Use as a context manager. `answers` are the codes of the first requests, then come 200s;
    `hangs`: no request is answered before `release`."""

    def __init__(self, *answers: int, hangs: bool = False) -> None:
        self.requests: list[dict[str, Any]] = []
        self._answers = list(answers)
        self._released = threading.Event()
        if not hangs:
            self._released.set()
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                code = webhook._take(json.loads(self.rfile.read(size)))
                webhook._released.wait()
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Who hung up was told to."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """As apprise wants it, with a secret in it."""
        return f"json://127.0.0.1:{self._server.server_port}/{TOKEN}"

    @property
    def texts(self) -> list[str]:
        """What it was sent, refused or not, as `<kind> <text>`."""
        return [f"{_kind(each)} {each['message']}" for each in self.requests]

    def release(self) -> None:
        """Answer whatever hangs, and from now on at once."""
        self._released.set()

    def until(self, *parts: str) -> str:
        """Wait for a text that holds all of these, and return it."""

        def found() -> str:
            return next((t for t in self.texts if all(part in t for part in parts)), "")

        return eventually(found, f"a notice with {parts} among {self.texts}")

    def _take(self, request: dict[str, Any]) -> int:
        self.requests.append(request)
        return self._answers.pop(0) if self._answers else 200


def _kind(request: dict[str, Any]) -> str:
    return str(request["title"]).rpartition(": ")[2]
