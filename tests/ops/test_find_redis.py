"""ops/find-redis finds a redis-server, unpacks one, or says what to install."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ops" / "find-redis"

# What apt-get and dpkg-deb do, with a redis-server that only knows its version.
APT_GET = """
case "$*" in *download*) ;; *) exit 0 ;; esac
echo "$*" >>"$CALLS"
for last; do :; done
touch redis-server_7_all.deb redis-tools_7_all.deb
"""
DPKG_DEB = """
if [ "$1" = -f ]; then echo 'adduser, libc6 (>= 2.34), libssl9t64 (>= 3), lua-cjson'; exit; fi
mkdir -p redis/usr/bin
for name in redis-server redis-cli redis-check-aof redis-benchmark; do
    printf '#!/bin/sh\\necho "Redis server v=7.0.15 sha=0"\\n' >redis/usr/bin/$name
    chmod +x redis/usr/bin/$name
done
"""
# The commands that the script itself needs.
TOOLS = "cat chmod dirname flock grep mkdir mktemp mv rm sed sh touch tr"


def command(folder: Path, name: str, body: str) -> None:
    """Put a shell script at `folder/name`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def house(tmp_path):
    """Return a copy of the repository that holds the script alone."""
    (tmp_path / "house" / "ops").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "house" / "ops")
    return tmp_path / "house"


@pytest.fixture
def start(tmp_path, house):
    """Return a function that starts the script; PATH has `bin` and the script's own commands."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS.split():
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    env = {"PATH": f"{tmp_path / 'bin'}:{tools}", "CALLS": str(tmp_path / "calls")}

    def run() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", house / "ops" / "find-redis"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of a process once it has ended."""
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def test_the_one_on_path(tmp_path, start):
    """A redis-server on PATH is taken, and nothing is unpacked."""
    command(tmp_path / "bin", "redis-server", "echo 'Redis server v=6.2.0 sha=0'")

    assert outcome(start()) == (0, f"{tmp_path}/bin/redis-server\n", "")
    assert not (tmp_path / "house" / ".tools").exists()


def test_none_and_no_apt(start):
    """Without a server and without apt-get: exit 69 and what to install."""
    code, stdout, stderr = outcome(start())

    assert (code, stdout) == (69, "")
    assert "apt install redis-server" in stderr


def test_one_that_is_too_old(tmp_path, start):
    """6.0 is refused with its version and the one that is needed."""
    command(tmp_path / "bin", "redis-server", "echo 'Redis server v=6.0.16 sha=0'")

    code, _, stderr = outcome(start())

    assert code == 69
    assert f"{tmp_path}/bin/redis-server: version 6.0 (6.2 is needed)" in stderr


def test_one_that_does_not_run(tmp_path, start):
    """A redis-server that fails when run is not believed."""
    command(tmp_path / "bin", "redis-server", "exit 127")

    code, _, stderr = outcome(start())

    assert code == 69
    assert "redis-server: does not run" in stderr


needs_flock = pytest.mark.skipif(
    not shutil.which("flock"), reason="unpacking is for Debian: no flock"
)


@needs_flock
def test_unpacks_the_distribution_package(tmp_path, house, start):
    """With apt-get the package is unpacked below .tools, and the wrapper there runs."""
    command(tmp_path / "bin", "apt-get", APT_GET)
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    code, stdout, _ = outcome(start())

    assert (code, stdout) == (0, f"{house}/.tools/bin/redis-server\n")
    said = subprocess.run([house / ".tools/bin/redis-cli"], capture_output=True, text=True).stdout
    assert said.startswith("Redis server v=7.0.15")
    libraries = (tmp_path / "calls").read_text().splitlines()[-1]
    assert libraries.endswith("download libssl9t64 lua-cjson")


@needs_flock
def test_two_at_once_unpack_once(tmp_path, house, start):
    """Of two that start together one unpacks, the other waits and takes the result."""
    command(tmp_path / "bin", "apt-get", APT_GET)
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    both = [outcome(process)[:2] for process in (start(), start())]

    assert both == [(0, f"{house}/.tools/bin/redis-server\n")] * 2
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
    assert names(house / ".tools") == ["bin", "lock", "redis"]


@needs_flock
def test_a_failed_download_leaves_nothing(tmp_path, house, start):
    """When apt-get cannot download: exit 69, what to install, and no half-made tools."""
    command(tmp_path / "bin", "apt-get", "echo 'E: no network' >&2; exit 100")
    command(tmp_path / "bin", "dpkg-deb", DPKG_DEB)

    code, stdout, stderr = outcome(start())

    assert (code, stdout) == (69, "")
    assert "E: no network" in stderr
    assert names(house / ".tools") == ["lock"]
