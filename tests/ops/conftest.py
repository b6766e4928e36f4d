"""Fixtures of the service's installation: one that all tests look at, and copies to change."""

import shutil
from pathlib import Path

import pytest

from tests.ops.placed import Place


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where it is installed, without packages: requirements.txt is empty there."""
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
