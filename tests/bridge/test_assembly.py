"""bridge/assembly.py: settings become a publisher whose lanes take events from any thread."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import config
from bridge.assembly import make_publisher
from bridge.core import contract, resp
from bridge.core.contract import STREAMS, default_names
from bridge.core.lanes import ExecLane
from bridge.journal_reader import Reader
from bridge.metrics import Metrics
from bridge.records import Records
from tests.proxies import Rig, check_exec, on_uvloop
from tests.servers import RedisServer, free_port

type MakeLane = Callable[..., tuple[ExecLane, Records | None]]

THREADS = 4
EACH = 300


@pytest.fixture(autouse=True)
def _threads_that_switch() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def make_lane(tmp_path: Path) -> Iterator[MakeLane]:
    """Return `make(journaled, threaded)`: a lane as the daemon has it, and its records if any."""
    with contextlib.ExitStack() as open_records:

        def make(*, journaled: bool, threaded: bool) -> tuple[ExecLane, Records | None]:
            given = {"state.directory": str(tmp_path)} if journaled else {}
            settings = config.load(None, environ={}, overrides=given)
            records = Records.open(settings, "T") if journaled else None
            if records is not None:
                open_records.callback(records.close)
            publisher = make_publisher(
                settings,
                default_names(),
                Metrics(),
                url=f"redis://127.0.0.1:{free_port()}/0",
                producer_id="T",
                records=records,
                threaded=threaded,
            )
            return publisher.exec.lane, records

        yield make


def entry(text: str) -> contract.Entry:
    return contract.entry("orders", dict.fromkeys(STREAMS["orders"].names, text))


def in_threads(append: Callable[[str], None]) -> list[str]:
    """Have several threads call `append` at once; return all texts that they gave."""
    texts = [[f"{thread} {number}" for number in range(EACH)] for thread in range(THREADS)]
    start = threading.Barrier(THREADS)

    def work(mine: list[str]) -> None:
        start.wait()
        for text in mine:
            append(text)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [text for mine in texts for text in mine]


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("journaled", [False, True])
def test_a_number_is_given_once(make_lane: MakeLane, journaled: bool, threaded: bool) -> None:
    """Timers of a live node run in threads of their own: whoever appends, no number comes twice."""
    lane, _ = make_lane(journaled=journaled, threaded=threaded)

    texts = in_threads(lambda text: lane.append(entry(text)))

    kept = [resp.pairs(each.data) for each in lane.streams["orders"].window]
    assert [int(row["seq"]) for row in kept] == list(range(1, len(texts) + 1))
    assert [int(row["jseq"]) for row in kept] == list(range(1, len(texts) + 1))
    assert sorted(row["status"] for row in kept) == sorted(texts)


def test_the_journal_is_whole(make_lane: MakeLane) -> None:
    """What several threads have appended at once is in the journal, each entry once."""
    lane, records = make_lane(journaled=True, threaded=False)
    assert records is not None

    texts = in_threads(lambda text: lane.append(entry(text)))

    reader = Reader(records.journal, records.journal.producer, "orders")
    rows = [resp.pairs(each.data) for each in reader.read(1, 2 * len(texts), None)]
    assert sorted(row["status"] for row in rows) == sorted(texts)


@on_uvloop
async def test_any_thread_wakes_the_publisher(redis_server: RedisServer) -> None:
    """What is appended in another thread than the loop's leaves, and so does what comes later."""
    rig = Rig(redis_server.port)

    async with rig.running():
        thread = threading.Thread(target=rig.append, args=("orders", 3))
        thread.start()
        thread.join()
        assert await rig.publisher.drain(5)
        rig.trade(("A", 1))
        assert await rig.publisher.drain(5)

    check_exec(rig, redis_server.client)
