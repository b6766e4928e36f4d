"""bridge/status/events.py: the document to everybody who looks on."""

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from bridge.metrics import Metrics
from bridge.status import events
from bridge.status.feed import VERSION, Feed
from tests.bridge.status.serving import Stream, address_of, feed_of, fetch, make, running

SECONDS_MAX = 10.0


class Shown(Feed):
    """A feed whose state the test sets."""

    now: object = "first"

    def state(self) -> object:
        """Return what was set."""
        return self.now

    def document(self) -> bytes:
        """Return what was set."""
        if isinstance(self.now, Exception):
            raise self.now
        return json.dumps({"now": self.now}).encode()


def shown() -> Shown:
    feed: Shown = feed_of(Metrics(), kind=Shown)
    return feed


async def test_the_document_comes_at_once_and_then_each_second() -> None:
    """Before anything was built it has no state, and says so."""
    server = make(health=lambda: "starting")

    async with running(server), Stream(address_of(server)) as stream, asyncio.timeout(SECONDS_MAX):
        documents = [await stream.document() for _ in range(2)]

    assert stream.head.startswith(b"HTTP/1.1 200")
    assert b"text/event-stream" in stream.head
    for document in documents:
        assert (document["v"], document["role"], document["state"]) == (VERSION, "demo", None)
        assert document["node"]["status"] == "starting"
    assert documents[1]["ts_ns"] > documents[0]["ts_ns"]


async def test_a_change_is_shown_before_the_second_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due only in an hour comes because the state is another one; numbers rise."""
    monkeypatch.setattr(events, "EVENT_SECONDS", 3600.0)
    feed = shown()
    server = make(feed=feed)

    async with running(server), Stream(address_of(server)) as stream, asyncio.timeout(SECONDS_MAX):
        told = [await stream.event()]
        feed.now = "second"
        told.append(await stream.event())

    assert [json.loads(each["data"])["now"] for each in told] == ["first", "second"]
    assert [int(each["id"]) for each in told] == [1, 2]


async def test_all_get_the_same_document() -> None:
    """It is made once, however many look on."""
    server = make(feed=shown())

    async with (
        running(server),
        Stream(address_of(server)) as one,
        Stream(address_of(server)) as other,
        asyncio.timeout(SECONDS_MAX),
    ):
        second = [await other.event() for _ in range(2)]
        first = [await one.event()]
        while int(first[-1]["id"]) < int(second[-1]["id"]):
            first.append(await one.event())

    told = [{each["id"]: each["data"] for each in some} for some in (first, second)]
    assert len(told[0].items() & told[1].items()) == 2


async def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the maximum the answer is 503, until one has gone. Who asks for the head only, to
    learn why, is told the same."""
    monkeypatch.setattr(events, "CLIENTS_MAX", 2)
    server = make(feed=shown())

    async with (
        running(server),
        Stream(address_of(server)),
        Stream(address_of(server)) as leaving,
        asyncio.timeout(SECONDS_MAX),
    ):
        async with Stream(address_of(server)) as third:
            assert third.head.startswith(b"HTTP/1.1 503")
            assert b"retry-after" in third.head
        assert (await fetch(server, "/events", method="HEAD")).status == 503
        await leaving.__aexit__()
        while b" 200 " not in (head := third.head):
            async with Stream(address_of(server)) as third:
                pass

    assert head.startswith(b"HTTP/1.1 200")


async def test_a_document_that_cannot_be_made_is_a_heartbeat() -> None:
    """The stream stays, the log tells it once, and the next good one is shown."""
    feed = shown()
    feed.now = ValueError("no such thing")
    server = make(feed=feed)

    with capture_logs() as logged:
        async with running(server), Stream(address_of(server)) as stream:
            async with asyncio.timeout(SECONDS_MAX):
                first = await stream.chunk()
                feed.now = ValueError("another one")
                second = await stream.chunk()
                feed.now = "mended"
                assert (await stream.document())["now"] == "mended"

    assert (first, second) == ("retry: 500\n\n: heartbeat\n\n", ": heartbeat\n\n")
    assert [each["event"] for each in logged] == ["status.document_failed"]


async def test_the_end_of_the_server_ends_the_streams() -> None:
    """The client reads a whole answer to its last chunk, and nothing is logged as a fault."""
    server = make(feed=shown())

    async with running(server):
        stream = Stream(address_of(server))
        await stream.__aenter__()
        await stream.event()
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(EOFError):
            while True:
                await stream.event()
    await stream.__aexit__()

    assert [task for task in asyncio.all_tasks() if "status" in task.get_name()] == []


async def test_nothing_is_made_while_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop that makes documents waits until somebody comes."""
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.0)
    looks: list[float] = []
    made = events.Events(lambda: b"{}", lambda: 0, looks.append)
    task = asyncio.create_task(made.run())
    for _ in range(100):
        await asyncio.sleep(0)
    task.cancel()

    assert looks == []
