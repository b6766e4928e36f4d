"""ops/redis/find-valkey finds a valkey-server, unpacks one, or says what to install."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ops.test_find_redis import command, names, needs_flock, outcome

SCRIPT = Path(__file__).parents[2] / "ops" / "redis" / "find-valkey"
APT_GET = 'case "$*" in *download*) touch valkey-tools_8_all.deb ;; esac'
DPKG_DEB = """
mkdir -p package/usr/bin
printf '#!/bin/sh\\necho Valkey server v=8.0.1 sha=0\\n' >package/usr/bin/valkey-check-rdb
chmod +x package/usr/bin/valkey-check-rdb
"""
# The commands that the script itself needs.
TOOLS = "cat chmod cp dirname flock head mkdir mktemp mv rm sh sort touch"


@pytest.fixture
def house(tmp_path):
    """Return a copy of the repository that holds the script alone."""
    folder = tmp_path / "house" / "ops" / "redis"
    folder.mkdir(parents=True)
    shutil.copy(SCRIPT, folder)
    return tmp_path / "house"


@pytest.fixture
def found(tmp_path, house):
    """Return `found()`: exit code, stdout, stderr; PATH has `bin` and the script's own commands."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS.split():
        if path := shutil.which(name):
            (tools / name).symlink_to(path)

    def run() -> tuple[int, str, str]:
        process = subprocess.Popen(
            ["/bin/sh", house / "ops" / "redis" / "find-valkey"],
            env={"PATH": f"{tmp_path / 'bin'}:{tools}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return outcome(process)

    return run


def test_the_one_on_path(tmp_path, house, found):
    """A valkey-server on PATH is taken, and nothing is unpacked."""
    command(tmp_path / "bin", "valkey-server", "echo 'Valkey server v=8.0.1 sha=0'")

    assert found() == (0, f"{tmp_path}/bin/valkey-server\n", "")
    assert not (house / ".tools").exists()


def test_one_that_does_not_run(tmp_path, found):
    """Without another, and without apt-get: exit 69, what was tried and what to install."""
    command(tmp_path / "bin", "valkey-server", "exit 1")

    code, stdout, stderr = found()

    assert (code, stdout) == (69, "")
    assert f"{tmp_path}/bin/valkey-server: does not run" in stderr
    assert "bookworm-backports valkey-server" in stderr


@needs_flock
def test_unpacks_the_distribution_package(tmp_path, house, found):
    """With apt-get the package is unpacked below .tools, once, and what is there runs."""
    command(tmp_path / "bin", "apt-get", APT_GET)
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    code, stdout, stderr = found()

    path = f"{house}/.tools/valkey/valkey-server\n"
    assert (code, stdout) == (0, path), stderr
    assert "unpacking valkey-server" in stderr
    assert names(house / ".tools") == ["lock", "valkey"]
    assert found() == (0, path, "")


@needs_flock
def test_a_failed_download_leaves_nothing(tmp_path, house, found):
    """Exit 69, what went wrong, and no half-made tools."""
    command(tmp_path / "bin", "apt-get", "echo 'E: no network' >&2; exit 100")
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    code, stdout, stderr = found()

    assert (code, stdout) == (69, "")
    assert "E: no network" in stderr
    assert names(house / ".tools") == ["lock"]
