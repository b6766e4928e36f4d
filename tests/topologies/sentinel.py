"""Redis with Sentinel on this machine: a primary, two replicas, and three that watch them."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import redis

from bridge.embedded_redis import HOST, find_redis_server, spawn
from tests.chaos.servers import ChaosServer
from tests.servers import RedisServer, server_or_exit

SERVICE: Final = "bridge-primary"
PASSWORD: Final = "of@redis"
SENTINEL_PASSWORD: Final = "of/sentinel"
SECONDS_MAX: Final = 40.0
POLL_SECONDS: Final = 0.02
# Sentinel's own defaults are thirty seconds and three minutes. A replica that had no primary for
# ten times the first is not promoted.
DOWN_AFTER_MS: Final = 1_000
FAILOVER_TIMEOUT_MS: Final = 2_000
# Milliseconds, too. Five of the first have to be more than a second, or no replica is good enough;
# a former primary is told to be a replica after four of the last.
HASTE: Final = ("PING-PERIOD", "300", "INFO-PERIOD", "200", "PUBLISH-PERIOD", "1000")


class WatchedServer(ChaosServer):
    """One of the three that hold data. `replicates` is the port of its primary."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir()
        super().__init__(
            server_or_exit(find_redis_server()),
            folder,
            *("--requirepass", PASSWORD, "--masterauth", PASSWORD),
            *("--repl-diskless-sync-delay", "0", "--repl-backlog-size", "16mb"),
            *options,
        )

    def start(self, *, until_loaded: bool = True) -> None:
        """As of any server. One that wants a password does not say that it loads."""
        super().start(until_loaded=until_loaded)
        deadline = time.monotonic() + SECONDS_MAX
        while until_loaded:
            try:
                self.client.ping()
                return
            except redis.exceptions.BusyLoadingError:
                assert time.monotonic() < deadline, "it loads for ever"
                time.sleep(POLL_SECONDS)

    @property
    def is_primary(self) -> bool:
        """Whether it answers, and says that it is one."""
        return bool(self._role[:1] == ["master"])

    def is_replica_of(self, primary: RedisServer) -> bool:
        """Return whether it has all that this primary had a moment ago."""
        return bool(self._role[:4] == ["slave", HOST, primary.port, "connected"])

    def follow(self, primary: RedisServer) -> None:
        """Have it replicate another one from now on."""
        self.client.replicaof(HOST, primary.port)

    @property
    def _role(self) -> list[Any]:
        with contextlib.suppress(redis.RedisError):
            return list(self.client.role())
        return []


