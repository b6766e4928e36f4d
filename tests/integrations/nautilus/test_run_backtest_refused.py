"""What the documented script refuses: settings, options, a Redis that does not allow it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge import exits
from integrations.nautilus.run_backtest import ENGINE_FLAG
from tests.integrations.nautilus.backtest_script import (
    EXAMPLE,
    SCRIPT,
    Call,
    caller,
)
from tests.servers import RedisServer, free_port


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset: Path,
    tmp_path: Path,
) -> Call:
    """Return `call(*words, **settings)`."""
    return caller(monkeypatch, capsys, dataset, tmp_path)


# What is refused.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1, column 2: no JSON"),
        ("[]", "a list, expected an object"),
        ('{"strateg": "a:B"}', "strateg is no setting"),
        ('{"accounts": {"X": {"type": "CASHX"}}}', "accounts.X.type is 'CASHX'"),
        ('{"accounts": {"X": {"balances": ["many"]}}}', "accounts.X.balances.0 is 'many'"),
        ('{"start": "yesterday"}', "start is 'yesterday'"),
        ('{"fees": {"spot": -1}}', "fees.spot is -1: Input should be greater than or equal to 0"),
        ('{"strategy": "nowhere"}', "strategy is 'nowhere'"),
    ],
)
def test_settings_that_cannot_be_used(call: Call, tmp_path: Path, text: str, said: str) -> None:
    """78, with file, place, what was found and what was expected."""
    path = tmp_path / "settings.json"
    path.write_text(text)
    ended = call("--config", str(path))
    assert ended.code == exits.CONFIGURATION
    assert ended.complaint.startswith(f"{path}: ")
    assert said in ended.complaint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--config", "/nowhere.json"), "/nowhere.json: cannot be read: No such file"),
        (("--params", "/nowhere.toml"), "/nowhere.toml: cannot be read: No such file"),
        (("--strategy", "no.module:There"), "cannot load no.module:There"),
        (("--publish", "http://x"), "does not begin with redis://"),
    ],
)
def test_options_that_cannot_be_used(call: Call, words: tuple[str, ...], said: str) -> None:
    """78, and a line that says why."""
    ended = call(*words)
    assert ended.code == exits.CONFIGURATION
    assert said in ended.complaint


def test_broken_params_name_file_line_and_column(call: Call, tmp_path: Path) -> None:
    """A TOML file that is none."""
    path = tmp_path / "params.toml"
    path.write_text("a = 1\nb = = 2\n")
    ended = call("--params", str(path))
    assert ended.code == exits.CONFIGURATION
    assert f"{path}: no TOML: " in ended.complaint
    assert "line 2, column 5" in ended.complaint


def test_without_nautilus(tmp_path: Path) -> None:
    """An interpreter without it: 2, and the pip line; no import error."""
    code = (
        "import importlib.util as u, runpy, sys; find = u.find_spec;"
        "u.find_spec = lambda name, *a: None if name == 'nautilus_trader' else find(name, *a);"
        f"sys.argv = ['run_backtest.py']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == exits.USAGE
    assert done.stderr == "nautilus_trader is not installed: pip install -r requirements.txt\n"


def test_an_output_that_cannot_be_written(call: Call, tmp_path: Path) -> None:
    """74, before the run, and it names the file."""
    (tmp_path / "file").write_text("")
    ended = call(*EXAMPLE, "--output", str(tmp_path / "file" / "result.json"))
    assert ended.code == exits.CANNOT_RECORD
    assert f"{tmp_path / 'file' / 'result.json'} cannot be written" in ended.complaint
    assert "running" not in ended.err


def test_a_catalog_that_cannot_be_written(call: Call, tmp_path: Path) -> None:
    """74 and one line, which names the folder and the setting."""
    (tmp_path / "catalog").write_text("")
    ended = call(*EXAMPLE)
    assert ended.code == exits.CANNOT_RECORD
    assert ended.complaint.startswith(f"catalog: {tmp_path / 'catalog'}: ")
    assert "cannot be written: File exists; make room there, or name another" in ended.complaint


# Redis.


@pytest.mark.parametrize("raw", [None, "0", "off", "maybe", ["a", "list"]])
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_redis_that_does_not_allow_it(
    call: Call, redis_server: RedisServer, raw: Any, by: str
) -> None:
    """Flag missing, 0, garbage or no string: 78 with the line that sets it, however it is named."""
    if isinstance(raw, list):
        redis_server.client.rpush(ENGINE_FLAG, *raw)
    elif raw is not None:
        redis_server.client.set(ENGINE_FLAG, raw)
    named = {"redis__url": redis_server.url} if by == "environment" else {}
    ended = call(*(() if named else ("--publish", redis_server.url)), **named)
    assert ended.code == exits.CONFIGURATION
    port = redis_server.url.rpartition(":")[2].partition("/")[0]
    assert f"redis-cli -p {port} set {ENGINE_FLAG} 1" in ended.complaint


def test_no_redis_there(call: Call) -> None:
    """69, and it names the address."""
    port = free_port()
    ended = call("--publish", f"redis://127.0.0.1:{port}")
    assert ended.code == exits.UNAVAILABLE
    assert f"127.0.0.1:{port}" in ended.complaint


def test_a_flag_that_is_on_lets_it_run(call: Call, redis_server: RedisServer) -> None:
    """A Redis that is only named gets nothing of the run."""
    redis_server.client.set(ENGINE_FLAG, " True ")
    ended = call(*EXAMPLE, "--symbols", "SOL", redis__url=redis_server.url)
    assert ended.code == exits.DONE, ended.err
    assert redis_server.client.keys("*") == [ENGINE_FLAG]
