"""A systemd of the test's own, booted by `boot` beside this file, with the bridge installed."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import ROOT, eventually
from tests.servers import server_or_exit

BOOT = Path(__file__).with_name("boot")
TOOLS = ("unshare", "nsenter", "setpriv", "systemctl", "ip")
SHIPPED = ("bridge", "integrations", "strategies", "ops")
SECONDS_MAX = 60.0
TARGETS = ("idle", "sysinit", "basic", "shutdown", "umount", "network-online", "multi-user")
PASSWORD = "s3same"
UNIT = "nautilus-bridge@shadow"
OPT = "/opt/nautilus-redis-bridge"
SETTINGS = "/etc/nautilus-redis-bridge/shadow.toml"
PASSWORD_FILE = "/etc/nautilus-redis-bridge/credentials/shadow/redis-password"
STATE = "/var/lib/private/nautilus-redis-bridge/shadow"
REDIS = """\
[Service]
ExecStart={redis} --bind 127.0.0.1 --port 6379 --requirepass {password} --dir /run --save ''
"""
# Everything that is said goes to a file, and the watchdog waits less long.
DROP_IN = """\
[Service]
StandardOutput=append:/said
StandardError=append:/said
RestartSec=100ms
WatchdogSec=4
TimeoutAbortSec=1
"""


def why_not() -> str | None:
    """Return why no systemd can be booted here; None: it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "not root on Linux"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"no {', '.join(missing)}"
    if _cgroups() is None:
        return "no cgroup2 is mounted"
    words = ("unshare", "--cgroup", "--pid", "--mount", "--net", "--fork")
    probe = subprocess.run(
        [*words, "sh", "-c", "mount -t tmpfs none /mnt && mount -t cgroup2 none /mnt"],
        capture_output=True,
        text=True,
    )
    return None if probe.returncode == 0 else probe.stderr.strip()


def house(folder: Path, source: Path = ROOT) -> Path:
    """Return a copy of what is installed, whose requirements are none: a venv without packages."""
    for name in SHIPPED:
        shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "LICENSE", folder)
    (folder / "ops" / "requirements.txt").write_text("# none\n")
    return folder


class Booted:
    """A systemd that runs `nautilus-bridge@shadow` and a Redis. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cgroup = Path(str(_cgroups()), f"nautilus-bridge-test-{os.getpid()}")
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> "Booted":
        folder, units = self._folder, self._folder / "units"
        (units / "nautilus-bridge@.service.d").mkdir(parents=True)
        (units / "nautilus-bridge@.service.d" / "test.conf").write_text(DROP_IN)
        for name in TARGETS:
            (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        redis = server_or_exit(find_redis_server()).absolute()
        (units / "redis.service").write_text(REDIS.format(redis=redis, password=PASSWORD))
        self._cgroup.mkdir()
        (folder / "cgroup").write_text(str(self._cgroup))
        site = sysconfig.get_path("purelib")
        python = getattr(sys, "_base_executable", sys.executable)
        words = [str(BOOT), folder, units, house(folder / "house"), site, python]
        with (folder / "boot.log").open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            eventually(self._is_up, "systemd", seconds_max=SECONDS_MAX)
        except AssertionError:
            self.__exit__()
            raise AssertionError((folder / "boot.log").read_text()) from None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            if self._pid:
                os.kill(self._pid, 9)  # the first process: all others of its space end with it
        self._process.kill()
        self._process.wait()
        folders = [self._cgroup, *(path for path in self._cgroup.rglob("*") if path.is_dir())]
        for path in reversed(folders):
            eventually(lambda path=path: _removed(path), f"the end of {path}")

    def call(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command beside it, with what is `given` on its stdin."""
        spaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
        return subprocess.run(
            ["nsenter", "--target", str(self._pid), *spaces, "--root", "--wd", *words],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            input=given,
        )

    def shown(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.call("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def path(self, path: str) -> Path:
        """Return where one of its files can be read and written."""
        return Path(f"/proc/{self._pid}/root{path}")

    @property
    def said(self) -> str:
        """All that the bridges have said."""
        return self.path("/said").read_text()

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None
        first = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self._pid = int(first or 0)
        return bool(first) and self.call("systemctl", "is-active", "idle.target").returncode == 0


def release_of(machine: Booted) -> str:
    """Return the release that runs."""
    line = machine.path(f"/proc/{machine.shown(UNIT, 'MainPID')}/cmdline").read_text()
    return line.removeprefix(f"{OPT}/releases/").partition("/")[0]


def damage_journal(machine: Booted) -> None:
    """Change one byte of a journal that nobody writes."""
    segment = next(machine.path(f"{STATE}/journal").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 255
    segment.write_bytes(data)


def _cgroups() -> str | None:
    """Return where cgroup2 is mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((mount[1] for mount in mounts if mount[2] == "cgroup2"), None)


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return not path.exists()
    return True
