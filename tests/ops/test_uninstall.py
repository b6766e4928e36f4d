"""ops/uninstall below a folder: what goes, and what stays."""

import fcntl
from pathlib import Path

import pytest

from tests.ops.placed import NAME, Place

pytestmark = pytest.mark.timeout(180)  # of what is installed before the first one


def test_uninstall_leaves_what_is_yours(copy: Place) -> None:
    """Programs and unit go; settings, passwords, strategies and data stay, and are named."""
    (copy.opt / "own" / "mine.py").touch()
    data = copy.prefix / "var" / "lib" / NAME / "shadow"
    data.mkdir(parents=True)

    looked = copy.call("uninstall", "--dry-run")
    assert copy.unit.exists()
    done = copy.call("uninstall")

    assert (looked.returncode, done.returncode, done.stderr) == (0, 0, "")
    assert [path.name for path in copy.opt.iterdir()] == ["own"]
    assert not copy.unit.exists()
    assert (copy.etc / "shadow.toml").exists()
    left = [copy.opt / "own", copy.etc, copy.prefix / "var" / "lib" / NAME]
    assert done.stdout == "".join([f"left as it is: {path}\n" for path in left])


def test_uninstall_twice(copy: Place) -> None:
    """Nothing of the programs is left, and again is harmless."""
    assert copy.call("uninstall").returncode == 0
    assert not copy.opt.exists()

    assert copy.call("uninstall").returncode == 0


def test_what_a_killed_install_has_left(copy: Place) -> None:
    """Half-written files of it go, too."""
    (copy.opt / "current.new").symlink_to("releases/x")
    half = [copy.opt / "nautilus-bridge.new", Path(f"{copy.unit}.new")]
    for path in half:
        path.touch()

    done = copy.call("uninstall")

    assert (done.returncode, done.stderr) == (0, "")
    assert not copy.opt.exists()
    assert not half[1].exists()


def test_own_that_lies_elsewhere(copy: Place, tmp_path: Path) -> None:
    """A link to a folder of yours stays, also while that is empty."""
    own, target = copy.opt / "own", tmp_path / "mine"
    target.mkdir()
    own.rmdir()
    own.symlink_to(target)

    done = copy.call("uninstall")

    assert (done.returncode, done.stderr) == (0, "")
    assert own.readlink() == target
    assert f"left as it is: {own}\n" in done.stdout


def test_a_masked_unit_stays(copy: Place) -> None:
    """It is yours, and said to be left."""
    copy.unit.unlink()
    copy.unit.symlink_to("/dev/null")

    done = copy.call("uninstall")

    assert (done.returncode, copy.unit.readlink()) == (0, Path("/dev/null"))
    assert f"left as it is: {copy.unit} is masked\n" in done.stdout


def test_uninstall_beside_an_install(copy: Place) -> None:
    """1, with who is at work; nothing goes."""
    lock = copy.opt / ".lock"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = copy.files

        done = copy.call("uninstall")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"uninstall: ops/install is at work: {lock.read_text()}"
    assert copy.files == before
