"""A redis-server with the users of ops/redis/bridge.acl."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.bridge.processes import ROOT
from tests.chaos.rig import PREFIX
from tests.chaos.servers import EVERYSEC, ChaosServer
from tests.topologies.plain import binary

FILE = ROOT / "ops" / "redis" / "bridge.acl"
PASSWORD = "secret"
USERS = ("bridge", "bridge-market", "bridge-reader", "bridge-operator", "bridge-backtest")


def with_users(folder: Path) -> ChaosServer:
    """A server whose bridge is the user of the file, for the prefix of the chaos runs."""
    return WithUsers(binary(), folder, *EVERYSEC, "--include", str(write(folder, PREFIX)))


def write(folder: Path, prefix: str = "shadow:") -> Path:
    """Write the file as an operator would change it: with passwords, and `prefix` for shadow:."""
    text = FILE.read_text().replace("shadow:", prefix).replace(" on ", f" on >{PASSWORD} ")
    path = folder / FILE.name
    path.write_text(text)
    return path


@contextlib.contextmanager
def started(folder: Path) -> Iterator["WithUsers"]:
    """Yield a server with the users of the file, for the prefixes of the roles."""
    made = WithUsers(binary(), folder, "--appendonly", "yes", "--include", str(write(folder)))
    try:
        made.start()
        yield made
    finally:
        made.close()


class WithUsers(ChaosServer):
    """Its URL is that of the user `bridge`; the clients of the tests may do everything."""

    @property
    def url(self) -> str:
        return self.url_of("bridge")

    def url_of(self, user: str) -> str:
        """Return the URL of one of the users."""
        return f"redis://{user}:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def admin_url(self) -> str:
        """The URL of who may do everything."""
        return f"redis://127.0.0.1:{self.port}/0"

    def denials(self) -> list[dict[str, Any]]:
        """Return what was denied since `forget_denials`; ours alone, and no SETINFO of redis-py."""
        found: Any = self.client.execute_command("ACL", "LOG", "100")
        told = [each for each in map(_as_dict, found) if each["username"] in USERS]
        return [each for each in told if each["object"] != "client|setinfo"]

    def forget_denials(self) -> None:
        """Begin with an empty log of them."""
        self.client.execute_command("ACL", "LOG", "RESET")


def _as_dict(said: Any) -> dict[str, Any]:
    if isinstance(said, dict):
        return said
    return dict(zip(said[::2], said[1::2], strict=True))


def may(client: redis.Redis, user: str, *words: str) -> bool:
    """Return whether a user may run a command. AssertionError when the command is none."""
    said = str(client.execute_command("ACL", "DRYRUN", user, *words))
    assert said == "OK" or "permission" in said, f"{words}: {said}"
    return said == "OK"
