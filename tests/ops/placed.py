"""A tree to install from and a prefix to install to, for tests of ops/install and ops/uninstall."""

import os
import subprocess
import sys
from pathlib import Path

from tests.bridge.processes import ROOT
from tests.ops.booted import house

NAME = "nautilus-redis-bridge"
PYTHON = getattr(sys, "_base_executable", sys.executable)

type Done = subprocess.CompletedProcess[str]


class Place:
    """A tree to install from, and a prefix to install to."""

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.house = house(folder / "house", source)
        self.prefix = folder / "prefix"
        self.opt = self.prefix / "opt" / NAME
        self.etc = self.prefix / "etc" / NAME
        self.unit = self.prefix / "etc" / "systemd" / "system" / "nautilus-bridge@.service"

    def call(self, script: str, *words: str, **environ: str) -> Done:
        """Run a script of the tree with this prefix."""
        return subprocess.run(
            [self.house / "ops" / script, "--prefix", self.prefix, *words],
            env=os.environ | {"PYTHON": PYTHON} | environ,
            capture_output=True,
            text=True,
        )

    @property
    def files(self) -> dict[Path, tuple[int, int]]:
        """Every path below the prefix, with its inode and the time of its last change."""
        found = [(path, path.lstat()) for path in self.prefix.rglob("*")]
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found}
