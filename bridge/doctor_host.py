"""What `python -m bridge doctor` reads of the machine, and concludes of it: settings, disk, the
systemd unit, the configurations of Nautilus nodes in the environment."""

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge import endpoints
from bridge.core.contract import Names
from bridge.doctor import Finding, Level, size
from bridge.doctor_nautilus import NodeConfig, section
from bridge.settings import Config
from bridge.target import Target

PASSWORD: Final = re.compile(r"://[^/\s]*:[^/\s]+@")
UNIT: Final = "nautilus-bridge@{role}.service"
PROPERTIES: Final = (
    "LoadState", "ActiveState", "UnitFileState", "Result", "ExecMainStatus", "NRestarts",
    "NeedDaemonReload", "Restart", "RestartPreventExitStatus", "WatchdogUSec",
)  # fmt: skip
SYSTEMD: Final = Path("/run/systemd/system")
SYSTEMCTL_SECONDS_MAX: Final = 5.0
# What a restart would only make worse: see the README, "Exit codes".
PREVENTED: Final = ("65", "74", "76", "77", "78")
MOUNTS: Final = Path("/proc/self/mounts")
VOLATILE: Final = ("tmpfs", "ramfs")
FREE_BYTES_MIN: Final = 1 << 30
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
REDIS_PORT: Final = 6379


def settings(config: Config, path: Path | None, names: Names) -> Iterator[Finding]:
    """Yield what is found of settings that can be used, from the file at `path` and beside it."""
    role = f"role {config.role}, prefix '{names.prefix}', producer {config.producer_id}"
    yield Finding(Level.OK, "config", f"{role}, from {path or 'the environment and defaults'}")
    if path is not None and _tells_all_a_password(path):
        what = f"{path} can be read by every user, and seems to hold a password"
        yield Finding(Level.WARN, "config", what, f"chmod 640 {path}")
    if config.journal.fsync == "never":
        what = "journal.fsync is never: a power cut costs the entries of the last half minute"
        yield Finding(Level.WARN, "config", what, "set it to group")


def _tells_all_a_password(path: Path) -> bool:
    is_readable = path.stat().st_mode & stat.S_IROTH
    return bool(is_readable and PASSWORD.search(path.read_text(errors="replace")))


@dataclass(frozen=True, slots=True)
class Folder:
    """What is known of where a setting puts its files. `path` is None where it is not set.

    `free_bytes` is None where this user may not look; `used_bytes` is what its files take.
    """

    name: str
    path: Path | None
    free_bytes: int | None = None
    used_bytes: int = 0
    filesystem: str = ""
    is_writable: bool = True


def folders(config: Config) -> Iterator[Folder]:
    """Yield where journal, ledger and archive are."""
    ledger = config.ledger_path
    places = {
        "journal.directory": config.journal_directory,
        "ledger.path": None if ledger is None else ledger.parent,
        "archive.directory": config.archive_directory,
    }
    for name, path in places.items():
        yield look(name, path)


def look(name: str, path: Path | None) -> Folder:
    """Return what is known of a folder; of one that is still to be made, of the one above it."""
    if path is None:
        return Folder(name, path)
    try:
        there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        used = sum([each.stat().st_size for each in path.iterdir()]) if there == path else 0
        free = shutil.disk_usage(there).free
    except OSError:
        return Folder(name, path, is_writable=False)
    return Folder(name, path, free, used, _filesystem(there), os.access(there, os.W_OK))


def _filesystem(path: Path) -> str:
    """Return the kind of file system that a path is on, empty where that is not known."""
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:  # no Linux
        return ""
    real = path.resolve()
    found = [(mount, kind) for _, mount, kind, *_ in mounts if real.is_relative_to(mount)]
    return max(found, key=lambda each: len(each[0]), default=("", ""))[1]


def disk(config: Config, found: Iterator[Folder]) -> Iterator[Finding]:
    """Yield what is found of the disks that the bridge writes to."""
    for folder in found:
        if folder.name == "journal.directory":
            yield _journal(config, folder)
        elif folder.path is not None:
            yield room(folder)


def _journal(config: Config, folder: Folder) -> Finding:
    name, is_demo = folder.name, config.role == "demo"
    if folder.path is None:
        what = "not set: the journal is temporary, and gone at the end"
        if is_demo:
            return Finding(Level.OK, name, f"{what}; enough for a demo")
        return Finding(Level.LOSE, name, what, "set state.directory")
    if folder.filesystem in VOLATILE and not is_demo:
        what = (
            f"{folder.path} is in memory ({folder.filesystem}): a restart of the machine empties it"
        )
        return Finding(Level.LOSE, name, what, "set state.directory to a folder on a disk")
    if folder.free_bytes is not None:
        wanted = max(0, config.journal.bytes_max - folder.used_bytes)
        what = f"{folder.path}: {size(folder.free_bytes)} free; the journal may take {size(wanted)}"
        numbers = {"free_bytes": folder.free_bytes, "wanted_bytes": wanted}
        remedy = "make room, or lower journal.bytes_max: a disk that is full ends it (exit 74)"
        if folder.free_bytes < 2 * config.journal.segment_bytes:
            ends = f"{what}: that is not two segments"
            return Finding(Level.LOSE, name, ends, remedy, numbers)
        if folder.free_bytes < wanted:
            return Finding(Level.WARN, name, what, remedy, numbers)
    return room(folder)


