"""The self-test behind `bridge.py --test`: that it passes, and that it would notice."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import exits
from bridge.core.contract import STREAMS, TAIL, default_names, to_dict
from integrations.nautilus import selftest

SCRIPT = Path(selftest.__file__).with_name("bridge.py")
# Takes nautilus_trader away from the interpreter that finds this on its path.
WITHOUT_NAUTILUS = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec


def find_spec(name, *more, **named):
    return None if name.partition(".")[0] == "nautilus_trader" else find(name, *more, **named)


PathFinder.find_spec = find_spec
"""


def run_script(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the script from the root folder by its absolute path, as the documentation says."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_with_nautilus():
    """By absolute path from anywhere: real events, and every entry found."""
    done = run_script("--test")

    assert done.returncode == exits.DONE, done.stderr
    assert "real events" in done.stdout
    assert "passed" in done.stdout


def test_without_nautilus(tmp_path):
    """Where nautilus_trader is not installed it says so, and uses recorded events."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_NAUTILUS)

    done = run_script("--test", PYTHONPATH=str(tmp_path))

    assert done.returncode == exits.DONE, done.stderr
    assert "nautilus_trader is not installed: recorded events" in done.stdout
    assert "passed" in done.stdout


def test_without_an_option_it_explains_itself():
    """Exit 2 and the usage."""
    done = run_script()

    assert done.returncode == exits.USAGE
    assert "--test" in done.stderr


def test_a_difference_fails(monkeypatch, capsys):
    """What differs is printed and the exit code is 1."""
    monkeypatch.setattr(selftest, "compare", lambda *_: ["exec:fills: something differs"])

    assert selftest.run() == exits.FAILED

    said = capsys.readouterr().out
    assert "exec:fills: something differs" in said
    assert "FAILED" in said


@pytest.fixture
def emitted(redis_server) -> selftest.Emitted:
    """The recorded entries, published to the server."""
    return asyncio.run(selftest.emit_recorded(redis_server.url))


def test_recorded_entries_arrive(redis_server, emitted):
    """Unharmed streams have no problem."""
    assert selftest.compare(redis_server.client, emitted, "") == []


def harm_value(client, key):
    (entry_id, fields), *_ = client.xrange(key, count=1)
    client.xdel(key, entry_id)
    number, _ = entry_id.split("-")
    assert int(number)
    rest = client.xrange(key)
    client.delete(key)
    for row in ({**fields, "ts_ns": "0"}, *[row for _, row in rest]):
        client.xadd(key, row)


def lose_last(client, key):
    client.xdel(key, client.xrevrange(key, count=1)[0][0])


def repeat_last(client, key):
    client.xadd(key, client.xrevrange(key, count=1)[0][1])


def swap_first_two(client, key):
    rows = [fields for _, fields in client.xrange(key)]
    client.delete(key)
    for row in (rows[1], rows[0], *rows[2:]):
        client.xadd(key, row)


def lose_all(client, key):
    client.delete(key)


@pytest.mark.parametrize("harm", [harm_value, lose_last, repeat_last, swap_first_two, lose_all])
def test_compare_notices(redis_server, emitted, harm):
    """A changed, lost, doubled or misplaced entry is one problem, named by its stream."""
    harm(redis_server.client, "exec:orders")

    (problem,) = selftest.compare(redis_server.client, emitted, "")

    assert problem.startswith("exec:orders: the first difference is at entry")


def test_compare_does_not_pass_an_empty_run(redis_server):
    """Nothing emitted is nothing tested."""
    (problem,) = selftest.compare(redis_server.client, {"fills": []}, "")

    assert problem == f"{default_names().key('fills')}: nothing was emitted, so nothing was tested"


def test_recorded_entries_keep_the_contract():
    """Each has exactly its stream's fields, as the contract's patterns allow."""
    for kind, values in json.loads(selftest.RECORDED.read_text()):
        fields = to_dict(kind, (*values, "P-1.00000000.1", "1", "1", "1"))
        assert list(fields) == [*STREAMS[kind].names, *TAIL]
