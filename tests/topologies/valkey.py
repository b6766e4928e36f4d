"""A Valkey in Redis's place, where there is one: on PATH, or what ops/redis/find-valkey unpacks."""

import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bridge.processes import ROOT
from tests.chaos.servers import EVERYSEC, ChaosServer

FIND: Final = ROOT / "ops" / "redis" / "find-valkey"
UNPACK_SECONDS_MAX: Final = 60


def valkey_or_skip() -> Path:
    """Return the path of a valkey-server. Skips the test, and says why."""
    try:
        done = subprocess.run(
            [FIND], capture_output=True, text=True, timeout=UNPACK_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"ops/redis/find-valkey had none within {UNPACK_SECONDS_MAX} s")
    if done.returncode != 0:
        pytest.skip(done.stderr)
    return Path(done.stdout.strip())


def with_valkey(folder: Path) -> ChaosServer:
    """A Valkey. Skips the test where there is none."""
    return Valkey(valkey_or_skip(), folder, *EVERYSEC)


class Valkey(ChaosServer):
    """What answers is checked to be one."""

    def start(self, **how: Any) -> None:
        """As any server."""
        super().start(**how)
        assert self.client.info("server")["server_name"] == "valkey"
