"""TLS with an authority of one's own and a certificate to show, and what is said of its faults."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge import exits
from bridge.__main__ import main
from bridge.endpoints import parse_single
from bridge.target import Target
from bridge.tls import trouble
from tests.bridge.links import Owner
from tests.bridge.processes import ROOT, Daemon, Ended, environment, eventually
from tests.proxies import until
from tests.topologies.plain import binary
from tests.topologies.tls import Pair, WithTls, certificates

type Capture = pytest.CaptureFixture[str]


class Servers(NamedTuple):
    """By the certificate that they show."""

    good: WithTls
    expired: WithTls
    elsewhere: WithTls


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = certificates()
    with ExitStack() as stack:
        started = []
        for shown in (made.server, made.expired, made.elsewhere):
            server = WithTls(binary(), tmp_path_factory.mktemp("redis"), shown)
            stack.callback(server.close)
            server.start()
            started.append(server)
        yield Servers(*started)


# What goes wrong at the start: the URL, the exit code, what is said, what to do.
WRONG: dict[str, tuple[Callable[[Servers], str], int, str, str]] = {
    "an authority that did not sign it": (
        lambda s: s.good.url_with(ca=certificates().stranger.certificate),
        exits.CONFIGURATION,
        "its certificate: self-signed certificate in certificate chain",
        "?ssl_ca_certs=/path",
    ),
    "no authority named": (
        lambda s: f"rediss://127.0.0.1:{s.good.tls_port}/0",
        exits.CONFIGURATION,
        "its certificate: self-signed certificate in certificate chain",
        "?ssl_ca_certs=/path",
    ),
    "no certificate to show": (
        lambda s: s.good.url.partition("&ssl_certfile")[0],
        exits.REFUSED,
        "alert certificate required",
        "?ssl_certfile=/path&ssl_keyfile=/path",
    ),
    "a certificate that it does not know": (
        lambda s: s.good.url_with(client=certificates().stranger),
        exits.REFUSED,
        "alert unknown ca",
        "?ssl_certfile=/path&ssl_keyfile=/path",
    ),
    "another host name": (
        lambda s: s.elsewhere.url,
        exits.CONFIGURATION,
        "not valid for '127.0.0.1'",
        "name the host as its subjectAltName does",
    ),
    "an expired certificate": (
        lambda s: s.expired.url,
        exits.UNAVAILABLE,
        "its certificate: certificate has expired",
        "renew it",
    ),
    "none where there is TLS": (
        lambda s: f"redis://127.0.0.1:{s.good.tls_port}/0",
        exits.CONFIGURATION,
        "it talks TLS",
        "write rediss:// in place of redis://",
    ),
    "no file": (
        lambda s: s.good.url_with(ca=Path("/nowhere/ca.crt")),
        exits.CONFIGURATION,
        "ssl_ca_certs: the file cannot be used: No such file or directory",
        "",
    ),
    "somebody else's key": (
        lambda s: s.good.url_with(
            client=Pair(certificates().client.certificate, certificates().server.key)
        ),
        exits.CONFIGURATION,
        "ssl_certfile, ssl_keyfile: they cannot be used",
        "",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_daemon_does_not_start(
    servers: Servers, run: Callable[..., Ended], dataset: Path, case: str
) -> None:
    """The exit code is that of the table, and the message tells what to do."""
    url_of, code, said, remedy = WRONG[case]

    ended = run(redis__url=url_of(servers), replay__dataset=str(dataset), status__port="0")

    assert ended.code == code, ended.err
    assert said in ended.err
    assert remedy in ended.err


@pytest.mark.parametrize("case", ["no certificate to show", "an expired certificate"])
def test_a_command(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: Capture, case: str
) -> None:
    """A command says the same."""
    monkeypatch.setattr("os.environ", environment({}))
    url_of, code, said, remedy = WRONG[case]

    assert main(["status", "--url", url_of(servers)]) == code

    told = capsys.readouterr().err
    assert said in told
    assert remedy in told


@pytest.mark.parametrize("more", ["&ssl_check_hostname=false", "&ssl_cert_reqs=none"])
def test_what_is_not_checked(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: Capture, more: str
) -> None:
    """The name, or all of the server's certificate, is not looked at where the URL says so."""
    monkeypatch.setattr("os.environ", environment({}))

    assert main(["status", "--url", servers.elsewhere.url + more]) == exits.UNAVAILABLE

    assert "no bridge answers" in capsys.readouterr().err


def test_tls_where_there_is_none(servers: Servers) -> None:
    """A server without TLS waits for the end of a line that never comes: it is asked what port."""
    found = trouble(parse_single(f"rediss://127.0.0.1:{servers.good.port}/0"))

    assert found is not None
    assert found.code == exits.UNAVAILABLE
    assert found.said == "no TLS handshake within 1 s"
    assert "write redis:// where Redis has no TLS" in found.remedy


def test_there_is_no_trouble(servers: Servers) -> None:
    """Nothing is said of TLS where it works, nor where nobody listens."""
    target = parse_single(servers.good.url)

    assert trouble(target) is None
    assert trouble(parse_single("rediss://127.0.0.1:1/0")) is None
    assert trouble(parse_single("redis://127.0.0.1:1/0")) is None
    assert trouble(Target(path="/nowhere", port=servers.good.tls_port)) is None


async def test_the_link_says_what_is_wrong(servers: Servers) -> None:
    """The link of a lane tells of a certificate that it does not take, and tries again."""
    owner = Owner(parse_single(servers.expired.url))

    async with owner.running() as link:
        await until(lambda: owner.errors["connection"] > 1)

    assert "certificate has expired" in str(link.problem)
    assert owner.ups == 0


def test_the_daemon_trades(start: Callable[..., Daemon], tmp_path: Path, capsys: Capture) -> None:
    """All lanes and commands go by TLS; a server that shows an expired certificate for a while is
    waited for."""
    shown = _copied(certificates().server, tmp_path)
    server = WithTls(binary(), tmp_path, shown)
    try:
        server.start()
        daemon = start(redis__url=server.url).until_running()
        daemon.until(lambda: server.client.xlen("demo:exec:fills"), "a fill")
        assert _clients_without_tls(server) == 1  # our own
        assert "ts_ns" in _said(daemon.examples[2])
        assert main(["halt", "--reason", "test", "--url", server.url]) == exits.DONE
        assert main(["resume", "--url", server.url]) == exits.DONE

        server.kill()
        _copied(certificates().expired, tmp_path)
        server.start()
        eventually(lambda: "certificate has expired" in daemon.err, "the reason")
        assert daemon.health()[0] == 503
        server.kill()
        _copied(certificates().server, tmp_path)
        server.start()
        daemon.until(lambda: daemon.health()[0] == 200, "health")

        ended = daemon.stop()
        assert ended.code == exits.DONE
    finally:
        server.close()


def _said(command: Sequence[str]) -> str:
    """Run a line that the daemon has shown; return what it says."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout


def _copied(pair: Pair, folder: Path) -> Pair:
    """Put a certificate where the server looks for its own, as a renewal does."""
    certificate, key = folder / "server.crt", folder / "server.key"
    return Pair(Path(shutil.copy(pair.certificate, certificate)), Path(shutil.copy(pair.key, key)))


def _clients_without_tls(server: WithTls) -> int:
    plain = f"127.0.0.1:{server.port}"
    return sum([each["laddr"] == plain for each in server.client.client_list()])
