"""The Makefile and requirements.txt hold what the README promises."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"([a-z0-9-]+)==[0-9a-z.!]+( ; [^/:@]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def test_make_lists_the_targets():
    """`make` alone prints one line for each target."""
    listing = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)

    names = [line.split()[0] for line in listing.stdout.splitlines()]
    accept = ["accept", "accept-nt", "accept-legacy", "accept-compare"]
    assert names == [
        "run",
        "test",
        *accept,
        "lint",
        "check",
        "bench",
        "chaos",
        "picture",
        "soak",
        "lock",
        "clean",
    ]


def requirements(name: str = "requirements.txt") -> list[list[str]]:
    """Return one list per requirement: its pin, then its hashes."""
    text = (ROOT / name).read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace(" \\\n", "\0")
    return [[part.strip() for part in line.split("\0")] for line in joined.splitlines()]


def test_every_requirement_is_pinned_and_hashed():
    """No address, option or path can hide: each line is a pin followed by sha256 hashes only."""
    for pin, *hashes in requirements():
        assert PIN.fullmatch(pin), pin
        assert hashes, pin
        assert all(HASH.fullmatch(one) for one in hashes), pin


def normal(pins: list[str]) -> set[str]:
    """Return pins of pyproject.toml as a lock writes them."""
    return {re.sub(r"\[.*\]", "", pin).replace("_", "-") for pin in pins}


def test_requirements_are_those_of_pyproject():
    """What pyproject.toml pins, requirements.txt has, in the same version (else: `make lock`)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    locked = {pin.split(" ")[0] for pin, *_ in requirements()}

    assert normal(wanted) <= locked


def test_a_service_gets_no_tools_of_developers():
    """ops/requirements.txt is the part of requirements.txt that what runs needs, pin by pin and
    hash by hash (else: `make lock`)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours, all_of_them = requirements("ops/requirements.txt"), requirements()
    pins = {pin.split(" ")[0] for pin, *_ in ours}

    assert all(each in all_of_them for each in ours)
    assert normal(project["project"]["dependencies"]) <= pins
    assert not normal(project["dependency-groups"]["dev"]) & pins


def test_a_failed_install_is_not_taken_for_done(tmp_path):
    """Where no Python is found, make fails with its exit code and leaves no stamp behind."""
    for name in ("Makefile", "requirements.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "ops").mkdir()
    finder = tmp_path / "ops" / "find-python"
    finder.write_text("#!/bin/sh\nexit 69\n")
    finder.chmod(0o755)

    done = subprocess.run(["make", "test"], cwd=tmp_path, capture_output=True, text=True)

    assert "Error 69" in done.stderr
    assert not (tmp_path / ".venv").exists()
