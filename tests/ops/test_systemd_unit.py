"""The unit, as systemd reads it: nothing misspelled, little exposed, the design's exit codes."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.config import CREDENTIALS

UNIT = Path(__file__).parents[2] / "ops" / "systemd" / "nautilus-bridge@.service"
EXPOSURE_MAX = 2.0

needs_analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze: the unit is not judged"
)


def values(name: str, text: str = "") -> list[str]:
    """Return what the unit sets under a name, line by line."""
    return re.findall(rf"^{name}=(.*)$", text or UNIT.read_text(), re.MULTILINE)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=30)


@pytest.fixture
def placed(tmp_path: Path) -> Iterator[Path]:
    """The unit, in a folder where it may be changed."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text())
    return path


@needs_analyze
def test_systemd_finds_nothing_wrong(placed: Path) -> None:
    """`systemd-analyze verify` is silent; a key that it does not know it would only tell of."""
    done = analyze("verify", str(placed.with_name("nautilus-bridge@shadow.service")))

    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_verify_would_tell(placed: Path) -> None:
    """The same judge finds a misspelled key."""
    placed.write_text(placed.read_text().replace("WatchdogSec", "WatchdogSeconds"))

    assert "WatchdogSeconds" in analyze("verify", str(placed)).stderr


@needs_analyze
def test_exposure() -> None:
    """`systemd-analyze security` gives it at most 2.0."""
    said = analyze("security", "--offline=true", "--no-pager", str(UNIT)).stdout

    found = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE_MAX


def test_exit_codes() -> None:
    """A restart on 75 and on crashes; none where a person is needed."""
    final = {exits.BAD_DATA, exits.CANNOT_RECORD, exits.FENCED, exits.REFUSED, exits.CONFIGURATION}

    assert values("Restart") == ["on-failure"]
    assert {int(code) for code in values("RestartPreventExitStatus")[0].split()} == final
    assert values("RestartForceExitStatus") == [str(exits.RESTART)]


def test_it_goes_on_trying() -> None:
    """A Redis that is away all night does not exhaust the restarts."""
    assert values("StartLimitIntervalSec") == ["0"]


def test_it_sees_other_processes() -> None:
    """The lease needs /proc/PID of bridges that other users run; see bridge/lease.py."""
    assert values("ProtectProc") == values("ProcSubset") == []


def test_nobody_but_the_bridge_reads_secrets() -> None:
    """Each credential that the settings know is handed over, empty where there is no file."""
    given = [value.partition(":")[0] for value in values("LoadCredential")]

    assert given == [*CREDENTIALS]
    assert values("SetCredential") == [rf"{name}:\n" for name in CREDENTIALS]
