"""`python -m bridge ledger, archive, audit, replay, trim`, as a user types them."""

import contextlib
import csv
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from tests.bridge.archives import arcs
from tests.bridge.journals import flip
from tests.bridge.kept import FILLS, Kept, typed
from tests.bridge.processes import ROOT, Daemon, Ended, environment, eventually
from tests.readme import README
from tests.servers import RedisServer, free_port

NAMES = ("ledger", "archive")
STOPS = (signal.SIGTERM, signal.SIGINT)
CHAPTER = re.compile(r"^## Ledger, archive, audit\n(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def traded(_shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Six fills, in all places; for reading only."""
    _shared_redis.client.flushall()
    kept = Kept(tmp_path_factory.mktemp("state"), _shared_redis)
    kept.trade(6)
    kept.read()
    return kept


@pytest.fixture
def kept(redis_server: RedisServer, tmp_path: Path) -> Kept:
    return Kept(tmp_path / "state", redis_server)


class Follower:
    """A reader alone, in a process of its own."""

    def __init__(self, name: str, folder: Path, **settings: str) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bridge", name, "--follow"],
                cwd=ROOT,
                env=environment(settings),
                stdout=out,
                stderr=err,
            )

    def until_up(self) -> None:
        eventually(lambda: self._process.poll() is not None or "reader.up" in self.err, "it is up")
        assert self._process.poll() is None, self.err

    @property
    def err(self) -> str:
        return self._err.read_text()

    def ended(self) -> Ended:
        return Ended(self._process.wait(10), self._out.read_text(), self.err)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        self._process.send_signal(number)
        return self.ended()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


type Follow = Callable[..., Follower]


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Return `follow(name, **settings)`: it is over with the test."""
    with contextlib.ExitStack() as followers:

        def start(name: str, **settings: str) -> Follower:
            folder = tmp_path / f"follower-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            follower = Follower(name, folder, **settings)
            followers.callback(follower.kill)
            return follower

        yield start


@pytest.mark.parametrize(("name", "number"), [*zip(NAMES, STOPS, strict=True)])
def test_follow(kept: Kept, follow: Follow, name: str, number: signal.Signals) -> None:
    """--follow feeds until it is told to stop, takes what is there, and ends with 0; a second one
    is refused with 73."""
    kept.trade(2)
    first = follow(name, **kept.settings)
    first.until_up()
    second = typed(name, "--follow", **kept.settings)
    assert second.code == exits.TAKEN
    assert "writes to" in second.complaint
    kept.trade(1)
    done = first.stop(number)
    assert (done.code, done.complaint) == (exits.DONE, "")
    assert done.out.splitlines()[-1].startswith("stopped; ")
    assert kept.places.taken(name)["fills", kept.producer].last == 3
    other = {"ledger": "archive", "archive": "ledger"}[name]
    kept.read(other)
    assert kept.wrong() == {}


def test_follow_waits_for_redis(kept: Kept, follow: Follow) -> None:
    """Without Redis it waits, says so, and ends with 0 when it is told to."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    follower = follow("ledger", **kept.settings | {"redis__url": url})
    eventually(lambda: "reader.waiting" in follower.err, "it waits")
    assert follower.stop().code == exits.DONE


def test_follow_where_nothing_can_be_written(kept: Kept) -> None:
    """A folder that cannot be made is 74, in a sentence."""
    kept.places.archive.parent.mkdir()
    kept.places.archive.write_text("a file")
    done = typed("archive", "--follow", **kept.settings)
    assert done.code == exits.CANNOT_RECORD
    assert done.complaint.startswith("archive: it cannot be written: ")


def test_follow_a_damaged_one(kept: Kept) -> None:
    """A damaged ledger or archive is not fed: 65."""
    kept.trade(2)
    kept.read()
    [path] = arcs(kept.places.archive)
    flip(path, 100)
    kept.places.ledger.write_bytes(b"x" * 8192)
    for name in NAMES:
        done = typed(name, "--follow", **kept.settings)
        assert done.code == exits.BAD_DATA, done.err
        assert str(kept.places.path_of(name)) in done.complaint


