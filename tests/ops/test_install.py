"""ops/install below a folder: what is made, what is kept, what is said."""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

from bridge.config import load
from bridge.settings import Config
from tests.bridge.processes import ROOT
from tests.ops.placed import NAME, Place
from tests.servers import free_port

ROLES = ("demo", "live", "shadow")
TEMPLATE = ROOT / "ops" / "systemd" / "bridge.toml"
# What the unit's ProtectHome= hides.
HIDDEN = re.compile(r"/(root|home|run/user)/")

pytestmark = pytest.mark.timeout(180)  # an installation copies an interpreter


def test_dry_run_makes_nothing(tmp_path: Path) -> None:
    """It says each step, and the prefix is not even made."""
    place = Place(tmp_path)

    done = place.call("install", "--dry-run")

    assert (done.returncode, done.stderr) == (0, "")
    assert not place.prefix.exists()
    for path in (place.opt / "releases", place.unit, *(place.etc / f"{r}.toml" for r in ROLES)):
        assert f"{path}" in done.stdout
    steps = [line for line in done.stdout.splitlines() if line.startswith("would: ")]
    assert "pip install" in "".join(steps)
    assert len(steps) == len(set(steps))
    assert any(step.startswith("would: copy bridge integrations strategies ops ") for step in steps)
    assert not re.search(r" [a-z]+_[a-z]+ ", done.stdout), "a function of the script"


def test_what_is_made(installed: Place) -> None:
    """A release and the link to it, the command, settings and folders for each role, the unit."""
    current = installed.opt / "current"

    assert current.readlink().parent == Path("releases")
    assert (current / "bridge" / "__main__.py").exists()
    assert (installed.opt / "own").is_dir()
    assert sorted(path.stem for path in installed.etc.glob("*.toml")) == sorted(ROLES)
    for role in ROLES:
        assert (installed.etc / "credentials" / role).stat().st_mode & 0o777 == 0o700
    assert (current / "LICENSE").stat().st_mode & 0o777 == 0o644
    assert installed.unit.exists()
    assert not [path for path in installed.files if path.suffix == ".new"]


def test_its_python_is_one_that_the_service_sees(installed: Place) -> None:
    """Neither the interpreter nor its library lie below a home; it has a venv of its own."""
    python = installed.opt / "current" / ".venv" / "bin" / "python"
    probe = "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix)"

    said = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True).stdout

    assert not HIDDEN.match(said)
    assert all(not HIDDEN.match(path) for path in said.split())
    assert sysconfig.get_python_version() in python.resolve().name


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(installed: Place) -> None:
    """Its paths are those below the prefix, and all of them are there."""
    instance = installed.unit.with_name("nautilus-bridge@shadow.service")

    done = subprocess.run(["systemd-analyze", "verify", instance], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    text = installed.unit.read_text()
    assert text.count(str(installed.opt)) == text.count(f"/opt/{NAME}") > 0
    assert text.count(str(installed.etc)) == text.count(f"/etc/{NAME}") > 0


@pytest.mark.parametrize("role", ROLES)
def test_the_settings_are_usable(installed: Place, role: str) -> None:
    """Each role has its own folder and port; with redis.url set nothing else is missing."""
    environ = {} if role == "demo" else {"BRIDGE_REDIS__URL": "redis://host"}
    environ |= {"BRIDGE_NODE__EXEC_CLIENT": "a:b"} if role == "live" else {}

    config = load(installed.etc / f"{role}.toml", environ=environ)

    assert config.role == role
    assert config.state.directory == installed.prefix / "var" / "lib" / NAME / role
    assert config.replay.dataset.parent == config.state.directory


def test_each_role_has_a_port_of_its_own(installed: Place) -> None:
    """Three roles on one machine do not get in each other's way."""
    texts = [(installed.etc / f"{role}.toml").read_text() for role in ROLES]

    assert len({tomllib.loads(text)["status"]["port"] for text in texts}) == len(ROLES)


def test_what_is_commented_out_is_the_default() -> None:
    """The file shows what holds; and who takes the # away changes nothing."""
    text = re.sub(r"^# (\w+ = )", r"\1", TEMPLATE.read_text(), flags=re.MULTILINE)
    shown = tomllib.loads(text.replace("@ROLE@", "shadow").replace("@PORT@", "1"))
    own = {
        ("redis", "url"),
        ("redis", "market_url"),
        ("status", "host"),
        ("state", "directory"),
        ("replay", "dataset"),
        ("status", "port"),
    }
    values = {
        (section, name): value
        for section, table in shown.items()
        if isinstance(table, dict)
        for name, value in table.items()
    }

    assert own < values.keys()
    for section, name in values.keys() - own:
        given = Config.model_validate({section: {name: values[section, name]}})
        assert getattr(getattr(given, section), name) == getattr(getattr(Config(), section), name)


def test_the_command(installed: Place) -> None:
    """`nautilus-bridge ROLE COMMAND` uses the role's settings and its password, from anywhere."""
    [packages] = (installed.opt / "current" / ".venv" / "lib").glob("python3*/site-packages")
    path = packages / "site.pth"
    path.write_text(sysconfig.get_path("purelib"))
    password = installed.etc / "credentials" / "shadow" / "redis-password"
    password.write_text("hunter2\n")
    words = [installed.opt / "nautilus-bridge", "shadow", "check-config"]
    url = {"BRIDGE_REDIS__URL": "redis://me@host:1/0"}
    try:
        done = subprocess.run(words, env=url, cwd="/", capture_output=True, text=True)
    finally:
        path.unlink()
        password.unlink()

    assert done.returncode == 0, done.stderr
    assert "role shadow, Redis redis://me:***@host:1/0" in done.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [((), "no role is given"), (("foo", "status"), "no such role: foo")],
)
def test_the_command_without_a_role(installed: Place, words: tuple[str, ...], why: str) -> None:
    """Usage, 2: with the roles that there are."""
    command = installed.opt / "nautilus-bridge"

    done = subprocess.run([command, *words], capture_output=True, text=True)

    usage = "usage: nautilus-bridge ROLE COMMAND ...; ROLE is one of: demo live shadow"
    assert (done.returncode, done.stderr) == (2, f"nautilus-bridge: {why}\n{usage}\n")


