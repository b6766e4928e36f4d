"""ops/install where it has been before: what is kept, what is made anew; and two at once."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.bridge.processes import eventually
from tests.ops.placed import PYTHON, Place

INSTALL_SECONDS_MAX = 120.0

pytestmark = pytest.mark.timeout(180)  # an installation copies an interpreter


def test_again_changes_nothing(installed: Place) -> None:
    """The second run, and one that only looks, leave every file as it is; the latter says so. Only
    the lock then names who held it last."""
    lock = installed.opt / ".lock"
    before = installed.files

    looked = installed.call("install", "--dry-run")
    done = installed.call("install")

    assert (looked.returncode, looked.stderr) == (0, "")
    assert looked.stdout.startswith("nothing to do: ")
    assert done.returncode == 0
    now = installed.files
    assert now.pop(lock)[0] == before.pop(lock)[0]
    assert now == before


def test_settings_of_yours_are_kept(copy: Place) -> None:
    """An upgrade overwrites the unit, never the settings."""
    (copy.etc / "shadow.toml").write_text("# mine\n")
    copy.unit.write_text("old\n")

    said = copy.call("install", "--dry-run").stdout

    assert f"would: write {copy.unit}\n" in said
    assert "toml" not in said


def test_settings_that_lie_elsewhere(copy: Place, tmp_path: Path) -> None:
    """A link is kept, also one whose target is not there now."""
    live, target = copy.etc / "live.toml", tmp_path / "not-mounted" / "live.toml"
    live.unlink()
    live.symlink_to(target)

    assert copy.call("install").returncode == 0

    assert live.readlink() == target


def test_a_masked_unit(copy: Place) -> None:
    """It stays masked, and that is said, with the way out."""
    copy.unit.unlink()
    copy.unit.symlink_to("/dev/null")

    done = copy.call("install")

    assert (done.returncode, copy.unit.readlink()) == (0, Path("/dev/null"))
    assert f"left as it is: {copy.unit} is masked; to run it: systemctl unmask " in done.stdout


def test_another_version_is_another_release(copy: Place) -> None:
    """What is in force stays untouched until the new one is complete; the way back is said."""
    before = (copy.opt / "current").readlink()
    (copy.house / "strategies" / "new.py").touch()

    steps = copy.call("install", "--dry-run").stdout.splitlines()

    switch = next(step for step in steps if step.startswith("would: ln -sfn releases/"))
    assert str(before) not in switch
    assert not [step for step in steps if step.startswith("would: rm")]
    assert steps.index(switch) > steps.index(next(s for s in steps if s.endswith("/.installed")))
    assert f"back to the release before: ln -sfn {before} {copy.opt}/current, and restart" in steps


def test_an_install_that_was_cut_short(copy: Place) -> None:
    """A release that was never completed is made anew."""
    release = (copy.opt / "current").resolve()
    (release / ".installed").unlink()

    assert f"would: rm -rf {release}\n" in copy.call("install", "--dry-run").stdout


def test_a_release_that_was_damaged(copy: Place) -> None:
    """What is no longer what its name says is built again, and that is said."""
    core = copy.opt / "current" / "bridge" / "core"
    (core / "lanes.py").write_text("broken\n")
    (core / "resp.py").unlink()

    done = copy.call("install")

    assert done.returncode == 0, done.stderr
    assert f"{core.parents[1].resolve()} was changed or damaged: building it" in done.stderr
    text = {path.name: path.read_bytes() for path in core.glob("*.py")}
    assert text == {path.name: path.read_bytes() for path in copy.house.glob("bridge/core/*.py")}


def test_two_at_once(copy: Place, tmp_path: Path) -> None:
    """The second ends with 1 and names the first, whose release it leaves alone."""
    release = (copy.opt / "current").resolve()
    (release / ".installed").unlink()
    reached, goes_on = tmp_path / "reached", tmp_path / "goes-on"
    os.mkfifo(goes_on)
    touch = tmp_path / "tools" / "touch"  # the last step of a release
    touch.parent.mkdir()
    real = shutil.which("touch")
    touch.write_text(f'#!/bin/sh\n: >{reached}\ncat {goes_on}\nexec {real} "$@"\n')
    touch.chmod(0o755)
    first = subprocess.Popen(
        [copy.house / "ops" / "install", "--prefix", copy.prefix],
        env=os.environ | {"PYTHON": PYTHON, "PATH": f"{touch.parent}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        eventually(reached.exists, "a nearly complete release", seconds_max=INSTALL_SECONDS_MAX)
        before = copy.files
        second = copy.call("install")
        after = copy.files
        goes_on.write_text("")
        first.wait()
    finally:
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()

    assert second.returncode == 1
    assert f"install: another one is at work: process {first.pid} of " in second.stderr
    assert after == before
    assert (first.returncode, (release / ".installed").exists()) == (0, True)
