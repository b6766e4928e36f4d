"""`python -m bridge doctor` beside the real daemon, and the rights that this one needs."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from bridge import exits
from bridge.controller import Keys
from bridge.core.contract import default_names
from bridge.core.control import SHADOW_FLAG
from bridge.doctor import Level
from bridge.doctor_rights import needs, right
from bridge.lease import lease_keys
from tests.bridge.doctors import KEPT, as_user, given, seen
from tests.bridge.processes import ROOT, Daemon, environment, eventually
from tests.servers import RedisServer

type Capture = pytest.CaptureFixture[str]


def test_beside_the_demo(demo: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A demo that runs on its embedded Redis, which keeps nothing on purpose, is well."""
    monkeypatch.setattr("os.environ", environment({"embedded__port": str(demo.port)}))

    said = seen(capsys.readouterr)

    assert [each for each in said.found if each.level is not Level.UNKNOWN] == []
    assert said.code == exits.DONE
    assert f"demo runs, pid {demo.pid}, ACTIVE" in said.told["bridge"]
    assert said.told["bridge:contract"] == "version 1, these stream names"
    assert said.numbers["exec:fills"]["entries"] > 0
    assert said.told["market streams"][0] != "0"


def test_the_rights_are_all_that_the_daemon_needs(
    start: Callable[..., Daemon],
    make_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """A user with the rights that doctor asks for, and no others, can run the daemon."""
    server = make_redis(*KEPT)
    server.client.set(SHADOW_FLAG, "1")
    url = as_user(server, "least", *_rules("demo:"))

    daemon = start(redis__url=url).until_running()
    fills = "demo:exec:fills"
    eventually(lambda: server.client.xlen(fills), "a fill in Redis")
    ended = daemon.stop()

    assert ended.code == exits.DONE
    assert "permission" not in ended.err
    server.client.execute_command("ACL", "SETUSER", "least", "+multi", "+discard")  # for doctor
    monkeypatch.setattr("os.environ", environment({"redis__url": url}))
    assert "permissions" not in seen(capsys.readouterr).worst


def test_what_it_advises_is_enough(
    start: Callable[..., Daemon],
    make_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """Who had no right at all gets by its advice, once and to the letter, what a daemon with a
    producer and a trader of its own needs: it starts, trades and ends."""
    server = make_redis(*KEPT)
    server.client.set(SHADOW_FLAG, "1")
    settings = {"producer__id": "X-1", "node__trader_id": "Y-1"}
    settings["redis__url"] = as_user(server, "bare", "+multi", "+discard")
    monkeypatch.setattr("os.environ", environment(settings))
    remedy = seen(capsys.readouterr).of("permissions").remedy

    server.client.execute_command(*shlex.split(remedy))

    assert "permissions" not in seen(capsys.readouterr).worst
    daemon = start(**settings).until_running()
    eventually(lambda: server.client.xlen("demo:exec:fills"), "a fill in Redis")
    ended = daemon.stop()
    assert ended.code == exits.DONE
    assert "permission" not in ended.err


def test_without_nautilus(make_redis: Callable[..., RedisServer]) -> None:
    """Where nautilus_trader is not installed it works."""
    url = make_redis(*KEPT).url
    code = (
        "import sys; sys.modules['nautilus_trader'] = None; from bridge.__main__ import main;"
        f"sys.exit(main(['doctor', '--json', '--url', '{url}']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment({}), capture_output=True, check=True
    )

    assert json.loads(ended.stdout)["code"] == exits.DONE


def _rules(prefix: str) -> Iterator[str]:
    """Yield the rules of a user who may do what is needed."""
    leases = lease_keys(given(role="demo"))
    for _, key, words in needs(default_names(prefix), Keys.of("demo"), leases):
        yield right(words)
        if key:
            yield f"~{key}"
    yield "~bridge:lease:*"
