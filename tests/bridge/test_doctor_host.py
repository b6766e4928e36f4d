"""What doctor reads of the machine and concludes of it: settings, disks, unit, environment."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bridge import doctor_host
from bridge.core.contract import default_names
from bridge.doctor import Finding, Level
from bridge.doctor_host import PREVENTED, Folder
from bridge.settings import Config
from tests.bridge.doctors import given

OK, WARN, LOSE, UNKNOWN = Level.OK, Level.WARN, Level.LOSE, Level.UNKNOWN
NODE = {"cache": {"database": {"host": "localhost"}, "flush_on_start": True}}


def disk(settings: Config, folder: Folder) -> Finding:
    [found] = doctor_host.disk(settings, iter([folder]))
    return found


JOURNAL = Folder("journal.directory", Path("/j"), 1 << 40, 0, "ext4")
SHADOW = {"role": "shadow", "redis__url": "redis://127.0.0.1"}


@pytest.mark.parametrize(
    ("folder", "settings", "level", "text"),
    [
        (JOURNAL, {}, OK, "free"),
        (replace(JOURNAL, path=None), {}, OK, "enough for a demo"),
        (replace(JOURNAL, path=None), SHADOW, LOSE, "gone at the end"),
        (replace(JOURNAL, filesystem="tmpfs"), SHADOW, LOSE, "in memory (tmpfs)"),
        (replace(JOURNAL, filesystem="tmpfs"), {}, OK, "free"),
        (replace(JOURNAL, free_bytes=(1 << 25) - 1), {}, LOSE, "not two segments"),
        (replace(JOURNAL, free_bytes=1 << 31), {}, WARN, "the journal may take 4.0 GiB"),
        (replace(JOURNAL, free_bytes=1 << 31, used_bytes=1 << 31), {}, OK, "free"),
        (replace(JOURNAL, free_bytes=None), {}, UNKNOWN, "may not write"),
        (replace(JOURNAL, is_writable=False), {}, UNKNOWN, "may not write"),
        (replace(JOURNAL, name="archive.directory", free_bytes=1 << 29), {}, WARN, "free"),
    ],
)
def test_disks(folder: Folder, settings: dict[str, str], level: Level, text: str) -> None:
    """The journal needs room up to its bound, on a disk; without one execution entries are lost."""
    found = disk(given(**settings), folder)

    assert found.level is level
    assert text in found.what


def test_a_real_folder(tmp_path: Path) -> None:
    """What is there is measured; what is still to be made is measured by the folder above it."""
    (tmp_path / "0.seg").write_bytes(b"x" * 1000)

    found = doctor_host.look("journal.directory", tmp_path)
    absent = doctor_host.look("journal.directory", tmp_path / "a" / "b")

    assert found.used_bytes == 1000
    assert absent.used_bytes == 0
    for each in (found, absent):
        assert each.free_bytes is not None and each.free_bytes > 0
        assert each.is_writable
        kind = ["stat", "--file-system", "--format=%T", str(tmp_path)]
        said = subprocess.run(kind, capture_output=True, text=True, check=True).stdout.strip()
        assert each.filesystem.rstrip("1234") in said or "overlay" in said


def test_a_file_system_below_another() -> None:
    """The file system is that of the innermost mount."""
    assert doctor_host.look("", Path("/proc/self")).filesystem == "proc"


def test_the_disk_of_redis(tmp_path: Path) -> None:
    """The disk of a Redis on this machine needs room for its memory, twice; another is unknown."""
    free = doctor_host.look("", tmp_path).free_bytes
    assert free is not None
    here, away = "redis://localhost:6379/0", "redis://elsewhere:6379/0"

    assert doctor_host.redis_disk(away, str(tmp_path), free) is None
    assert doctor_host.redis_disk(here, str(tmp_path / "none"), free) is None
    found = doctor_host.redis_disk(here, str(tmp_path), free)
    assert found is not None and found.level is WARN


UNIT = {
    "LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled",
    "Result": "success", "ExecMainStatus": "0", "NRestarts": "0", "NeedDaemonReload": "no",
    "Restart": "on-failure", "WatchdogUSec": "10s",
    "RestartPreventExitStatus": " ".join(PREVENTED),
}  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "levels", "text"),
    [
        (None, [OK], "no systemd here"),
        ({"LoadState": "not-found"}, [OK], "not installed"),
        (UNIT, [OK], "is active, restarts: 0"),
        (UNIT | {"NRestarts": "3"}, [WARN], "restarts: 3"),
        (UNIT | {"NeedDaemonReload": "yes"}, [WARN, OK], "has changed"),
        (UNIT | {"RestartPreventExitStatus": "65 77 78"}, [WARN, OK], "behind exit 74 76, "),
        (UNIT | {"Restart": "no"}, [WARN, OK], "nothing restarts it behind a crash"),
        (UNIT | {"WatchdogUSec": "0"}, [WARN, OK], "no watchdog"),
        (UNIT | {"WatchdogUSec": "infinity"}, [WARN, OK], "no watchdog"),
        (UNIT | {"WatchdogUSec": "infinity", "ActiveState": "inactive"}, [OK], "is inactive"),
        (UNIT | {"UnitFileState": "disabled"}, [WARN, OK], "is disabled: it does not start when"),
        (
            UNIT | {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "74"},
            *([WARN], "has failed: exit-code, exit 74"),
        ),
    ],
)
def test_units(properties: dict[str, str] | None, levels: list[Level], text: str) -> None:
    """What systemd does on an exit, and how the last one went, is as design 5 wants it."""
    found = list(doctor_host.unit("shadow", properties))

    assert [each.level for each in found] == levels
    assert text in found[0].what
    assert all(bool(each.remedy) is (each.level is not OK) for each in found)


def test_a_unit_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where systemd runs, it is asked for the unit of the role; what cannot be asked is no unit."""
    tool = tmp_path / "systemctl"
    tool.write_text('#!/bin/sh\necho "Said=$1 $2"\necho LoadState=loaded\n')
    tool.chmod(0o755)
    monkeypatch.setattr(doctor_host, "SYSTEMD", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    said = {"Said": "show nautilus-bridge@live.service", "LoadState": "loaded"}
    assert doctor_host.unit_properties("live") == said

    tool.write_text("#!/bin/sh\nexit 1\n")
    assert doctor_host.unit_properties("live") is None
    monkeypatch.setattr(doctor_host, "SYSTEMD", tmp_path / "none")
    assert doctor_host.unit_properties("live") is None


def test_a_file_that_everybody_can_read(tmp_path: Path) -> None:
    """A password in a file that all may read is a warning; without a password all may."""
    file = tmp_path / "bridge.toml"
    levels = []
    for text, mode in (("redis://:pw@h", 0o644), ("redis://:pw@h", 0o640), ("redis://u@h", 0o644)):
        file.write_text(f'[redis]\nurl = "{text}"\n')
        file.chmod(mode)
        found = doctor_host.settings(given(), file, default_names())
        levels.append([each.level for each in found])

    assert levels == [[OK, WARN], [OK], [OK]]


def test_a_journal_that_is_never_synced() -> None:
    """journal.fsync = never is a warning."""
    found = doctor_host.settings(given(journal__fsync="never"), None, default_names())
    assert [each.level for each in found] == [OK, WARN]


def test_nodes_in_the_environment() -> None:
    """A node's configuration as JSON in a variable is found, and whose Redis it means."""
    other = json.dumps({"cache": {"database": {"host": "h", "port": 6379}}})
    environ = {"A": json.dumps(NODE), "B": other, "C": "{no json", "D": "[1]", "E": '{"x": 1}'}

    found = doctor_host.node_configs(environ, "redis://127.0.0.1:6379/0")

    origins = ["environment variable A", "environment variable B"]
    assert [(each.origin, each.is_here) for each in found] == list(
        zip(origins, [True, False], strict=True)
    )
    assert not doctor_host.node_configs(environ, "redis://127.0.0.1:6380/0")[0].is_here
