"""The service in a real systemd: installed, started, killed, hung, reloaded, stopped, refused.

Where none can be booted tests/bridge/test_notify_daemon.py checks what systemd would be told.
"""

import re

import pytest

from bridge import exits
from tests.bridge.processes import eventually
from tests.ops.booted import (
    OPT,
    PASSWORD,
    PASSWORD_FILE,
    SECONDS_MAX,
    SETTINGS,
    STATE,
    UNIT,
    Booted,
    damage_journal,
    release_of,
)
from tests.ops.placed import PYTHON

URLS_FILE = "/etc/nautilus-redis-bridge/credentials/shadow/notify-urls"
COMMAND = f"{OPT}/nautilus-bridge"
CODES = [value for name, value in vars(exits).items() if name.isupper() and value != exits.DONE]

QUITS = """\
from nautilus_trader.trading.strategy import Strategy

class Quits(Strategy):
    def on_start(self):
        self.shutdown_system("the strategy wants it")
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def service(machine: Booted) -> Booted:
    """The machine, its bridge up."""
    done = machine.call("systemctl", "start", UNIT)
    assert done.returncode == 0, machine.said
    return machine


def until_up_again(machine: Booted, pid: str) -> None:
    """Wait until the service is active with another process."""

    def is_up() -> bool:
        others = machine.shown(UNIT, "MainPID") not in (pid, "0")
        return others and machine.shown(UNIT, "ActiveState") == "active"

    eventually(is_up, "another one", seconds_max=SECONDS_MAX)


def test_it_starts(service: Booted) -> None:
    """`systemctl start` returns when Redis and the node are up; then it says how it goes."""
    assert service.shown(UNIT, "ActiveState") == "active"
    assert '"event": "node.running"' in service.said
    assert "orders" in eventually(lambda: service.shown(UNIT, "StatusText"), "its status")
    pid = service.shown(UNIT, "MainPID")
    uids = service.path(f"/proc/{pid}/status").read_text().partition("Uid:\t")[2].split()[:4]
    assert "0" not in uids


def test_it_reads_its_password_alone(service: Booted) -> None:
    """The password is in no environment, on no command line, in nothing that it says."""
    pid = service.shown(UNIT, "MainPID")
    seen = [service.path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")]

    assert PASSWORD.encode() not in b"".join(seen)
    assert PASSWORD not in service.said


def test_reload(service: Booted) -> None:
    """What can be read again is; the process stays."""
    pid = service.shown(UNIT, "MainPID")
    settings = service.path(SETTINGS)
    settings.write_text(settings.read_text().replace("[log]\n", '[log]\nlevel = "debug"\n'))

    assert service.call("systemctl", "reload", UNIT).returncode == 0

    eventually(lambda: '"changed": ["log.level"]' in service.said, "the log")
    assert service.shown(UNIT, "ActiveState") == "active"
    assert service.shown(UNIT, "MainPID") == pid


def test_killed(service: Booted) -> None:
    """SIGKILL: another one is up, and the lease of the dead one does not delay it."""
    pid = service.shown(UNIT, "MainPID")

    service.call("systemctl", "kill", "--signal=KILL", UNIT)

    until_up_again(service, pid)
    assert int(service.shown(UNIT, "NRestarts")) >= 1


def test_hung(service: Booted) -> None:
    """A stopped process feeds no watchdog: systemd ends it, and another one is up."""
    pid = service.shown(UNIT, "MainPID")
    service.call("kill", "-STOP", pid)

    until_up_again(service, pid)


def test_stop(service: Booted) -> None:
    """`systemctl stop`: cleanly, nothing is left to publish."""
    service.path("/said").write_text("")

    assert service.call("systemctl", "stop", UNIT).returncode == 0

    assert service.shown(UNIT, "Result") == "success"
    assert service.shown(UNIT, "ExecMainStatus") == "0"
    assert service.said.endswith("\nstopped; everything is published\n")


def refused(machine: Booted) -> str:
    """Start it in vain; return the exit code. It is not started again."""
    machine.call("systemctl", "stop", UNIT)
    assert machine.call("systemctl", "start", UNIT).returncode != 0
    assert machine.shown(UNIT, "ActiveState") == "failed"
    assert machine.shown(UNIT, "NRestarts") == "0"
    code = machine.shown(UNIT, "ExecMainStatus")
    machine.call("systemctl", "reset-failed", UNIT)
    return code


def test_a_wrong_password(machine: Booted) -> None:
    """77, and it stays down."""
    file = machine.path(PASSWORD_FILE)
    file.write_text("wrong\n")
    try:
        assert refused(machine) == str(exits.REFUSED)
    finally:
        file.write_text(f"{PASSWORD}\n")


def test_no_settings(machine: Booted) -> None:
    """78, and it stays down."""
    settings = machine.path(SETTINGS)
    aside = settings.rename(settings.with_suffix(".aside"))
    try:
        assert refused(machine) == str(exits.CONFIGURATION)
    finally:
        aside.rename(settings)


def test_an_alert_url_that_nobody_takes(machine: Booted) -> None:
    """The lines of notify-urls arrive, too: 78, and nothing of the URL is shown."""
    file = machine.path(URLS_FILE)
    file.write_text("json://127.0.0.1:9\nnosuch://s3cret-token\n")
    try:
        assert refused(machine) == str(exits.CONFIGURATION)
    finally:
        file.unlink()
    assert "notify.urls: apprise takes no such URL as number 2 (nosuch)" in machine.said
    assert "s3cret-token" not in machine.said


def test_a_damaged_journal(service: Booted) -> None:
    """65, and it stays down; what root mends with the command, the service can open."""
    service.call("systemctl", "stop", UNIT)
    damage_journal(service)
    assert refused(service) == str(exits.BAD_DATA)

    done = service.call(COMMAND, "shadow", "journal", "--repair")

    assert (done.returncode, done.stderr) == (0, "")
    assert "lost for good" in done.stdout
    assert service.call("find", f"{STATE}/", "-user", "root").stdout == ""
    assert service.call("systemctl", "start", UNIT).returncode == 0, service.said


def test_exit_codes(machine: Booted) -> None:
    """Of all codes that the bridge ends with, systemd starts it again behind these only."""
    for code in CODES:
        folder = machine.path(f"/units/nautilus-bridge@{code}.service.d")
        folder.mkdir()
        start = f"ExecStart=/bin/sh -c 'exit {code}'"
        (folder / "exit.conf").write_text(f"[Service]\nExecStart=\n{start}\nRestartSec=0\n")
    units = {code: f"nautilus-bridge@{code}" for code in CODES}
    machine.call("systemctl", "daemon-reload")
    machine.call("systemctl", "start", "--no-block", *units.values())

    def restarts(code: int) -> bool | None:
        if machine.shown(units[code], "NRestarts") not in ("", "0"):
            return True
        return False if machine.shown(units[code], "ActiveState") == "failed" else None

    for code in CODES:
        eventually(lambda code=code: restarts(code) is not None, f"{code}")
    assert [code for code in CODES if restarts(code)] == [
        *(exits.FAILED, exits.USAGE, exits.UNAVAILABLE, exits.TAKEN, exits.RESTART)
    ]
    machine.call("systemctl", "stop", *units.values())


def test_an_upgrade_and_the_way_back(service: Booted) -> None:
    """The bridge that runs keeps its release until a restart, though `current` has moved; the line
    that ops/install prints leads back."""
    before = release_of(service)
    module = service.path("/house/bridge/__init__.py")
    module.write_text(re.sub(r'(VERSION.*)".*"', r'\1"99.0.0"', module.read_text()))

    done = service.call("env", f"PYTHON={PYTHON}", "/house/ops/install")

    assert (done.returncode, done.stderr.count("failed")) == (0, 0)
    assert release_of(service) == before
    site = service.call(
        "sh",
        "-c",
        f"cp {OPT}/releases/{before}/.venv/lib/python3*/site-packages/"
        f"site.pth {OPT}/current/.venv/lib/python3*/site-packages",
    )
    assert site.returncode == 0, site.stderr
    assert service.call("systemctl", "restart", UNIT).returncode == 0, service.said
    assert release_of(service).startswith("99.0.0-")
    [back] = re.findall(r"^back to the release before: (ln .*), and restart$", done.stdout, re.M)
    assert service.call("sh", "-c", back).returncode == 0
    assert service.call("systemctl", "restart", UNIT).returncode == 0, service.said
    assert release_of(service) == before


def test_a_restart_is_wanted(machine: Booted) -> None:
    """75 is started again; and a strategy of the operator's own is found where it belongs."""
    machine.path("/opt/nautilus-redis-bridge/own/quits.py").write_text(QUITS)
    settings = machine.path(SETTINGS)
    text = settings.read_text()
    settings.write_text(text.replace("[source]\n", '[source]\nstrategy = "quits:Quits"\n'))
    try:
        machine.call("systemctl", "restart", "--no-block", UNIT)
        eventually(
            lambda: machine.shown(UNIT, "NRestarts") not in ("", "0"),
            "a restart",
            seconds_max=SECONDS_MAX,
        )
    finally:
        settings.write_text(text)
    assert "the Nautilus node stopped by itself" in machine.said
    machine.call("systemctl", "stop", UNIT)


def test_uninstall(machine: Booted) -> None:
    """The bridge is stopped and disabled, unit and programs are gone; settings and data stay."""
    assert machine.call("systemctl", "enable", "--now", UNIT).returncode == 0
    wanted = machine.path(f"/etc/systemd/system/multi-user.target.wants/{UNIT}.service")
    assert wanted.is_symlink()

    done = machine.call("/house/ops/uninstall")

    assert (done.returncode, done.stderr) == (0, "")
    assert machine.shown(UNIT, "ActiveState") == "inactive"
    assert not wanted.is_symlink()
    # The strategy of another test stays.
    assert {path.name for path in machine.path("/opt").glob("nautilus-redis-bridge/*")} <= {"own"}
    assert machine.path(SETTINGS).exists()
    assert machine.path(f"{STATE}/ledger.db").exists()
