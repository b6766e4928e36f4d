"""The command line: its options, its help, its messages and its exit codes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import exits
from bridge.__main__ import main
from bridge.journal import Journal, Limits
from tests.bridge.processes import ROOT, Daemon, environment
from tests.servers import RedisServer, free_port

Capture = pytest.CaptureFixture[str]
PASSWORD = "s3cret"
RUN_CODES = (0, 2, 65, 69, 73, 74, 75, 76, 77, 78)
# The commands that ask a bridge by way of Redis.
CONTROL = [("status",), ("flags",), ("halt", "--reason", "x"), ("resume",)]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", environment({}))


@pytest.fixture
def refused(capsys: Capture) -> Callable[..., str]:
    """Return `refused(*words)`: what stderr says to a configuration that is refused, one line."""

    def call(*words: str) -> str:
        assert main(words) == exits.CONFIGURATION
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        return said.err

    return call


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        ((), RUN_CODES),
        (("run",), RUN_CODES),
        (("check-config",), (0, 2, 78)),
        (("journal",), (0, 2, 65, 73, 78)),
        (("status",), (0, 2, 69, 77, 78)),
        (("flags",), (0, 2, 69, 77, 78)),
        (("halt",), (0, 2, 69, 77, 78)),
        (("resume",), (0, 1, 2, 65, 69, 73, 77, 78)),
    ],
)
def test_help_names_the_exit_codes(
    capsys: Capture, words: tuple[str, ...], codes: tuple[int, ...]
) -> None:
    """--help of every command says which codes it ends with."""
    with pytest.raises(SystemExit) as ended:
        main((*words, "--help"))
    assert ended.value.code == exits.DONE
    listed = capsys.readouterr().out.partition("exit codes:\n")[2]
    lines = [line for line in listed.splitlines() if line[2] != " "]  # no second line of a code
    assert tuple([int(line.split()[0]) for line in lines]) == codes


@pytest.mark.parametrize(
    "words",
    [
        *((), ("nothing",), ("run", "--nothing"), ("run", "--config")),
        *(("check-config", "--takeover"), ("resume", "--repair"), ("journal", "--directory")),
        *(("halt",), ("halt", "too hot"), ("halt", "--reason"), ("halt", "--reason", "x", "y")),
        *(("halt", "--reason", "x", "-t", "soon"), ("halt", "--reason", "x", "--role", "all")),
        *(("status", "demo"), ("status", "--role"), ("status", "--repair"), ("status", "-t")),
        *(("status", "-t", "0"), ("status", "-t", "nan"), ("status", "-t", "soon")),
        *(("flags", "--role", "demo"), ("flags", "--json"), ("flags", "--timeout")),
        *(("resume", "id-1"), ("resume", "--reason", "x"), ("resume", "--directory")),
    ],
)
def test_usage(capsys: Capture, words: tuple[str, ...]) -> None:
    """An unknown command or option: 2, and the usage."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == exits.USAGE
    assert capsys.readouterr().err.startswith("usage: python -m bridge")


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_file_absent(refused: Callable[..., str], tmp_path: Path, command: str) -> None:
    """A file that is not there: 78, and its name."""
    said = refused(command, "--config", str(tmp_path / "none.toml"))
    assert said == f"file {tmp_path}/none.toml: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_file_is_no_toml(refused: Callable[..., str], tmp_path: Path, command: str) -> None:
    """TOML that cannot be read: 78, and the line."""
    file = tmp_path / "bridge.toml"
    file.write_text("[status]\nport = = 1\n")
    assert refused(command, "--config", str(file)).startswith(f"file {file}, line 2: is not TOML")


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_misspelled_in_the_file(refused: Callable[..., str], tmp_path: Path, command: str) -> None:
    """A name that is no setting: 78, and the closest one."""
    file = tmp_path / "bridge.toml"
    file.write_text("[status]\nprot = 1\n")
    said = refused(command, "--config", str(file))
    assert said == (f"status.prot: no such setting; the closest is status.port; from file {file}\n")


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_misspelled_in_the_environment(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The same for a variable."""
    monkeypatch.setenv("BRIDGE_STATUS__PROT", "1")
    assert "; the closest is BRIDGE_STATUS__PORT; " in refused(command)


def test_no_folder(refused: Callable[..., str]) -> None:
    """Neither named nor set: 78, and both ways to name it."""
    assert refused("journal") == "journal.directory is not set; name the folder with --directory\n"


def test_folder_of_the_settings(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without --directory `journal` takes the folder that the settings name."""
    monkeypatch.setenv("BRIDGE_STATE__DIRECTORY", str(tmp_path))
    Journal.open(tmp_path / "journal", "T", Limits()).close()
    assert main(["journal"]) == exits.DONE
    assert capsys.readouterr().out.endswith("1 segments, 0 entries, 0 damaged\n")


@pytest.mark.parametrize("words", CONTROL)
def test_control_of_the_demo(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Without --url and redis.url they ask the demo's own Redis; 69 when that is not there."""
    monkeypatch.setenv("BRIDGE_EMBEDDED__PORT", str(free_port()))
    port = os.environ["BRIDGE_EMBEDDED__PORT"]
    assert main(words) == exits.UNAVAILABLE
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"redis.url: redis://127.0.0.1:{port}/0: ")


@pytest.mark.parametrize("words", CONTROL)
def test_control_by_the_settings(
    redis_server: RedisServer, capsys: Capture, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """--config names the Redis and the role; another --role or --url wins over it."""
    file, url = tmp_path / "bridge.toml", redis_server.url
    file.write_text(f'role = "shadow"\n[redis]\nurl = "{url}"\n')
    for options, role in (((), "shadow"), (("--role", "demo"), "demo")):
        if words[0] in ("flags", "status") and options:
            continue
        patience = () if words[0] == "status" else ("-t", "0.05")
        code = main([*words, "--config", str(file), *options, *patience])
        said = capsys.readouterr()
        if words[0] == "flags":
            assert (code, said.err) == (exits.DONE, "")
        else:
            assert code == exits.UNAVAILABLE
            assert role in said.err
        if words[0] == "halt":
            assert redis_server.client.exists(f"bridge:halt:{role}")
    assert main([*words, "--config", str(file), "--url", "redis://127.0.0.1:1/0"]) == 69
    assert "127.0.0.1:1/0" in capsys.readouterr().err


@pytest.mark.parametrize("words", CONTROL)
def test_control_with_bad_settings(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Settings that are refused: 78, and nobody is asked."""
    monkeypatch.setenv("BRIDGE_REDIS__URL", f"http://user:{PASSWORD}@localhost")
    said = refused(*words)
    assert said.startswith("redis.url: ")
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("words", "setting"),
    [(("--rate", "fast"), "replay.rate"), (("--strategy", "nobodys"), "source.strategy")],
)
def test_bad_option(refused: Callable[..., str], words: tuple[str, ...], setting: str) -> None:
    """A value on the command line that no setting takes: 78, and where it comes from."""
    said = refused("run", *words)
    assert said.startswith(f"{setting}: '{words[1]}' is refused: ")
    assert said.endswith("; from command line\n")


def test_check_config(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that can be used: 0, and what they come to, without the password."""
    monkeypatch.setenv("BRIDGE_REDIS__URL", f"redis://user:{PASSWORD}@localhost:6380/1")
    assert main(["check-config"]) == exits.DONE
    assert capsys.readouterr().out == (
        "usable: role demo, Redis redis://user:***@localhost:6380/1, prefix 'demo:'\n"
    )


def test_settings_from_a_file(capsys: Capture, tmp_path: Path) -> None:
    """--config is read."""
    file = tmp_path / "bridge.toml"
    file.write_text('[streams]\nprefix = "mine:"\n')
    assert main(["check-config", "--config", str(file)]) == exits.DONE
    assert capsys.readouterr().out.endswith(", prefix 'mine:'\n")


def test_check_config_hides_a_bad_url(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL that is refused does not show its password either."""
    monkeypatch.setenv("BRIDGE_REDIS__URL", f"http://user:{PASSWORD}@localhost")
    said = refused("check-config")
    assert said.startswith("redis.url: ")
    assert PASSWORD not in said


def test_lists_all_settings(capsys: Capture) -> None:
    """check-config --settings names each setting with default, allowed values and meaning."""
    assert main(["check-config", "--settings"]) == exits.DONE
    listed = capsys.readouterr().out
    assert "status.port = 9309   [TCP port, >= 0, <= 65535]\n    Port of /metrics" in listed
    assert "redis.url = unset " in listed


def test_reader_of_the_list_may_leave() -> None:
    """`check-config --settings | head -1` ends without a complaint."""
    line = f"{sys.executable} -m bridge check-config --settings | head -1"
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("role = demo ")
    assert done.stderr == ""


def test_run_takes_strategy_and_rate(start: Callable[..., Daemon]) -> None:
    """--strategy and --rate are in force: no order, and far more than the recorded 50 a second."""
    daemon = start("--strategy", "tests.bridge.strategies:Idle", "--rate", "20000")
    daemon.until(lambda: any(int(each["rate"]) > 500 for each in daemon.statuses), "the rate")
    assert "strategy tests.bridge.strategies:Idle, " in daemon.out
    assert daemon.statuses[-1]["orders"] == "0"
    ended = daemon.stop()
    assert (ended.code, ended.complaint) == (0, "")
