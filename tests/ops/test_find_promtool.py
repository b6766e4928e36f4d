"""ops/find-promtool finds promtool and prometheus, unpacks both, or says what to install."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ops.test_find_redis import command, names, needs_flock, outcome

SCRIPT = Path(__file__).parents[2] / "ops" / "find-promtool"
APT_GET = 'case "$*" in *download*) touch prometheus_2_all.deb ;; esac'
DPKG_DEB = """
mkdir -p prometheus/usr/bin
for name in promtool prometheus; do
    printf '#!/bin/sh\\necho 2.42.0\\n' >prometheus/usr/bin/$name
    chmod +x prometheus/usr/bin/$name
done
"""
# The commands that the script itself needs.
TOOLS = "cat chmod dirname flock mkdir mktemp mv rm sh touch"


@pytest.fixture
def house(tmp_path):
    """Return a copy of the repository that holds the script alone."""
    (tmp_path / "house" / "ops").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "house" / "ops")
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
            ["/bin/sh", house / "ops" / "find-promtool"],
            env={"PATH": f"{tmp_path / 'bin'}:{tools}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return outcome(process)

    return run


def test_those_on_path(tmp_path, house, found):
    """With both on PATH nothing is unpacked."""
    for name in ("promtool", "prometheus"):
        command(tmp_path / "bin", name, "echo 2.42.0")

    assert found() == (0, f"{tmp_path}/bin/promtool\n", "")
    assert not (house / ".tools").exists()


def test_a_promtool_alone(tmp_path, found):
    """Without the server beside it, and without apt-get: exit 69 and what to install."""
    command(tmp_path / "bin", "promtool", "echo 2.42.0")

    code, stdout, stderr = found()

    assert (code, stdout) == (69, "")
    assert f"{tmp_path}/bin/promtool: does not run, or there is no prometheus beside it" in stderr
    assert "apt install prometheus" in stderr


@needs_flock
def test_unpacks_the_distribution_package(tmp_path, house, found):
    """With apt-get the package is unpacked below .tools, once."""
    command(tmp_path / "bin", "apt-get", APT_GET)
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    code, stdout, stderr = found()

    path = f"{house}/.tools/prometheus/usr/bin/promtool\n"
    assert (code, stdout) == (0, path)
    assert "unpacking prometheus" in stderr
    assert names(house / ".tools") == ["lock", "prometheus"]
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
