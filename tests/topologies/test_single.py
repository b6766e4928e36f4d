"""One server as people run it, in each way: nothing is lost, and a halt still is one."""

import secrets
from pathlib import Path

import pytest

from tests.topologies.acl import with_users
from tests.topologies.plain import (
    Make,
    on_a_socket,
    strike,
    with_a_database,
    with_password,
)
from tests.topologies.tls import with_tls
from tests.topologies.valkey import with_valkey

SECONDS_MAX = 180
# Of `set mode halt` to closed gates; `make bench` measures it, where nothing else runs.
HALT_SECONDS_MAX = 0.25


@pytest.mark.slow
@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize(
    "make", [with_password, on_a_socket, with_a_database, with_users, with_tls, with_valkey]
)
def test_nothing_is_lost(make: Make, tmp_path: Path) -> None:
    """The server is killed under the daemon, then the daemon is; it is halted five times."""
    seed = secrets.randbelow(1 << 32)

    struck = strike(make, tmp_path, seed=seed)

    said = f"seed {seed}: {struck}"
    assert struck.verdict.is_clean, said
    assert struck.verdict.events > 100, said
    assert struck.halt_seconds < HALT_SECONDS_MAX, said
    assert struck.refusals == 0, said