def room(folder: Folder) -> Finding:
    """Judge the room that a folder has."""
    if folder.free_bytes is None or not folder.is_writable:
        what = f"{folder.path}: this user may not write there"
        remedy = "run doctor as the user that the bridge runs as; chown it where that is the same"
        return Finding(Level.UNKNOWN, folder.name, what, remedy)
    what = f"{folder.path}: {size(folder.free_bytes)} free"
    numbers = {"free_bytes": folder.free_bytes}
    if folder.free_bytes < FREE_BYTES_MIN:
        return Finding(Level.WARN, folder.name, what, "make room", numbers)
    return Finding(Level.OK, folder.name, what, numbers=numbers)


def redis_disk(url: str, directory: str, used_bytes: int) -> Finding | None:
    """Judge the disk of a Redis on this machine, which keeps its memory in `directory`."""
    target = endpoints.parse(url).locate_now()
    is_here = target.path is not None or target.host in LOOPBACK
    if not (directory and is_here and Path(directory).is_dir()):
        return None
    folder = look("disk of Redis", Path(directory))
    if folder.free_bytes is not None and folder.free_bytes < 2 * used_bytes:
        what = f"{directory}: {size(folder.free_bytes)} free, for {size(used_bytes)} in memory"
        numbers = {"free_bytes": folder.free_bytes, "used_bytes": used_bytes}
        return Finding(
            Level.WARN, folder.name, what, "make room: a rewrite takes it twice", numbers
        )
    return room(folder) if folder.is_writable else None


def unit_properties(role: str) -> dict[str, str] | None:
    """Return what systemd knows of the bridge's unit; None where there is no systemd."""
    if not SYSTEMD.is_dir():
        return None
    words = ["systemctl", "show", UNIT.format(role=role), f"--property={','.join(PROPERTIES)}"]
    try:
        said = subprocess.run(
            words, capture_output=True, text=True, timeout=SYSTEMCTL_SECONDS_MAX, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return {name: value for name, _, value in [line.partition("=") for line in said.splitlines()]}


def unit(role: str, properties: Mapping[str, str] | None) -> Iterator[Finding]:
    """Yield what is found of the bridge's unit: how it ended, and what it does on an exit."""
    name = UNIT.format(role=role)
    if properties is None:
        yield Finding(Level.OK, "unit", "no systemd here")
        return
    if properties.get("LoadState") != "loaded":
        yield Finding(Level.OK, "unit", f"{name} is not installed (ops/install)")
        return
    change = f"systemctl edit {name}:"
    if properties.get("NeedDaemonReload") == "yes":
        yield Finding(Level.WARN, "unit", f"{name} has changed", "systemctl daemon-reload")
    prevented = properties.get("RestartPreventExitStatus", "").split()
    if missing := [code for code in PREVENTED if code not in prevented]:
        what = f"it is started again behind exit {' '.join(missing)}, which only makes it worse"
        remedy = f"{change} RestartPreventExitStatus={' '.join(PREVENTED)}"
        yield Finding(Level.WARN, "unit", what, remedy)
    if properties.get("Restart", "no") == "no":
        what = "nothing restarts it behind a crash"
        yield Finding(Level.WARN, "unit", what, f"{change} Restart=on-failure")
    if (state := properties.get("UnitFileState")) != "enabled":
        what = f"{name} is {state or 'not enabled'}: it does not start when the machine does"
        yield Finding(Level.WARN, "unit", what, f"systemctl enable {name}")
    # Of one that does not run systemd says infinity, whatever the unit has.
    is_down = properties.get("ActiveState") in ("inactive", "failed")
    if not is_down and properties.get("WatchdogUSec", "0") in ("0", "infinity"):
        what = "no watchdog: a hang is not noticed"
        yield Finding(Level.WARN, "unit", what, f"{change} WatchdogSec=10")
    yield _last_end(name, properties)


def _last_end(name: str, properties: Mapping[str, str]) -> Finding:
    state, count = properties.get("ActiveState"), properties.get("NRestarts", "0")
    log = f"journalctl -u {name}"
    if state == "failed":
        code, result = properties.get("ExecMainStatus"), properties.get("Result")
        what = f"{name} has failed: {result}, exit {code}"
        return Finding(Level.WARN, "unit", what, f"ops/RUNBOOK.md, Exit {code}; {log}")
    what, numbers = f"{name} is {state}, restarts: {count}", {"restarts": int(count)}
    if count == "0":
        return Finding(Level.OK, "unit", what, numbers=numbers)
    return Finding(Level.WARN, "unit", what, log, numbers)


def node_configs(environ: Mapping[str, str], url: str) -> list[NodeConfig]:
    """Return the configurations of Nautilus nodes that stand in the environment as JSON.

    `url` is the Redis that is judged.
    """
    found = []
    for name, text in environ.items():
        if not text.lstrip().startswith("{"):
            continue
        try:
            config = json.loads(text)
        except ValueError:
            continue
        if "cache" in config or "message_bus" in config:
            found.append(NodeConfig(f"environment variable {name}", config, _is_here(config, url)))
    return found


def _is_here(config: Mapping[str, object], url: str) -> bool:
    """Return whether a node's cache is in the Redis at `url`."""
    target = endpoints.parse(url).locate_now()
    database = section(section(config, "cache"), "database")
    if not database:
        return False  # it is kept in memory
    where = (database.get("host") or LOOPBACK[0], database.get("port") or REDIS_PORT)
    return is_same(target, Target(*where))


def is_same(one: Target, other: Target) -> bool:
    """Return whether two addresses are of one server, as far as that can be told from them."""
    if one.path is not None or other.path is not None:
        return one.path == other.path
    hosts = [LOOPBACK[0] if each.host in LOOPBACK else each.host for each in (one, other)]
    return hosts[0] == hosts[1] and one.port == other.port
