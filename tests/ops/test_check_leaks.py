"""ops/check-leaks names every line that belongs to one machine."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ops" / "check-leaks"

# In two parts, so that the check does not find them here.
LEAKS = [
    ("registry host", "https://py" + "pi.org/simple"),
    ("registry host", "http://deb." + "debian.org/debian"),
    ("index option", "--index" + "-url x"),
    ("index option", "pip --extra-index" + "-url=x"),
    ("index option", "--find" + "-links dist"),
    ("path of a machine", "cd /ro" + "ot/x"),
    ("path of a machine", "'/ho" + "me/ann/x'"),
    ("path of a machine", "=/wo" + "rk/x"),
    ("path of a machine", "/Us" + "ers/ann"),
    ("token", "gh" + "p_" + "a1" * 18),
    ("token", "AK" + "IA" + "ABCD" * 4),
    ("token", "-----BEGIN RSA PRI" + "VATE KEY"),
]


@pytest.fixture
def tree(tmp_path):
    """Return a fresh git work tree that holds the script."""
    (tmp_path / "ops").mkdir()
    shutil.copy(SCRIPT, tmp_path / "ops")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def check(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run the tree's own copy of the script."""
    return subprocess.run([tree / "ops" / "check-leaks"], capture_output=True, text=True)


@pytest.mark.parametrize(("what", "line"), LEAKS)
def test_a_leak_is_named_with_file_and_line(tree, what, line):
    """A new, untracked file is read too; the leak itself is not printed."""
    (tree / "notes.md").write_text(f"fine\n{line}\n")

    done = check(tree)

    assert (done.returncode, done.stdout) == (1, f"notes.md:2: {what}\n")


def test_a_clean_tree_passes(tree):
    """The script does not find itself, nor ordinary relative paths and options."""
    (tree / "notes.md").write_text("src/work/x.py ~/home x --no-emit-index-url /tmp/redis.sock\n")

    done = check(tree)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ignored_files_are_not_read(tree):
    """What git ignores (.venv, .tools) may name machine paths."""
    (tree / ".gitignore").write_text("venv\n")
    (tree / "venv").write_text("cd /ro" + "ot/x")

    assert check(tree).returncode == 0


def test_outside_git_it_cannot_judge(tree):
    """Without a work tree the answer is exit 2, never a pass."""
    shutil.rmtree(tree / ".git")

    done = check(tree)

    assert done.returncode == 2
    assert "inside the git work tree" in done.stderr
