"""The lines of the README's section on control, typed as they stand at a running demo."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.core.control import SHADOW_FLAG
from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import ROOT, Daemon, environment
from tests.servers import RedisServer, server_or_exit

SECTION = (ROOT / "README.md").read_text().partition("## Control\n")[2]
TYPED, COMMANDS = [
    [line.partition(" #")[0].strip() for line in block.splitlines()]
    for block in re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)[:2]
]
STATES = ("DISABLED", "ACTIVE", "HALTED", "HALTED", "ACTIVE", "REDUCING", "REDUCING")
ANSWERS = ("ACTIVE", "demo is DISABLED: the flag is off", "demo is HALTED, seen", "is ended")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(server_or_exit(find_redis_server()), tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def running(
    server: RedisServer, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, replay__dataset=str(dataset), redis__url=server.url) as daemon:
        yield daemon.until_running()


@pytest.fixture
def daemon(running: Daemon, server: RedisServer) -> Daemon:
    """The daemon of the module, trading."""
    server.client.delete("mode", "risk:max_order_notional")
    server.client.set(SHADOW_FLAG, "1")
    running.until(lambda: state(server) == "ACTIVE", "trading")
    return running


def state(server: RedisServer) -> str:
    return server.client.hget("bridge:state:demo", "state") or ""


def test_redis_cli(daemon: Daemon, server: RedisServer) -> None:
    """Each line has its effect; a limit that is set holds for the next order."""
    cli = server_or_exit(find_redis_server()).with_name("redis-cli")
    for line, expected in zip(TYPED, STATES, strict=True):
        typed = line.replace("redis-cli", f"{cli} -p {server.port}", 1)
        subprocess.run(["sh", "-c", typed], check=True, capture_output=True, timeout=10)
        daemon.until(lambda expected=expected: state(server) == expected, f"{expected}: {line}")
    server.client.mset({"mode": "normal", "risk:max_order_notional": "1"})
    orders = "demo:exec:orders"

    def reasons() -> set[str]:
        return {fields["reason"] for _, fields in server.client.xrevrange(orders, count=20)}

    daemon.until(
        lambda: any(reason.startswith("max_order_notional: ") for reason in reasons()), "a refusal"
    )


def test_commands(daemon: Daemon, server: RedisServer) -> None:
    """Each command says what the bridge has done, and ends with 0."""
    ours = environment({"redis__url": server.url})
    for line, answer in zip(COMMANDS, ANSWERS, strict=True):
        done = subprocess.run(
            ["sh", "-c", line], cwd=ROOT, env=ours, capture_output=True, text=True, timeout=20
        )
        assert (done.returncode, done.stderr) == (0, ""), line
        assert answer in done.stdout
    server.client.set(SHADOW_FLAG, "1")
    daemon.until(lambda: daemon.state == "ok", "trading again")


def test_a_halt_outlives_the_process(
    make_redis: Callable[..., RedisServer], dataset: Path, tmp_path: Path
) -> None:
    """SIGKILL behind a halt, `mode` deleted: the next process starts halted, and sends no order."""
    server = make_redis()
    given = {
        "replay__dataset": str(dataset),
        "redis__url": server.url,
        "state__directory": str(tmp_path / "state"),
    }
    with Daemon(tmp_path, **given) as first:
        first.until_running()
        server.client.set("mode", "halt")
        first.until(lambda: state(server) == "HALTED", "the halt")
    server.client.delete("mode", "bridge:state:demo")
    sent = server.client.xlen("demo:exec:orders")
    with Daemon(tmp_path, **given) as second:
        second.until_running()
        second.until(lambda: state(server) == "HALTED", "the halt again")
        second.until(lambda: server.client.xlen("demo:exec:orders") > sent + 3, "orders")
        new = server.client.xrange("demo:exec:orders")[sent:]
        assert {fields["status"] for _, fields in new} <= {"initialized", "denied", "canceled"}
