"""The tests' proxy on a thread and loop of its own, for a run that is not asynchronous."""

import asyncio
import threading
from typing import Any, Self

from tests.proxies import Proxy


class ProxyThread:
    """A proxy in front of `upstream_port`. Use as a context manager; clients connect to `port`."""

    def __init__(self, upstream_port: int) -> None:
        self._proxy = Proxy(upstream_port)
        self._ready, self._ended = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    @property
    def port(self) -> int:
        return self._proxy.port

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of the proxy, on its loop."""
        self._loop.call_soon_threadsafe(getattr(self._proxy, method), *arguments)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._proxy:
            self._ready.set()
            await self._ended.wait()
