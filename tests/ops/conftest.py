"""Fixtures of the service's installation: one that all tests look at, copies to change, and one
in a systemd that runs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops.booted import PASSWORD, PASSWORD_FILE, SETTINGS, Booted, why_not
from tests.ops.placed import Place


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where it is installed, without packages: ops/requirements.txt is empty there."""
    place = Place(tmp_path_factory.mktemp("install"))
    (place.house / "LICENSE").chmod(0o600)
    done = place.call("install")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def copy(installed: Place, tmp_path: Path) -> Place:
    """The same in a folder of the test's own, without what takes time to copy."""
    place = Place(tmp_path, installed.house)
    skipped = shutil.ignore_patterns("lib", "python")
    shutil.copytree(installed.prefix, place.prefix, symlinks=True, ignore=skipped)
    return place


@pytest.fixture(scope="module")
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Booted]:
    """A systemd with a Redis that runs and a shadow that is set up; says which one it is."""

    def say(line: str) -> None:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            request.config.get_terminal_writer().line(f"\n{line}")

    if why := why_not():
        said = f"systemd: none can be booted here, a NOTIFY_SOCKET receiver stood in for it: {why}"
        say(said)
        pytest.skip(said)
    with Booted(tmp_path_factory.mktemp("machine")) as booted:
        version = booted.call("systemctl", "--version").stdout.splitlines()[0]
        say(f"systemd: a real one, booted in namespaces of its own ({version})")
        assert booted.call("systemctl", "start", "redis").returncode == 0
        settings = booted.path(SETTINGS)
        text = settings.read_text().replace("# url = ", 'url = "redis://127.0.0.1:6379/0"  # ')
        settings.write_text(text.replace("[node]\n", '[node]\ndata = "replay"\n'))
        booted.path(PASSWORD_FILE).write_text(f"{PASSWORD}\n")
        yield booted
