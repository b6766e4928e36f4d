"""The page's document of a bridge that is not built, made in this process: what it never does."""

import asyncio
import json
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core import contract
from bridge.metrics import Metrics
from bridge.status import feed as module
from tests.bridge.status.serving import feed_of
from tests.integrations.nautilus.engines import until


async def test_before_anything_is_built() -> None:
    """A document of nulls, and of readers: of one that runs elsewhere nothing is known here."""
    feed = feed_of(Metrics(), lambda: "starting", BRIDGE_ARCHIVE__READER="alone")

    told = json.loads(feed.document())

    assert (told["state"], told["link"], told["journal"], told["last_fill"]) == (None,) * 4
    assert told["pnl"]["realized_day"] is told["books"]["behind"] is None
    assert (told["feed"], told["positions"], told["control"]) == ([], [], [])
    assert told["node"]["status"] == "starting" and not told["node"]["ready"]
    assert told["readers"] == [
        {"name": "ledger", "state": "not begun", "lag_entries": 0, "gaps": 0},
        {"name": "archive", "state": "a process of its own", "lag_entries": None, "gaps": None},
    ]


class Watched(deque[Any]):
    """A queue that knows in which threads it was read."""

    def __init__(self, rows: Iterable[Any]) -> None:
        super().__init__(rows)
        self.readers: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        self.readers.append(threading.get_ident())
        return super().__iter__()


async def test_tables_are_made_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often documents are made, the long tables are made once for all of them, in another
    thread, and what came meanwhile is shown with the next ones."""
    monkeypatch.setattr(module, "ROWS_SECONDS", 3600.0)
    feed = feed_of(Metrics())
    feed.document()
    values = ["1"] * len(contract.STREAMS["orders"].fields)
    feed.recent.trades = trades = Watched([("orders", tuple(values))])

    await until(lambda: json.loads(feed.document())["feed"])
    [row] = rows = json.loads(feed.document())["feed"]
    for _ in range(100):
        await asyncio.sleep(0.001)
        assert json.loads(feed.document())["feed"] == rows

    assert row["kind"] == "order" and row["cl_ord_id"] == "1"
    assert threading.get_ident() not in trades.readers
    assert len(trades.readers) <= 2


async def test_a_table_that_cannot_be_made_is_an_error() -> None:
    """It is not passed over: whoever asks for the document is told."""
    feed = feed_of(Metrics())
    feed.recent.trades = Watched([("no such kind", ())])

    with pytest.raises(KeyError):
        await until(lambda: not feed.document())


@pytest.mark.parametrize("ts_ns", ["9" * 22, "9" * 5_000, "-1", "soon"])
async def test_a_time_that_is_none(ts_ns: str) -> None:
    """It is not known, and the rest of the document is made."""
    feed = feed_of(Metrics())
    feed.document()
    values = dict.fromkeys(contract.STREAMS["fills"].fields, "1") | {"ts_ns": ts_ns}
    feed.recent.take("fills", tuple(values.values()))

    await until(lambda: json.loads(feed.document())["feed"])
    told = json.loads(feed.document())
    assert told["feed"][0]["ts_ns"] is told["last_fill"]["ts_ns"] is None
    assert told["last_fill"]["price"] == "1"


async def test_no_document_holds_what_json_has_no_word_for() -> None:
    """Rather none at all: browsers read none of it."""
    feed = feed_of(Metrics())
    feed.measures.rates = lambda: {"market_per_s": math.nan}

    with pytest.raises(ValueError, match="JSON"):
        feed.document()


async def test_the_past_is_not_asked_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that does not tell it is asked a few times, and the log has it once."""
    for name in ("LOOK_SECONDS", "LOOK_SHARE", "RECALL_SECONDS"):
        monkeypatch.setattr(module, name, 0)
    feed = feed_of(Metrics())
    with capture_logs() as logs:
        await until(lambda: feed.document() and feed._recalls == module.RECALLS_MAX)
        for _ in range(50):
            await asyncio.sleep(0.001)
            feed.document()

    told = [each["log_level"] for each in logs if each["event"] == "status.not_recalled"]
    assert told == ["debug"] * (module.RECALLS_MAX - 1) + ["warning"]


async def test_pauses_between_two_questions_grow() -> None:
    """Each is twice the last."""
    feed = feed_of(Metrics())
    for n in range(3):
        await feed._recall()
        pause = feed._recall_at - time.monotonic()
        assert pause == pytest.approx(module.RECALL_SECONDS * 2**n, abs=0.5)
