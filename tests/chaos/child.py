"""A Python module of ours as a child process, until it is killed or told to end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.bridge.processes import ROOT, environment, eventually

SECONDS_MAX = 60.0


class Child:
    """`python -m module`. Use as a context manager; `settings` as `processes.environment` takes."""

    def __init__(self, module: str, folder: Path, **settings: str) -> None:
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=environment(settings),
                stdout=said,
                stderr=said,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """SIGKILL. AssertionError when it had ended by itself."""
        self._process.kill()
        code = self._process.wait(SECONDS_MAX)
        assert code == -signal.SIGKILL, f"it ended: {code}: {self.said}"

    def end(self) -> None:
        """SIGTERM; wait. AssertionError unless it ends well."""
        self._process.terminate()
        code = self._process.wait(SECONDS_MAX)
        assert code == os.EX_OK, f"exit code {code}: {self.said}"

    def until(self, probe: Callable[[], object], what: str) -> None:
        """Wait until `probe` is true. AssertionError when it takes too long or the process ends."""

        def alive_or_true() -> bool:
            met = bool(probe())
            assert met or self._process.poll() is None, f"{what}: it ended: {self.said}"
            return met

        eventually(alive_or_true, what, seconds_max=SECONDS_MAX)

    @property
    def said(self) -> str:
        """The end of what it printed."""
        return self._said.read_text(errors="replace")[-4000:]
