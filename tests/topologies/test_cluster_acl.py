"""The users of ops/redis/bridge.acl on a real Cluster."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from bridge.control_command import connected, halt
from bridge.controller import Keys
from bridge.core.slots import slot_of
from bridge.embedded_redis import HOST
from bridge.exits import Exit
from tests.bridge.doctors import seen
from tests.bridge.processes import environment
from tests.topologies.acl import FILE, PASSWORD, USERS, write
from tests.topologies.cluster import ClusterServers
from tests.topologies.plain import binary

COMMENT = "\n".join(re.findall(r"^#   ((?:more=|sed -n \"s).*)", FILE.read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    folder = tmp_path_factory.mktemp("cluster")
    with ClusterServers(folder, "--include", str(write(folder))) as made:
        yield made


@pytest.fixture
def servers(_servers: ClusterServers) -> ClusterServers:
    """A Cluster with the users of the file, and with the rights that its comment adds."""
    cli = binary().with_name("redis-cli")
    for node in _servers.nodes:
        script = COMMENT.replace("redis-cli", str(cli)).replace("NODE", HOST)
        script = script.replace("PORT", str(node.port))
        done = subprocess.run(
            ["sh", "-ec", script], cwd=FILE.parent, capture_output=True, timeout=20, check=True
        )
        assert done.stdout.split() == [b"OK"] * len(USERS)
    return _servers


def asked_to_halt(servers: ClusterServers, role: str) -> str:
    """Halt a role of which no bridge runs, as the operator; return what is said."""
    url = servers.url.replace("//", f"//bridge-operator:{PASSWORD}@")
    with pytest.raises(Exit) as told, connected(url) as client:
        next(halt(client, role, "test", seconds_max=0))
    return str(told.value)


def without(servers: ClusterServers, right: str, user: str = "bridge-operator") -> None:
    """Take a right from a user."""
    for node in servers.nodes:
        node.ask("ACL", "SETUSER", user, f"-{right}")


@pytest.mark.parametrize("role", ["demo", "shadow", "live"])
def test_the_operator_halts(servers: ClusterServers, role: str) -> None:
    """Whichever node has the key of a role, it is asked there."""
    assert "the halt stays asked for" in asked_to_halt(servers, role)
    assert servers.client.get(Keys.of(role).halt).endswith(" test")


def test_a_slot_that_moves(servers: ClusterServers) -> None:
    """While the slot of the key is being moved the halt is asked for, where the key is to be."""
    key = Keys.of("demo").halt
    servers.client.delete(key)
    source = servers.primary_of(key)
    with servers.migrating(slot_of(key.encode()), source, servers.other_than(source)):
        assert "the halt stays asked for" in asked_to_halt(servers, "demo")
    assert servers.client.get(key).endswith(" test")


def test_without_the_map(servers: ClusterServers) -> None:
    """What the comment adds is needed: without CLUSTER SLOTS nobody knows whom to ask."""
    without(servers, "cluster|slots")

    assert "no permissions to run the 'cluster|slots' command" in asked_to_halt(servers, "demo")


def test_without_asking(servers: ClusterServers) -> None:
    """And without ASKING a halt is refused while the slot of its key is being moved."""
    key = Keys.of("shadow").halt
    servers.client.delete(key)
    without(servers, "asking")
    source = servers.primary_of(key)
    with servers.migrating(slot_of(key.encode()), source, servers.other_than(source)):
        assert "'asking' command" in asked_to_halt(servers, "shadow")


def test_doctor_knows_them(
    servers: ClusterServers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the user bridge doctor misses nothing; and it names what was not added."""
    monkeypatch.setattr("os.environ", environment({}))
    url = servers.url.replace("//", f"//bridge:{PASSWORD}@")

    assert "permissions" not in seen(capsys.readouterr, url).worst

    without(servers, "asking", "bridge")
    found = seen(capsys.readouterr, url).of("permissions")
    assert found.what.endswith("the user bridge may not: ASKING")
    assert found.remedy == "ACL SETUSER bridge '+asking'"
