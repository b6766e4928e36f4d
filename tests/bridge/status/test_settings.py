"""bridge/status_settings.py: what may be reached from elsewhere must ask who it is."""

import re
from pathlib import Path

import pytest

from bridge import exits
from bridge.config import ConfigError, load
from tests.bridge.processes import Daemon

TOKEN = "0123456789abcdef"


def problems(**settings: str) -> str:
    """Return what is said against status settings."""
    environ = {f"BRIDGE_STATUS__{name.upper()}": value for name, value in settings.items()}
    with pytest.raises(ConfigError) as refused:
        load(None, environ=environ)
    return str(refused.value)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "bridge.example", "127.0.0.1.example"]
)
def test_off_this_host_somebody_has_to_be_asked(host: str) -> None:
    """Without a token and without a proxy it is refused, with what to do; with either it is not."""
    said = problems(host=host)
    assert host in said and "status.token" in said and "status.trusted_proxy" in said

    for name, value in (("TOKEN", TOKEN), ("TRUSTED_PROXY", "10.0.0.0/8, fd00::/8")):
        environ = {"BRIDGE_STATUS__HOST": host, f"BRIDGE_STATUS__{name}": value}
        assert load(None, environ=environ).status.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LocalHost"])
def test_on_this_host_nobody_is(host: str) -> None:
    """The loopback interface is what it is by default."""
    assert load(None, environ={"BRIDGE_STATUS__HOST": host}).status.host == host


@pytest.mark.parametrize(
    "token", ["tiny", "x" * 257, "with spaces in it ", "plus+and/slash===", "a:b" * 9]
)
def test_a_bad_token_is_refused_and_not_shown(token: str) -> None:
    """What cannot stand in a URL, or can be guessed."""
    said = problems(token=token)
    assert said.startswith("status.token: ***") and "openssl rand" in said
    assert token.strip() not in said


@pytest.mark.parametrize(
    "network", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "10.0.0.1,10.0.0.1"]
)
def test_a_bad_network_is_refused(network: str) -> None:
    """Names are not looked up, and host bits are a mistake."""
    assert problems(trusted_proxy=network).startswith("status.trusted_proxy")


@pytest.mark.parametrize(
    ("network", "plain"),
    [("::ffff:127.0.0.0/104", "127.0.0.0/8"), ("::ffff:a01:203", "10.1.2.3/32")],
)
def test_a_mapped_network_is_refused(network: str, plain: str) -> None:
    """It would match nobody: clients that come by IPv4 are known so, on a socket of both too."""
    assert f"write {plain}" in problems(trusted_proxy=network)


def test_the_token_as_a_credential(tmp_path: Path) -> None:
    """systemd's file `status-token` is the token, its last line end aside; an empty one is none."""
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    (tmp_path / "status-token").write_text(f"{TOKEN}\n")
    token = load(None, environ=environ).status.token
    assert token is not None and token.get_secret_value() == TOKEN
    assert TOKEN not in repr(load(None, environ=environ))

    (tmp_path / "status-token").write_text("")
    assert load(None, environ=environ).status.token is None


def test_the_token_stands_in_one_place(tmp_path: Path) -> None:
    """Set twice, it is not guessed which is meant; neither is shown."""
    (tmp_path / "status-token").write_text(TOKEN)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "BRIDGE_STATUS__TOKEN": TOKEN[::-1]}
    with pytest.raises(ConfigError, match="the credential status-token sets it, too") as refused:
        load(None, environ=environ)
    assert TOKEN not in str(refused.value) and TOKEN[::-1] not in str(refused.value)


def test_a_daemon_that_would_be_open_does_not_start(tmp_path: Path) -> None:
    """Exit 78, and one line."""
    with Daemon(tmp_path, status__host="0.0.0.0") as daemon:
        ended = daemon.ended()

    assert ended.code == exits.CONFIGURATION
    assert "can be reached from other machines" in ended.complaint
    assert len(ended.err.splitlines()) == 1


def test_the_token_is_nowhere_but_in_the_settings(tmp_path: Path) -> None:
    """Neither what the daemon says nor what it logs has it, though somebody logs in with it; that
    there is one it says."""
    with Daemon(tmp_path, status__token=TOKEN, log__level="debug") as daemon:
        daemon.until_running()
        status, body = daemon.get(f"/?token={TOKEN}")
        refused, said = daemon.get("/?token=wrong-but-as-long")
        ended = daemon.stop()

    assert (status, refused) == (303, 401)
    assert re.search(r"^page .*:\d+/ .*/\?token=\.\.\. once$", ended.out, re.M)
    assert TOKEN not in body + said + ended.out + ended.err
    assert "wrong-but-as-long" not in said + ended.out + ended.err
