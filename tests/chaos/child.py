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
    """`python -m module`, with words behind it. Use as a context manager.

    `settings` as `processes.environment` takes them.
    """

    def __init__(self, module: str, folder: Path, *words: str, **settings: str) -> None:
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
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

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL. AssertionError when it had ended by itself."""
        self._process.kill()
        code = self._process.wait(SECONDS_MAX)
        assert code == -signal.SIGKILL, f"it ended: {code}: {self.said}"

    def end(self) -> None:
        """SIGTERM; wait. AssertionError unless it ends well."""
        self._process.terminate()
        self.ends_with(os.EX_OK)

    def ends_with(self, code: int) -> None:
        """Wait for its end. AssertionError unless that is its exit code."""
        found = self._process.wait(SECONDS_MAX)
        assert found == code, f"exit code {found}: {self.said}"

    def until(self, probe: Callable[[], object], what: str) -> None:
        """Wait until `probe` is true. AssertionError when it takes too long or the process ends."""

        def alive_or_true() -> bool:
            has_ended = self._process.poll() is not None  # first: its last words may be the answer
            met = bool(probe())
            assert met or not has_ended, f"{what}: it ended: {self.said}"
            return met

        eventually(alive_or_true, what, seconds_max=SECONDS_MAX)

    @property
    def said(self) -> str:
        """The end of what it printed."""
        return self._said.read_text(errors="replace")[-4000:]