class SentinelServer(RedisServer):
    """One that watches. It writes down in its own file what it has learned."""

    def __init__(self, folder: Path, primary: RedisServer, quorum: int, password: str) -> None:
        folder.mkdir()
        file = folder / "sentinel.conf"
        lines = [
            f"sentinel monitor {SERVICE} {HOST} {primary.port} {quorum}",
            f"sentinel auth-pass {SERVICE} {PASSWORD}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MS}",
        ]
        if password:
            lines += [f"requirepass {password}", f"sentinel sentinel-pass {password}"]
        file.write_text("\n".join(lines) + "\n")
        super().__init__(server_or_exit(find_redis_server()), folder)
        self.password = password or None
        self._file = file

    def ask(self, *words: str) -> Any:
        """Return what it answers to SENTINEL and these words: text, and dicts of text."""
        return self.client.execute_command("SENTINEL", *words)

    def start(self, *, until_loaded: bool = True) -> None:
        """As of any server; it looks after the others more often than is usual."""
        super().start(until_loaded=until_loaded)
        with contextlib.suppress(redis.ResponseError):  # before 7.0 there is no haste
            self.ask("DEBUG", *HASTE)

    @property
    def primary_port(self) -> int | None:
        """The port that it names; None when it does not answer."""
        with contextlib.suppress(redis.RedisError):
            return int(self.ask("GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return None

    def knows(self, servers: Sequence[RedisServer], sentinels: int) -> bool:
        """Return whether it sees these servers, the first one as primary, and so many others."""
        with contextlib.suppress(redis.RedisError):
            primary, *replicas = servers
            told = self.ask("MASTER", SERVICE)
            links = self.ask("REPLICAS", SERVICE)
            return (
                told["port"] == str(primary.port)
                and told["flags"] == "master"
                and told["num-other-sentinels"] == str(sentinels - 1)
                and {each["port"] for each in links} == {str(each.port) for each in replicas}
                and all(each["flags"] == "slave" for each in links)
                and all(each["master-link-status"] == "ok" for each in links)
            )
        return False

    def _spawn(self) -> None:
        self._output.unlink(missing_ok=True)
        options = ["--port", str(self.port), "--bind", HOST, "--dir", str(self.folder)]
        binary = server_or_exit(find_redis_server())
        self._process = spawn(binary, [str(self._file), "--sentinel", *options], self._output)


class SentinelServers:
    """Primary, replicas and Sentinels; `options` are those of the servers that hold data.

    Use as a context manager, or `start` and `close`: a chaos run has it in its server's place.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        replicas: int = 2,
        sentinels: int = 3,
        sentinel_password: str = SENTINEL_PASSWORD,
    ) -> None:
        self.servers = [
            WatchedServer(folder / f"redis-{number}", *options) for number in range(1 + replicas)
        ]
        self.sentinels: list[SentinelServer] = []
        self._folder = folder
        self._count = sentinels
        self._password = sentinel_password
        self._last = self.servers[0]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start everything; wait until each knows all others."""
        first, *others = self.servers
        for server in self.servers:
            server.start()
        for server in others:
            server.follow(first)
        quorum = self._count // 2 + 1
        for number in range(self._count):
            folder = self._folder / f"sentinel-{number}"
            self.sentinels.append(SentinelServer(folder, first, quorum, self._password))
            self.sentinels[-1].start()
        self.until_whole()

    def close(self) -> None:
        """End all of them; repeating is harmless."""
        for server in (*self.sentinels, *self.servers):
            server.close()

    @property
    def url(self) -> str:
        """Of the primary, by its Sentinels."""
        hosts = ",".join([f"{HOST}:{each.port}" for each in self.sentinels])
        secret = f"?sentinel_password={quote(self._password, '')}" if self._password else ""
        return f"redis+sentinel://:{quote(PASSWORD, '')}@{hosts}/{SERVICE}{secret}"

    @property
    def primary(self) -> WatchedServer:
        """The one that the Sentinels name, or named last."""
        named = [each.primary_port for each in self.sentinels]
        found = [each for each in self.servers if each.port in named]
        self._last = found[0] if found else self._last
        return self._last

    @property
    def replicas(self) -> list[WatchedServer]:
        """All others."""
        primary = self.primary
        return [each for each in self.servers if each is not primary]

    @property
    def client(self) -> redis.Redis:
        """A client of the primary of this moment, which answers with text."""
        return self.primary.client

    # What happens to it.

    def fail_over(self) -> None:
        """Have another one made primary, as an operator does; wait until it is."""
        old = self.primary

        def is_begun() -> bool:
            try:
                self.sentinels[0].ask("FAILOVER", SERVICE)
            except redis.ResponseError as error:  # INPROG; NOGOODSLAVE until it has looked again
                assert str(error).startswith(("INPROG", "NOGOODSLAVE")), error
                return False
            return True

        self._until(is_begun, "a failover begins")
        self.until_replaced(old)

    def until_replaced(self, old: RedisServer) -> None:
        """Wait until the Sentinels name another one, and that one says that it is primary."""

        def is_replaced() -> bool:
            named = {each.primary_port for each in self.sentinels if each.is_running}
            new = [each for each in self.servers if each.port in named and each is not old]
            return len(named) == 1 and len(new) == 1 and new[0].is_primary

        self._until(is_replaced, f"{old.port} is replaced")

    def until_whole(self) -> None:
        """Wait until both replicas have what the primary has, and every Sentinel sees that."""

        def is_whole() -> bool:
            primary, replicas = self.primary, self.replicas
            return (
                primary.is_primary
                and all(each.is_replica_of(primary) for each in replicas)
                and all(each.knows((primary, *replicas), self._count) for each in self.sentinels)
            )

        self._until(is_whole, "every one is up, and known")

    def mend(self) -> None:
        """Start whoever does not run, with each but the primary as its replica."""
        for sentinel in self.sentinels:
            if not sentinel.is_running:
                sentinel.start()
        primary = self.primary
        for server in self.servers:
            if not server.is_running:
                server.start()
            if server is not primary and not server.is_replica_of(primary):
                server.follow(primary)

    def start_as_replica(self, server: WatchedServer) -> None:
        """Start one that was killed, as a replica from the first moment."""
        server.start()
        server.follow(self.primary)

    def part(self) -> None:
        """Cut the replicas off their primary: what it is told from now on is told to it alone."""
        primary = self.primary
        for server in self.replicas:
            server.client.config_set("masterauth", "another")
        primary.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        self._until(
            lambda: not any(each.is_replica_of(primary) for each in self.replicas), "they are alone"
        )

    def join(self) -> None:
        """Let the replicas in again, whoever is the primary by now."""
        for server in self.servers:
            with contextlib.suppress(redis.ConnectionError):
                server.client.config_set("masterauth", PASSWORD)

    def _until(self, probe: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while not probe():
            assert time.monotonic() < deadline, f"not within {SECONDS_MAX:.0f} s: {what}"
            time.sleep(POLL_SECONDS)
