"""Roles, producers and readers as they would stand on several hosts: processes that share a Redis
and nothing else, each with a folder of its own."""

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge import archive_segments
from tests.bridge.processes import ROOT, Daemon, environment, eventually, is_dense
from tests.chaos.child import Child
from tests.integrations.nautilus.shadow import Script
from tests.servers import RedisServer

SHARED = "demo:exec:fills"
OFF = {"ledger__reader": "off", "archive__reader": "off"}
# What a host is told that only reads one of them.
READS = {
    "ledger": {"ledger__reader": "alone", "archive__reader": "off"},
    "archive": {"ledger__reader": "off", "archive__reader": "alone"},
}


class Hosts(NamedTuple):
    """A demo and a shadow, somebody's node that writes the demo's streams, too, and two readers."""

    server: RedisServer
    demo: Daemon
    shadow: Script
    node: Child
    folder: Path
    stack: ExitStack

    def follow(self, name: str) -> Child:
        """Start a reader on its host, also again."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        child = Child("bridge", folder, name, "--follow", **self.settings(name))
        return self.stack.enter_context(child)

    def settings(self, name: str) -> dict[str, str]:
        """Return what the processes of a reader's host are told."""
        own = {"redis__url": self.server.url, "state__directory": str(self.folder / name)}
        return own | READS[name]

    def command(self, name: str, *words: str) -> str:
        """Return what a command prints on a reader's host; it ends well."""
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            cwd=ROOT,
            env=environment(self.settings(name)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def hosts(
    server: RedisServer, dataset: Path, mine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    given = {"redis__url": server.url, "replay__dataset": str(dataset), **OFF}
    given |= {"source__strategy": "mine:Quick", "PYTHONPATH": str(mine)}
    words = ("--venues", "BINANCE", "--symbols", "BTC", "ETH", "--shadow", "--data", "replay")
    homes = {name: folder / name for name in ("demo", "shadow", "node")}
    for home in homes.values():
        home.mkdir()
    states = {name: {"state__directory": str(home / "state")} for name, home in homes.items()}
    producer = {"producer__id": "NODE-2", "streams__prefix": "demo:"}
    record = {"CHAOS_RECORD": str(folder / "record"), "CHAOS_VENUE": str(folder / "venue")}
    with ExitStack() as stack:
        demo = stack.enter_context(Daemon(homes["demo"], **given, **states["demo"]))
        shadow = stack.enter_context(Script(homes["shadow"], *words, **given, **states["shadow"]))
        of_node = {"redis__url": server.url, **states["node"], **producer, **record, **OFF}
        node = stack.enter_context(Child("tests.chaos.node", homes["node"], **of_node))
        for each, key in ((demo, SHARED), (shadow, "shadow:exec:fills"), (node, SHARED)):
            each.until(lambda key=key: server.client.xlen(key), f"a fill in {key}")
        yield Hosts(server, demo, shadow, node, folder, stack)


def producers(server: RedisServer, key: str) -> Counter[str]:
    """Return how many entries each producer has in a stream, by its name."""
    entries = [fields for _, fields in server.client.xrange(key)]
    return Counter([fields["producer"].partition(".")[0] for fields in entries])


def test_two_producers_share_streams(hosts: Hosts) -> None:
    """A node with another producer.id writes the demo's streams beside it: each counts for itself,
    and the shadow's are apart."""
    both = {"DEMO-001", "NODE-2"}
    eventually(lambda: set(producers(hosts.server, SHARED)) == both, "fills of both")

    assert is_dense(hosts.server.client, SHARED)
    assert set(producers(hosts.server, "shadow:exec:fills")) == {"SHADOW-001"}


def test_readers_on_hosts_of_their_own(hosts: Hosts) -> None:
    """The ledger on one host, the archive on another, where there is no journal: both have all of
    both producers, over a SIGKILL, and beside no daemon. Nothing is missed."""
    server = hosts.server
    readers = {name: hosts.follow(name) for name in READS}
    files = [hosts.folder / "ledger" / "ledger.db", hosts.folder / "archive" / "archive"]
    for name, reader in readers.items():
        reader.until(lambda: all(each.exists() for each in files), "their files")
        reader.kill()
        readers[name] = hosts.follow(name)
    hosts.node.end()
    assert hosts.demo.stop().code == 0
    fills = producers(server, SHARED)
    streams = [key for key in server.client.scan_iter("demo:exec:*") if "archive" not in key]
    entries = sum([server.client.xlen(key) for key in streams])

    def booked() -> Counter[str]:
        with closing(sqlite3.connect(files[0])) as database:
            tables = database.execute("SELECT name FROM sqlite_master").fetchall()
            if ("fill",) not in tables:  # it was killed before it had made them
                return Counter()
            rows = database.execute("SELECT producer FROM fill").fetchall()
        return Counter([producer.partition(".")[0] for (producer,) in rows])

    readers["ledger"].until(lambda: booked() == fills, "all fills in the ledger")
    readers["archive"].until(
        lambda: len([*archive_segments.records(files[1])]) == entries, "all entries in the archive"
    )
    for reader in readers.values():
        reader.end()

    for name in READS:
        assert hosts.command(name, "audit").rstrip().endswith("they agree")
    assert "gap" not in readers["ledger"].said + readers["archive"].said
    assert hosts.shadow.health()[0] == 200
