"""ops/find-python believes only an interpreter that runs and can make a virtual environment."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ops" / "find-python"
BASE_PYTHON = str(Path(sys._base_executable))  # type: ignore[attr-defined]


def fake(folder: Path, name: str, *, before: str = "pass") -> Path:
    """Put a real interpreter at `folder/name` that runs `before` ahead of what it is given."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    code = f"import sys; {before}; exec(sys.argv[1])"
    path.write_text(f"#!/bin/sh\nexec '{BASE_PYTHON}' -c '{code}' \"$2\"\n")
    path.chmod(0o755)
    return path


def shim(folder: Path, name: str) -> Path:
    """Put a version manager's dead shim at `folder/name`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    path.chmod(0o755)
    return path


def version(minor: int) -> str:
    """Return the line that makes an interpreter claim to be 3.`minor`.7."""
    return f"sys.version_info = (3, {minor}, 7)"


@pytest.fixture
def tools(tmp_path):
    """Return a folder with the few commands that the script itself needs, and no Python."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("cat", "tail"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    return folder


@pytest.fixture
def find(tmp_path, tools):
    """Return a function that runs the script with the given PATH folders and an empty home."""

    def run(*folders: Path, **env: str) -> subprocess.CompletedProcess[str]:
        path = ":".join(map(str, (*folders, tools)))
        return subprocess.run(
            ["/bin/sh", SCRIPT],
            env={"PATH": path, "HOME": str(tmp_path / "home"), **env},
            capture_output=True,
            text=True,
        )

    return run


def test_a_dead_shim_is_passed_over(tmp_path, find):
    """A python3.13 that fails when run does not hide a good one further down PATH."""
    shim(tmp_path / "shims", "python3.13")
    fake(tmp_path / "good", "python3.13", before=version(13))

    done = find(tmp_path / "shims", tmp_path / "good")

    assert (done.returncode, done.stdout) == (0, f"{BASE_PYTHON}\n")


def test_only_an_old_python(tmp_path, find):
    """Plain Debian 12: exit 69, and the message names what was found and what to install."""
    old = fake(tmp_path / "bin", "python3", before=version(11))

    done = find(tmp_path / "bin")

    assert (done.returncode, done.stdout) == (69, "")
    assert f"{old}: Python 3.11.7 (3.12 to 3.14 is needed)" in done.stderr
    assert "uv python install 3.13" in done.stderr


def test_no_python_at_all(find):
    """A machine without Python gets the message too."""
    done = find()

    assert done.returncode == 69
    assert "no Python at all" in done.stderr


def test_a_python_that_is_too_new(tmp_path, find):
    """3.15 is refused like 3.11: the pinned packages have no wheels for it."""
    fake(tmp_path / "bin", "python3", before=version(15))

    assert find(tmp_path / "bin").returncode == 69


def test_debian_without_the_venv_package(tmp_path, find):
    """An interpreter without ensurepip is refused with the name of the package that brings it."""
    no_ensurepip = f'{version(13)}; sys.modules["ensurepip"] = None'
    fake(tmp_path / "bin", "python3.13", before=no_ensurepip)

    done = find(tmp_path / "bin")

    assert done.returncode == 69
    assert "install python3.13-venv" in done.stderr


def test_pyenv_versions_that_are_not_on_path(tmp_path, find):
    """Interpreters below pyenv's root are found without its shims."""
    folder = tmp_path / "pyenv" / "versions" / "3.13.1" / "bin"
    folder.mkdir(parents=True)
    fake(folder, "python3", before=version(13))

    assert find(PYENV_ROOT=str(tmp_path / "pyenv")).returncode == 0


def test_uv_is_asked_last(tmp_path, find):
    """Where only uv is there, it installs an interpreter, and that one is used."""
    folder = tmp_path / "uv" / "cpython-3.13.1-linux" / "bin"
    ready = fake(tmp_path / "ready", "python3", before=version(13))
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin" / "uv"
    uv.write_text(f"#!/bin/sh\n/bin/mkdir -p {folder} && /bin/cp {ready} {folder}/python3\n")
    uv.chmod(0o755)

    done = find(tmp_path / "bin", UV_PYTHON_INSTALL_DIR=str(tmp_path / "uv"))

    assert (done.returncode, done.stdout) == (0, f"{BASE_PYTHON}\n")


def test_the_named_python_is_used(tmp_path, find):
    """PYTHON=/path is believed after a look, without any other candidate."""
    named = fake(tmp_path / "named", "mine", before=version(12))

    assert find(PYTHON=str(named)).stdout == f"{BASE_PYTHON}\n"


def test_a_named_python_that_does_not_run(tmp_path, find):
    """PYTHON=/path to a dead one is an error, even when another would do."""
    dead = shim(tmp_path / "shims", "python3")
    fake(tmp_path / "good", "python3.13", before=version(13))

    done = find(tmp_path / "good", PYTHON=str(dead))

    assert (done.returncode, done.stdout) == (69, "")
    assert f"{dead}: does not run" in done.stderr
