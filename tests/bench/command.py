"""The row of `python -m bridge status`: how long somebody waits who asks how it stands."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bridge.controller import Keys
from bridge.core.control import State
from tests.bench.machine import Bench, Round
from tests.bench.reference import Reference
from tests.bridge.processes import ROOT, environment

SHOWN = ("reason", "mode", "latched", "pid", "done_ns")


def status(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the seconds of the command, from the process's start to its end, warm; in the detail
    what Python itself takes, and a PING."""
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        raw = Reference(server, [])
        stack.callback(raw.close)
        asked = ("-m", "bridge", "status", "--url", server.url)
        for number in range(rounds + 1):
            state = dict.fromkeys(SHOWN, "") | {"state": State.ACTIVE, "flag": "1"}
            state["heartbeat_ns"] = str(time.time_ns())
            server.client.hset(Keys.of("demo").state, mapping=state)
            seconds = _seconds(*asked)
            if number:  # the first one warms
                detail = {"python_s": _seconds("-c", ""), "ping_us": raw.ping_seconds() * 1e6}
                yield Round(seconds, detail)


def _seconds(*words: str) -> float:
    """Return how long Python takes for it. Raises CalledProcessError when it fails."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment({}), check=True, capture_output=True
    )
    return time.perf_counter() - start
