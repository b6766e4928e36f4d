"""ops/redis/bridge.acl gets into a server in each of the ways that it tells, and stays there."""

import contextlib
import re
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import redis

from tests.servers import RedisServer
from tests.topologies.acl import FILE, USERS
from tests.topologies.plain import binary


def shell(script: str, folder: Path) -> str:
    """Run what the file, or the README, tells to run."""
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def users_of(client: redis.Redis) -> dict[str, list[list[str]]]:
    """Return all users but Redis's own: their rights, and those of each selector, sorted."""
    users = {line.split()[1]: re.split("[()]", line) for line in client.acl_list()}
    del users["default"]
    return {name: [sorted(part.split()) for part in parts] for name, parts in users.items()}


def test_three_ways_into_a_server(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """As a part of its settings, into one that runs, and as an aclfile: the same users."""
    copy = tmp_path / "bridge.acl"
    copy.write_text(FILE.read_text())
    shell("grep '^user ' bridge.acl >> users.acl", tmp_path)
    running = make_redis()
    cli = binary().with_name("redis-cli")
    load = f"sed -n 's/^user /ACL SETUSER /p' bridge.acl | {cli} -p {running.port}"

    assert shell(load, tmp_path).split() == ["OK"] * len(USERS)

    included = make_redis("--include", str(copy))
    users = users_of(included.client)
    assert set(users) == set(USERS)
    assert users_of(running.client) == users
    assert users_of(make_redis("--aclfile", str(tmp_path / "users.acl")).client) == users


def test_a_newer_file(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """Into a server that runs it goes a second time: passwords stay, old rights do not."""
    running, other = make_redis(), make_redis("--include", str(FILE))
    cli = binary().with_name("redis-cli")
    running.client.execute_command(
        *("ACL", "SETUSER", "bridge", "on", ">x", "~*", "+get", "(~x +del)"),
    )

    shell(f"sed -n 's/^user /ACL SETUSER /p' {FILE} | {cli} -p {running.port}", tmp_path)

    assert running.new_client(username="bridge", password="x").ping()
    other.client.execute_command("ACL", "SETUSER", "bridge", ">x")
    assert users_of(running.client) == users_of(other.client)


@pytest.mark.parametrize(("kind", "save"), [("conf", "CONFIG REWRITE"), ("acl", "ACL SAVE")])
def test_users_outlive_the_server(tmp_path: Path, kind: str, save: str) -> None:
    """What the file tells to do for it is enough, in redis.conf and in an aclfile."""
    settings, runs = tmp_path / f"redis.{kind}", tmp_path / "redis-server"
    settings.write_text("")
    word = f"--aclfile {settings}" if kind == "acl" else ""
    runs.write_text(f'#!/bin/sh\nexec {binary()} {"" if word else settings} "$@" {word}\n')
    runs.chmod(0o755)
    with contextlib.closing(RedisServer(runs, tmp_path)) as made:
        made.start()
        cli = binary().with_name("redis-cli")
        shell(f"sed -n 's/^user /ACL SETUSER /p' {FILE} | {cli} -p {made.port}", tmp_path)
        made.client.execute_command("ACL", "SETUSER", "bridge", ">x")
        before = users_of(made.client)
        made.client.execute_command(*save.split())

        made.terminate()
        made.start()

        assert users_of(made.client) == before
        assert made.new_client(username="bridge", password="x").ping()


def test_passwords_in_the_file(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """As a hash, in a file that redis.conf includes."""
    digest = sha256(b"x").hexdigest()
    copy = tmp_path / "bridge.acl"
    copy.write_text(FILE.read_text().replace("user bridge on ", f"user bridge on #{digest} "))

    made = make_redis("--include", str(copy))

    assert made.new_client(username="bridge", password="x").ping()


@pytest.mark.parametrize("user", USERS)
def test_nobody_has_a_password(make_redis: Callable[..., RedisServer], user: str) -> None:
    """As it is shipped nobody can log in, with an empty password neither; then one is set."""
    made = make_redis("--include", str(FILE))
    for password in ("", "x"):
        with pytest.raises(redis.AuthenticationError):
            made.new_client(username=user, password=password).ping()

    made.client.execute_command("ACL", "SETUSER", user, ">x")

    assert made.new_client(username=user, password="x").ping()
