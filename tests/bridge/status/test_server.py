"""bridge/status/server.py over real HTTP."""

import asyncio
import contextlib
import json
import re
import signal
import socket
from collections.abc import Callable

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from bridge.metrics import Metrics
from bridge.status.page import assets
from bridge.status.server import CannotBind, PortTaken, StatusServer
from tests.bridge.status.serving import HOST, address_of, fetch, make, running

END_SECONDS_MAX = 5.0  # on any machine; who held it up would do so for longer

loops = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


async def test_metrics_are_served_in_prometheus_text_format() -> None:
    """What was counted can be scraped, under the format's content type."""
    metrics = Metrics()
    metrics.orders_published.inc(5)
    server = make(metrics=metrics)

    async with running(server):
        answer = await fetch(server, "/metrics")

    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert families["nautilus_bridge_orders_published"].samples[0].value == 5


async def test_metrics_asked_for_often_are_made_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until their share of the loop allows another time, they are answered as they were."""
    monkeypatch.setattr("bridge.status.server.SCRAPE_SHARE", 1 << 30)
    server = make(metrics=(metrics := Metrics()))

    async with running(server):
        first = await fetch(server, "/metrics")
        metrics.orders_published.inc(5)
        second = await fetch(server, "/metrics")

    assert first.body == second.body != metrics.exposition()


async def test_health_is_ok_without_a_reason() -> None:
    """None from the callable is 200."""
    server = make()

    async with running(server):
        answer = await fetch(server, "/health")

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == {"status": "ok"}


async def test_health_says_why_not() -> None:
    """A reason from the callable is 503 with the reason."""
    server = make(health=lambda: "redis: connection refused")

    async with running(server):
        answer = await fetch(server, "/health")

    assert answer.status == 503
    assert json.loads(answer.body) == {"status": "unhealthy", "reason": "redis: connection refused"}


@pytest.mark.parametrize("path", assets())
async def test_the_page_is_served(path: str) -> None:
    """Every file of it, as it is on the disk."""
    server, wanted = make(), assets()[path]

    async with running(server):
        answer = await fetch(server, path)

    assert (answer.status, answer.body) == (200, wanted.body)
    assert answer.headers["content-type"] == wanted.content_type


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nothing", 404),
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("DELETE", "/health", 405),
        ("POST", "/nothing", 405),
        ("OPTIONS", "/", 405),
        ("HEAD", "/events", 200),
    ],
)
async def test_only_get_and_head_of_known_paths(method: str, path: str, expected: int) -> None:
    """Everything else is refused with the usual status."""
    server = make()

    async with running(server):
        answer = await fetch(server, path, method=method)

    assert answer.status == expected
    assert method != "HEAD" or answer.body == b""
    assert expected != 405 or answer.headers["allow"] == "GET, HEAD"


async def test_a_health_check_that_raises_answers_500_and_harms_nothing() -> None:
    """The error is one answer, not the end of the server."""
    answers: list[Callable[[], str | None]] = [lambda: str(1 // 0), lambda: None]
    server = make(health=lambda: answers.pop(0)())

    async with running(server):
        statuses = [(await fetch(server, "/health")).status for _ in range(2)]

    assert statuses == [500, 200]


async def test_signals_stay_with_the_daemon() -> None:
    """Serving installs no signal handler."""
    before = [signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)]
    server = make()

    async with running(server):
        await fetch(server, "/health")
        during = [signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)]

    assert during == before


async def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither start, request, nor end leaves a line of uvicorn's."""
    caplog.set_level("DEBUG")
    server = make()

    async with running(server):
        await fetch(server, "/health")

    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_a_taken_port_is_named_at_bind() -> None:
    """A second server learns of the first, which does not run yet: host, port and setting."""
    first = make()
    first.bind()
    _, port = address_of(first)

    with pytest.raises(PortTaken) as caught:
        make(port=port).bind()

    first.stop()
    error = caught.value
    assert (error.host, error.port, error.setting) == (HOST, port, "status.port")
    assert f"status.port: cannot listen on {HOST} port {port}" in str(error)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_foreign_host_names_its_setting(host: str) -> None:
    """An address that is not this machine's is the host setting's fault, not a taken port."""
    with pytest.raises(CannotBind) as caught:
        make(host=host, token="0123456789abcdef").bind()

    assert not isinstance(caught.value, PortTaken)
    assert caught.value.setting == "status.host"
    assert host in str(caught.value)


def test_a_forbidden_port_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port the user may not open is the port setting's fault, not a taken port."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)  # root may open any port
    with pytest.raises(CannotBind, match=r"status\.port.*above 1023") as caught:
        make(port=80).bind()

    assert not isinstance(caught.value, PortTaken)


def test_url_needs_bind() -> None:
    """Before `bind` the real port is unknown."""
    with pytest.raises(RuntimeError, match="bind"):
        _ = make().url


def test_url_brackets_ipv6() -> None:
    """An IPv6 host makes a URL that can be opened."""
    server = make(host="::1")
    try:
        server.bind()
    except CannotBind:
        pytest.skip("no IPv6 loopback here")

    assert server.url.startswith("http://[::1]:")
    server.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_url_of_all_addresses_names_this_machine(host: str) -> None:
    """Such a URL can be opened from elsewhere, too."""
    server = make(host=host, token="0123456789abcdef")
    try:
        server.bind()
    except CannotBind:
        pytest.skip("no IPv6 here")

    assert re.fullmatch(rf"http://{re.escape(socket.gethostname())}:\d+", server.url)
    server.stop()


async def test_stop_before_run_gives_the_port_back() -> None:
    """A start that fails elsewhere leaves no listener, and a late `run` ends at once."""
    server = make()
    server.bind()
    address = address_of(server)
    server.stop()
    await server.run()

    with socket.create_server(address):
        pass


def end_by_stop(server: StatusServer, task: asyncio.Task[None]) -> None:
    server.stop()
    server.stop()


def end_by_cancel(server: StatusServer, task: asyncio.Task[None]) -> None:
    task.cancel()


ends = pytest.mark.parametrize("end", [end_by_stop, end_by_cancel])
type End = Callable[[StatusServer, asyncio.Task[None]], None]


@loops
@ends
def test_the_end_is_prompt_with_clients_connected(
    new_loop: Callable[[], asyncio.AbstractEventLoop], end: End
) -> None:
    """An idle keep-alive client, a silent one and a half-sent request hold nothing up."""

    async def scenario() -> None:
        server = make()
        with contextlib.ExitStack() as clients:
            async with running(server) as task:
                address = address_of(server)
                # The answer to the last one shows that all have been accepted.
                for sent in (b"", b"GET /metr", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"):
                    client = clients.enter_context(socket.create_connection(address, timeout=5))
                    client.sendall(sent)
                answer = await asyncio.to_thread(client.recv, 4096)
                assert answer.startswith(b"HTTP/1.1 200")
                end(server, task)
                async with asyncio.timeout(END_SECONDS_MAX):
                    await asyncio.wait([task])

        assert task.cancelled() == (end is end_by_cancel)
        with socket.create_server(address):
            pass  # the port is free again

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


@loops
@pytest.mark.parametrize("turns", range(4))
def test_cancellation_at_the_start_leaves_no_listener(
    new_loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    """A task group that fails at once can cancel the server in any of its first loop turns."""

    async def scenario() -> None:
        server = make()
        server.bind()
        address = address_of(server)
        task = asyncio.create_task(server.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.stop()

        # The next listener gets the same descriptor, so the loop must have forgotten the old one.
        listener = await asyncio.start_server(lambda _, writer: writer.close(), *address)
        async with listener, asyncio.timeout(END_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())
