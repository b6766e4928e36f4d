"""ops/uninstall below a folder: what goes, and what stays."""

from tests.ops.placed import NAME, Place


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
