"""ops/find-chromium finds a Chromium, unpacks one, or says what to install."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ops.test_find_redis import command, names, needs_flock, outcome

SCRIPT = Path(__file__).parents[2] / "ops" / "find-chromium"
# The machine lacks the browser and a library of it; what is asked for is what is downloaded.
APT_GET = """
case "$*" in
    *" -s install "*) echo 'Inst libone2 (1 Debian:12 [amd64])'; echo 'Inst chromium (2 x)' ;;
    *download*) echo "$*" >>"$LOG"; touch libone2_1_amd64.deb chromium_2_amd64.deb ;;
esac
"""
# The browser runs when its library is unpacked beside it, and is told where that is.
DPKG_DEB = """
case "$2" in
    chromium_*)
        mkdir -p "$3/usr/lib/chromium"
        cat >"$3/usr/lib/chromium/chromium" <<'END'
#!/bin/sh
case "$LD_LIBRARY_PATH" in */usr/lib/x86_64-linux-gnu*) echo Chromium 2 ;; *) exit 127 ;; esac
END
        chmod +x "$3/usr/lib/chromium/chromium" ;;
    *) mkdir -p "$3/usr/lib/x86_64-linux-gnu/one" ;;
esac
"""
# The commands that the script itself needs.
TOOLS = "cat chmod dirname flock mkdir mktemp mv rm sed sh touch"

type Found = Callable[[], tuple[int, str, str]]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Return a copy of the repository that holds the script alone."""
    (tmp_path / "house" / "ops").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "house" / "ops")
    return tmp_path / "house"


@pytest.fixture
def found(tmp_path: Path, house: Path) -> Found:
    """Return `found()`: exit code, stdout, stderr; PATH has `bin` and the script's own commands."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS.split():
        if path := shutil.which(name):
            (tools / name).symlink_to(path)

    def run() -> tuple[int, str, str]:
        process = subprocess.Popen(
            ["/bin/sh", house / "ops" / "find-chromium"],
            env={"PATH": f"{tmp_path / 'bin'}:{tools}", "LOG": str(tmp_path / "log")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return outcome(process)

    return run


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_one_on_path(tmp_path: Path, house: Path, found: Found, name: str) -> None:
    """Under any of its names; nothing is unpacked."""
    command(tmp_path / "bin", name, "echo Chromium 156")

    assert found() == (0, f"{tmp_path}/bin/{name}\n", "")
    assert not (house / ".tools").exists()


def test_one_that_does_not_run(tmp_path: Path, found: Found) -> None:
    """Without apt-get: exit 69, what was tried and what to install."""
    command(tmp_path / "bin", "chromium", "exit 127")

    code, stdout, stderr = found()

    assert (code, stdout) == (69, "")
    assert f"{tmp_path}/bin/chromium: does not run" in stderr
    assert "apt install chromium" in stderr


@needs_flock
def test_unpacks_the_distribution_package(tmp_path: Path, house: Path, found: Found) -> None:
    """With apt-get it is unpacked below .tools with the libraries that the machine lacks, once."""
    command(tmp_path / "bin", "apt-get", APT_GET)
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    code, stdout, stderr = found()

    path = f"{house}/.tools/chromium/run\n"
    assert (code, stdout) == (0, path), stderr
    assert "unpacking Chromium" in stderr
    assert (tmp_path / "log").read_text().endswith("download libone2 chromium\n")
    assert names(house / ".tools") == ["chromium", "lock"]
    assert found() == (0, path, "")


@needs_flock
def test_a_failed_download_leaves_nothing(tmp_path: Path, house: Path, found: Found) -> None:
    """Exit 69, what went wrong, and no half-made tools."""
    command(tmp_path / "bin", "apt-get", "echo 'E: no network' >&2; exit 100")
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    code, stdout, stderr = found()

    assert (code, stdout) == (69, "")
    assert "E: no network" in stderr
    assert names(house / ".tools") == ["lock"]
