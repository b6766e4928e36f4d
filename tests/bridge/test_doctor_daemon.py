"""`python -m bridge doctor` beside the real daemon, and the rights that this one needs."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from bridge import exits
from bridge.core.contract import default_names
from bridge.core.control import SHADOW_FLAG
from bridge.doctor import Level
from bridge.doctor_rights import needs, right
from tests.bridge.doctors import KEPT, as_user, seen
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
    """Yield the rules of a user who may do what is needed; market data have any symbol."""
    for _, key, words in needs(default_names(prefix), "demo"):
        yield right(words)
        if key:
            yield f"~{key}"
    yield f"~{prefix}market.raw.*"
    yield "~risk:max_position:*"
    yield "~bridge:lease:*"
