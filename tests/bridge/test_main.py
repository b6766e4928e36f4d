"""The command line: its options, its help, its messages and its exit codes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import exits
from bridge.__main__ import main
from bridge.journal import Journal, Limits
from bridge.latch import Latch
from tests.bridge.processes import ROOT, Daemon, environment

Capture = pytest.CaptureFixture[str]
PASSWORD = "s3cret"
RUN_CODES = (0, 2, 65, 69, 73, 74, 75, 76, 77, 78)


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
        (("resume",), (0, 2, 65, 78)),
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


@pytest.mark.parametrize(
    ("command", "setting"), [("journal", "journal.directory"), ("resume", "state.directory")]
)
def test_no_folder(refused: Callable[..., str], command: str, setting: str) -> None:
    """Neither named nor set: 78, and both ways to name it."""
    assert refused(command) == f"{setting} is not set; name the folder with --directory\n"


def test_resume_clears_the_latch(capsys: Capture, tmp_path: Path) -> None:
    """What a failed journal has set is cleared, and said; a second time there is nothing."""
    Latch(tmp_path).set("the journal failed: no room")
    assert main(["resume", "--directory", str(tmp_path)]) == exits.DONE
    assert capsys.readouterr().out.startswith("cleared: the journal failed: no room (since 2")
    assert Latch(tmp_path).reason is None
    assert main(["resume", "--directory", str(tmp_path)]) == exits.DONE
    assert capsys.readouterr().out == "nothing was halted\n"


def test_resume_without_a_latch(capsys: Capture, tmp_path: Path) -> None:
    """A folder that is not one of ours: 65, and it is left as it is."""
    assert main(["resume", "--directory", str(tmp_path)]) == exits.BAD_DATA
    assert capsys.readouterr().err.startswith(f"{tmp_path} holds no latch")
    assert list(tmp_path.iterdir()) == []


def test_folders_of_the_settings(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without --directory both commands take the folders that the settings name."""
    monkeypatch.setenv("BRIDGE_STATE__DIRECTORY", str(tmp_path))
    Latch(tmp_path)
    Journal.open(tmp_path / "journal", "T", Limits()).close()
    assert main(["resume"]) == exits.DONE
    assert main(["journal"]) == exits.DONE
    assert capsys.readouterr().out.endswith("1 segments, 0 entries, 0 damaged\n")


@pytest.mark.parametrize(
    ("words", "setting"),
    [(("--rate", "fast"), "replay.rate"), (("--strategy", "example"), "source.strategy")],
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
    daemon.until(lambda: any(int(each["rate"]) > 5000 for each in daemon.statuses), "the rate")
    assert "strategy tests.bridge.strategies:Idle, " in daemon.out
    assert daemon.statuses[-1]["orders"] == "0"
    ended = daemon.stop()
    assert (ended.code, ended.complaint) == (0, "")
