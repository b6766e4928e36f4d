"""The page's document, asked of a daemon that trades: it is what Redis, ledger and disk say."""

import contextlib
import http.client
import json
import operator
import os
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bridge import exits
from bridge.embedded_redis import find_redis_server
from bridge.ledger_totals import day_of
from bridge.ledger_view import LedgerView, OpenLot, Total
from tests.bridge.kept import typed
from tests.bridge.processes import Daemon, eventually
from tests.servers import RedisServer, server_or_exit

pytestmark = pytest.mark.timeout(180)  # what all of them look at takes a third of a minute

type Document = dict[str, Any]
type Row = dict[str, str]

D = Decimal
KEYS = {"order": "demo:exec:orders", "fill": "demo:exec:fills"}
CONTROL = "demo:exec:control"
ACCEPTED = {"verdict": "pass", "tier": "strict", "reasons": [], "gates": [{"passed": True}]}


class Page:
    """Looks at a daemon as the page does. Use as a context manager."""

    def __init__(self, daemon: Daemon) -> None:
        host, port = daemon.url.removeprefix("http://").split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=10)

    def __enter__(self) -> "Page":
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def until(self, probe: Callable[[Document], object], what: str) -> Document:
        """Return the first document that `probe` likes."""

        def look() -> Document | None:
            document = self._document()
            return document if probe(document) else None

        found = eventually(look, what, seconds_max=30.0)
        assert found is not None
        return found

    def _document(self) -> Document:
        while not (line := self._answer.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
        told: Document = json.loads(line[6:])
        return told


class Seen(NamedTuple):
    """What pages showed: of a daemon that was halted, of the next one, of that while Redis did not
    answer, and without it; and what was in Redis and in the ledger when the first one had ended."""

    halted: Document
    again: Document
    silent: Document
    away: Document
    url: str
    entries: dict[str, list[Row]]
    lots: list[OpenLot]
    totals: list[Total]


@pytest.fixture(scope="module")
def settings(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a demo whose records stay."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "comparison.json").write_text(json.dumps(ACCEPTED))
    return {
        "state__directory": str(folder / "state"),
        "status__acceptance": str(folder / "comparison.json"),
        "replay__dataset": str(dataset),
        "replay__rate": "100",
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this module's own."""
    binary = server_or_exit(find_redis_server())
    server = RedisServer(binary, tmp_path_factory.mktemp("redis"), "--appendonly", "yes")
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def trading(folder: Path, settings: dict[str, str]) -> Iterator[tuple[Daemon, Page]]:
    with Daemon(folder, **settings) as daemon, Page(daemon.until_running()) as page:
        yield daemon, page


@pytest.fixture(scope="module")
def seen(
    server: RedisServer, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    """Trade and halt; stop, audit, start again; take Redis away, and bring it back."""
    settings = settings | {"redis__url": server.url}
    with trading(tmp_path_factory.mktemp("first"), settings) as (daemon, page):
        page.until(lambda told: told["rates"]["fills_total"], "a fill")
        server.client.set("mode", "halt")
        halted = page.until(_is_settled, "the end of the halt, and what the ledger made of it")
        assert daemon.stop().code == exits.DONE
    entries = {kind: [row for _, row in server.client.xrange(key)] for kind, key in KEYS.items()}
    state = Path(settings["state__directory"])
    with contextlib.closing(LedgerView.read_only(state / "ledger.db")) as view:
        lots, totals = [*view.lots()], [*view.totals()]
    controls = server.client.xlen(CONTROL)
    assert typed("audit", **settings).code == exits.DONE

    trades = sum(map(len, entries.values()))

    with trading(tmp_path_factory.mktemp("second"), settings) as (_, page):
        again = page.until(
            lambda told: len(told["control"]) > controls and len(told["feed"]) >= trades,
            "the history",
        )
        os.kill(server.pid, signal.SIGSTOP)
        silent = page.until(lambda told: "silent" in told["link"]["exec"], "the silence")
        server.kill()
        away = page.until(
            lambda told: not told["link"]["exec"].startswith(("up", "silent")), "the outage"
        )
        server.start()
        page.until(lambda told: told["link"]["exec"] == told["link"]["market"] == "up", "its end")
    return Seen(halted, again, silent, away, server.url, entries, lots, totals)


def _is_settled(told: Document) -> bool:
    return (
        told["state"]["state"] == "HALTED"
        and told["control"][0]["canceled"] != ""
        and not any(each["lag_entries"] for each in told["readers"])
        and any(each["unrealized_pnl"] for each in told["positions"])
        and told["books"]["read_ns"] > told["control"][0]["ts_ns"]
        and told["journal"]["unacknowledged"] == 0
        and told["rates"]["exec_per_s"] == 0
    )


def test_the_state_and_its_history(seen: Seen) -> None:
    """A halt by `mode` is shown with its latch, its flag and when its gates closed; the history has
    it, and what it did, the newest first."""
    state, (done, began) = seen.halted["state"], seen.halted["control"][:2]

    assert (state["state"], state["cause"], state["mode"]) == ("HALTED", "mode", "halt")
    assert state["flag"] is True and state["flag_key"] == "features:nautilus_shadow_exec"
    assert state["latched"].startswith("mode: mode is halt (id ")
    assert (began["state"], began["was"], done["was"]) == ("HALTED", "ACTIVE", "HALTED")
    assert int(done["refused"]) >= 0 and began["canceled"] == ""
    assert state["since_ns"] <= began["ts_ns"] <= done["ts_ns"]


def test_orders_and_fills(seen: Seen) -> None:
    """Every row is an entry in Redis, word for word, of each order the newest first, and none is
    left out. Two orders are told by two threads, one of which may be a moment behind."""
    known = {
        (kind, row["cl_ord_id"], row.get("status", ""), int(row["ts_ns"])): row
        for kind, rows in seen.entries.items()
        for row in rows
    }
    feed = seen.halted["feed"]
    for row in feed:
        entry = known[row["kind"], row["cl_ord_id"], row["status"], row["ts_ns"]]
        names = {"symbol", "side", "qty", "price", "reason", "fee"} & entry.keys()
        assert {name: row[name] for name in names} == {name: entry[name] for name in names}
    told = [(row["kind"], row["cl_ord_id"], row["status"]) for row in reversed(feed)]
    assert _by_order(told) == _by_order(_trades(seen)[: len(told)])
    assert {row["kind"] for row in feed} == {"order", "fill"}


def _by_order(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return sorted(rows, key=operator.itemgetter(1))


def _trades(seen: Seen) -> list[tuple[str, str, str]]:
    """Return all orders and fills in Redis, in the order they were told."""
    rows = [
        (int(row["jseq"]), kind, row["cl_ord_id"], row.get("status", ""))
        for kind, rows in seen.entries.items()
        for row in rows
    ]
    return [(kind, name, status) for _, kind, name, status in sorted(rows)]


def test_positions_are_those_of_the_ledger(seen: Seen) -> None:
    """Lots, quantities, what was realized, and the day's gain."""
    shown = {each["symbol"]: each for each in seen.halted["positions"]}
    assert shown.keys() == {lot.symbol for lot in seen.lots}
    for symbol, position in shown.items():
        lots = [lot for lot in seen.lots if lot.symbol == symbol]
        assert position["lots_total"] == len(lots)
        assert [(D(lot["qty"]), D(lot["price"])) for lot in position["lots"]] == [
            (lot.qty, lot.price) for lot in lots[:20]
        ]
        sign = 1 if position["side"] == "LONG" else -1
        assert sign * D(position["qty"]) == sum(lot.qty for lot in lots)
        assert D(position["realized_pnl"]) == _net(seen.totals, symbol)
    if {each.day for each in seen.totals} == {day_of(seen.halted["books"]["read_ns"])}:
        # It was not midnight.
        [day] = seen.halted["pnl"]["realized_day"]
        assert (D(day["amount"]), day["ccy"]) == (_net(seen.totals), "USD")


def test_the_books_are_of_now(seen: Seen) -> None:
    """Who feeds them, when they were read, and that they have all fills of this bridge and of the
    one before it."""
    for told in (seen.halted, seen.again):
        books = told["books"]
        assert (books["reader"], books["behind"], books["late"]) == ("inside", 0, False)
        assert books["booked_ns"] == max(int(each["ts_ns"]) for each in seen.entries["fill"])
        assert 0 <= told["ts_ns"] - books["read_ns"] < 60 * 10**9
        assert books["positions_total"] == len(told["positions"])


def test_the_last_fill(seen: Seen) -> None:
    """It is the newest in Redis, behind a restart as well."""
    newest = max(seen.entries["fill"], key=lambda row: int(row["jseq"]))

    for told in (seen.halted, seen.again):
        assert told["last_fill"]["cl_ord_id"] == newest["cl_ord_id"]
        assert told["last_fill"]["ts_ns"] == int(newest["ts_ns"])


def _net(totals: list[Total], symbol: str = "") -> Decimal:
    mine = [each for each in totals if symbol in ("", each.symbol)]
    return sum([each.pnl - each.fees + each.funding for each in mine], start=D(0))


def test_the_rest_of_it(seen: Seen) -> None:
    """Links, node, readers, journal, latencies, and the verdict of an acceptance run."""
    told = seen.halted

    assert told["link"] == {"exec": "up", "market": "up", "control": "up", "control_via": "push"}
    assert told["node"]["ready"] and told["node"]["status"] == "running"
    assert {each["name"]: each["state"] for each in told["readers"]} == {
        "ledger": "reads",
        "archive": "reads",
    }
    assert (told["role"], told["prefix"], told["redis"]) == ("demo", "demo:", seen.url)
    assert told["producer"] in {row["producer"] for row in seen.entries["order"]}
    assert told["acceptance"]["verdict"] == "pass" and told["audit"] is None
    assert told["journal"]["unacknowledged"] == 0 < told["journal"]["bytes"]
    assert told["latency_ms"]["publish_p99"] > 0 and told["latency_ms"]["loop_p99"] >= 0
    assert 0 < told["rates"]["orders_total"] <= len(seen.entries["order"])


def test_a_restart_recalls_what_was_before(seen: Seen) -> None:
    """The control history and the last trades of the process before, and the audit between them."""
    told = seen.again

    assert told["audit"]["verdict"] == "agree"
    assert told["control"][-1]["reason"] == "Redis was not asked yet"
    assert [each["state"] for each in told["control"]].count("HALTED") >= 3
    before = [(row["kind"], row["cl_ord_id"], row["status"]) for row in reversed(told["feed"])]
    assert before[: len(_trades(seen))] == _trades(seen)
    assert told["state"]["state"] == "HALTED"


def test_an_outage_is_shown(seen: Seen) -> None:
    """While Redis is away the page is still there, says so, and says when it is back; the node is
    what it is."""
    node = seen.away["node"]
    assert (node["ready"], node["status"]) == (False, "running")
    assert "no connection to Redis" in node["problem"]


def test_a_silence_is_shown(seen: Seen) -> None:
    """A connection to a Redis that does not answer stands, and is not called up."""
    assert seen.silent["link"]["exec"].startswith("silent: no answer for ")
    assert "has not answered" in seen.silent["node"]["problem"]


def test_without_a_ledger_positions_are_those_told(
    settings: dict[str, str], redis_server: RedisServer, tmp_path: Path
) -> None:
    """What exec:positions said since the start, with no lots; the day's gain is not known."""
    settings = settings | {"redis__url": redis_server.url, "ledger__reader": "off"}
    settings["state__directory"] = str(tmp_path / "state")
    with trading(tmp_path, settings) as (_, page):
        told = page.until(lambda told: told["positions"], "a position")

    assert told["positions"][0]["lots"] == []
    assert D(told["positions"][0]["qty"]) > 0
    assert (told["pnl"]["realized_day"], told["books"]["reader"]) == (None, "off")
    assert [each["name"] for each in told["readers"]] == ["archive"]