def test_alone_beside_a_daemon(
    start: Callable[..., Daemon], follow: Follow, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Readers in processes of their own, beside a daemon that leaves it to them: all agree."""
    settings = {
        "redis__url": redis_server.url,
        "state__directory": str(tmp_path / "state"),
        "ledger__reader": "alone",
        "archive__reader": "alone",
    }
    daemon = start("--strategy", "tests.bridge.strategies:Busy", **settings).until_running()
    followers = [follow(name, **settings) for name in NAMES]
    for each in followers:
        each.until_up()
    daemon.until(lambda: redis_server.client.xlen(f"demo:{FILLS}"), "fills")
    assert not daemon.times_logged("reader.up")
    assert daemon.stop().code == exits.DONE
    assert [each.stop().code for each in followers] == [exits.DONE] * 2
    done = typed("audit", **settings)
    assert done.code == exits.DONE, done.out


def test_a_daemon_beside_one_who_feeds(
    start: Callable[..., Daemon], follow: Follow, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A daemon finds somebody feeding, says so once, trades, and takes over when he ends."""
    settings = {"redis__url": redis_server.url, "state__directory": str(tmp_path / "state")}
    settings["streams__prefix"] = "demo:"
    follower = follow("archive", **settings)
    follower.until_up()
    daemon = start(**settings).until_running()
    daemon.until_logged("reader.failed", reader="archive")
    assert follower.stop().code == exits.DONE
    daemon.until_logged("reader.up", reader="archive")
    assert daemon.times_logged("reader.failed") == 1
    assert daemon.stop().code == exits.DONE
    assert typed("audit", **settings).code == exits.DONE


def test_the_ledger_in_three_forms(traded: Kept) -> None:
    """Table, JSON and CSV, with and without gains: 0."""
    table = typed("ledger", **traded.settings)
    assert (table.code, table.err) == (exits.DONE, "")
    assert "6 fills" in table.out
    found = json.loads(typed("ledger", "--json", "--gains", **traded.settings).out)
    assert {gain["symbol"] for gain in found["gains"]} == {"BTCUSDT"}
    rows = typed("ledger", "--csv", "--by", "day,strategy", **traded.settings)
    assert rows.code == exits.DONE
    assert {"day", "strategy"} <= set(next(csv.reader(io.StringIO(rows.out))))


def test_the_archive(traded: Kept) -> None:
    """`archive verify`, or `archive`, says whether it is whole: 0; a head that is not in it: 1."""
    done = typed("archive", "verify", "--json", **traded.settings)
    assert done.code == exits.DONE
    [head] = [row["root"] for _, row in traded.client.xrange("exec:archive")]
    assert typed("archive", "--head", head, **traded.settings).code == exits.DONE
    assert typed("archive", "verify", "--head", "0" * 64, **traded.settings).code == exits.FAILED


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("ledger --by nothing", exits.USAGE, "nothing"),
        ("archive verify --head x", exits.USAGE, "--head"),
        ("trim --older-than soon", exits.USAGE, "--older-than"),
        ("trim --older-than 99999999999999999999d", exits.USAGE, "--older-than"),
        ("audit --url http://x", exits.USAGE, "--url"),
        ("trim --url redis://127.0.0.1:99999", exits.USAGE, "--url"),
        ("replay --url x", exits.USAGE, "--url"),
        ("ledger --follow --url x", exits.USAGE, "--url"),
    ],
)
def test_usage(traded: Kept, words: str, code: int, said: str) -> None:
    """What cannot be meant is told in a sentence, without a traceback."""
    done = typed(*words.split(), **traded.settings)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "words", ["ledger", "archive", "audit", "replay --url redis://127.0.0.1:1/0", "trim"]
)
def test_without_a_folder(words: str) -> None:
    """Without state.directory there is nothing that was kept: 78, and the setting is named."""
    done = typed(*words.split())
    assert done.code == exits.CONFIGURATION, done.err
    assert re.match(r"(state|archive)\.directory is not set", done.err)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("ledger", exits.BAD_DATA),
        ("archive", exits.BAD_DATA),
        ("audit", exits.USAGE),
        ("replay --url {url}", exits.BAD_DATA),
        ("trim", exits.BAD_DATA),
    ],
)
def test_before_anything_was_kept(
    redis_server: RedisServer, tmp_path: Path, words: str, code: int
) -> None:
    """A folder in which nothing is yet is no traceback, and nothing is made in it."""
    settings = {"state__directory": str(tmp_path / "state"), "redis__url": redis_server.url}
    done = typed(*words.format(url=redis_server.url).split(), **settings)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "state").exists()


def test_who_hangs_up(traded: Kept) -> None:
    """A reader of the output that wants no more of it ends the command."""
    words = [sys.executable, "-m", "bridge", "ledger", "--json", "--gains"]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{shlex.join(words)} | head -c 1"],
        cwd=ROOT,
        env=environment(traded.settings),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


def _commands() -> Iterator[list[str]]:
    """Yield the command lines of the README's chapter, without what begins a session."""
    found = CHAPTER.search(README.read_text())
    assert found is not None
    for block in BLOCK.findall(found[1]):
        for line in block.splitlines():
            if not line.startswith("export") and not line.endswith("bridge run"):
                yield shlex.split(line)


def test_the_readme(kept: Kept, follow: Follow, make_redis: Callable[..., RedisServer]) -> None:
    """Every command line of the README's chapter works as it stands: 0."""
    scratch = make_redis()
    kept.trade(6)
    kept.read()
    [head] = [row["root"] for _, row in kept.client.xrange("exec:archive")]
    seen = []
    for python, *words in _commands():
        assert python == ".venv/bin/python"
        assert words[:2] == ["-m", "bridge"]
        words = [
            head if word.startswith("2d1f") else re.sub(r"^redis://.*", scratch.url, word)
            for word in words[2:]
        ]
        seen.append(words[0])
        if "--follow" in words:
            follower = follow(words[0], **kept.settings)
            follower.until_up()
            assert follower.stop().code == exits.DONE
        else:
            done = typed(*words, **kept.settings)
            assert (done.code, done.err) == (exits.DONE, ""), words
    assert set(seen) == {"ledger", "archive", "audit", "trim", "replay"}