def test_the_command_as_it_is_called(copy: Place) -> None:
    """Without a command it asks for help. Hints name the command, with its path and role, as the
    unit's do; what is written is for nobody else to read."""
    python = copy.opt / "current" / ".venv" / "bin" / "python"
    assert copy.call("install").returncode == 0
    python.write_text('#!/bin/sh\necho "$*"; echo "$NAUTILUS_BRIDGE_COMMAND"; umask\n')
    python.chmod(0o755)
    command = copy.opt / "nautilus-bridge"

    [words, hint, umask] = subprocess.check_output([command, "shadow"], text=True).splitlines()

    assert words == f"-m bridge --help --config {copy.etc}/shadow.toml"
    assert hint == f"{command} shadow"
    [of_unit] = re.findall(
        r'^Environment="NAUTILUS_BRIDGE_COMMAND=(.*) %i"$', copy.unit.read_text(), re.M
    )
    assert of_unit == str(command)
    assert int(umask, 8) == 0o027


def test_a_step_that_fails(tmp_path: Path) -> None:
    """Exit 1 with the step; nothing is put in force."""
    place = Place(tmp_path)
    (place.house / "LICENSE").unlink()

    done = place.call("install")

    assert done.returncode == 1
    assert re.search(r"^install: failed: copy bridge .* to /", done.stderr, re.MULTILINE)
    assert not (place.opt / "current").exists()
    assert not place.unit.exists()


def test_a_file_that_cannot_be_written(copy: Place) -> None:
    """Exit 1 with its path."""
    copy.unit.write_text("old\n")
    Path(f"{copy.unit}.new").mkdir()

    done = copy.call("install")

    assert done.returncode == 1
    assert f"install: cannot write {copy.unit}\n" in done.stderr


def test_no_python(tmp_path: Path) -> None:
    """69, with what find-python says."""
    done = Place(tmp_path).call("install", PYTHON="/bin/false")

    assert done.returncode == 69
    assert "PYTHON=/bin/false cannot be used" in done.stderr


@pytest.mark.parametrize("script", ["install", "uninstall"])
@pytest.mark.parametrize("words", [["--prefx", "x"], ["--prefix"], ["x"]])
def test_usage(script: str, words: list[str]) -> None:
    """2, with the usage."""
    done = subprocess.run([ROOT / "ops" / script, *words], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: ops/{script} ")


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_help(script: str) -> None:
    """What it does, its words and its exit codes; 0."""
    done = subprocess.run([ROOT / "ops" / script, "--help"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"\n  ops/{script} [--prefix DIR] [--dry-run]\n" in done.stdout
    assert "2 usage" in done.stdout
    assert not re.search("^(#|set)", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_not_root(tmp_path: Path, script: str) -> None:
    """Without --prefix it must be root: 1."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    done = subprocess.run([ROOT / "ops" / script], env=environ, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}: must be root")


def test_a_prefix_that_no_unit_can_name(tmp_path: Path) -> None:
    """A space in it: 2."""
    done = subprocess.run(
        [ROOT / "ops" / "install", "--prefix", tmp_path / "a b"], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert not (tmp_path / "a b").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_of_it(tmp_path: Path) -> None:
    """With all packages of ops/requirements.txt: the demo's settings are usable there, and it runs
    until it is told to stop. No tool of developers is there."""
    prefix = tmp_path / "prefix"
    words = [ROOT / "ops" / "install", "--prefix", prefix]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    command = prefix / "opt" / NAME / "nautilus-bridge"
    said = subprocess.run([command, "demo", "check-config"], capture_output=True, text=True)

    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("usable: role demo, Redis embedded")
    [packages] = (prefix / "opt" / NAME / "current" / ".venv" / "lib").glob(
        "python3*/site-packages"
    )
    assert not [name for name in ("pytest", "mypy", "uv") if (packages / name).exists()]
    ports = {"BRIDGE_STATUS__PORT": f"{free_port()}", "BRIDGE_EMBEDDED__PORT": f"{free_port()}"}
    with subprocess.Popen(
        [command, "demo", "run"],
        env=os.environ | ports,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "node.running" in line:
                os.killpg(demo.pid, signal.SIGINT)  # what Ctrl-C sends
    assert demo.returncode == 0
