"""The script for shadow and live as a child process, and what its tests share."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bridge.processes import ROOT, Daemon, Ended, environment

SCRIPT = ROOT / "integrations" / "nautilus" / "run_shadow_live.py"
# The example in a hurry: `mine:Quick`.
MINE = """
from strategies.example import Example, ExampleConfig

class QuickConfig(ExampleConfig, frozen=True):
    interval_seconds: float = 0.1

class Quick(Example):
    pass
"""


class Script(Daemon):
    """The script, started from `/` unless `cwd` says otherwise."""

    def __init__(self, folder: Path, *words: str, cwd: Path = Path("/"), **settings: str) -> None:
        settings = {"status__port": "0", "node__stop_timeout_seconds": "0.1"} | settings
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, str(SCRIPT), *words],
                cwd=cwd,
                env=environment(settings),
                stdout=out,
                stderr=err,
            )


type Start = Callable[..., Script]
type Call = Callable[..., Ended]


def refused(ended: Ended) -> Ended:
    """Check that it says what is wrong in one line, and nothing else."""
    assert "Traceback" not in ended.err
    assert len(ended.complaint.splitlines()) == 1, ended.err
    return ended
