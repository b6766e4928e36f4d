"""A redis-server that talks TLS only to who shows a certificate; all made by `openssl` here."""

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.chaos.servers import EVERYSEC, ChaosServer
from tests.servers import free_port
from tests.topologies.plain import binary

CA_EXTENSIONS: Final = """\
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
"""
LEAF_EXTENSIONS: Final = """\
basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
subjectAltName={names}
"""
SECONDS_MAX: Final = 20


class Pair(NamedTuple):
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Certificates(NamedTuple):
    """An authority of one's own, what it signed, and an authority that nobody knows."""

    ca: Pair
    server: Pair
    expired: Pair
    elsewhere: Pair  # of another host
    client: Pair
    stranger: Pair


@functools.cache
def certificates() -> Certificates:
    """Return certificates, made at the first call in a process, and gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="bridge-tls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ca, stranger = _authority(folder, "ca"), _authority(folder, "stranger")
    here = "IP:127.0.0.1,DNS:localhost"
    return Certificates(
        ca=ca,
        server=_signed(folder, "server", ca, here),
        expired=_signed(folder, "expired", ca, here, days=-1),
        elsewhere=_signed(folder, "elsewhere", ca, "DNS:redis.example.org"),
        client=_signed(folder, "client", ca, "DNS:bridge"),
        stranger=stranger,
    )


def with_tls(folder: Path) -> ChaosServer:
    """A server with a certificate of one's own authority, for clients that have one of it, too."""
    return WithTls(binary(), folder, certificates().server)


class WithTls(ChaosServer):
    """`url` is that of its TLS port. The tests' own clients use a port without."""

    def __init__(self, path: Path, folder: Path, shown: Pair) -> None:
        self.tls_port = free_port()
        options = {
            "--tls-port": str(self.tls_port),
            "--tls-cert-file": str(shown.certificate),
            "--tls-key-file": str(shown.key),
            "--tls-ca-cert-file": str(certificates().ca.certificate),
            "--tls-auth-clients": "yes",
        }
        super().__init__(path, folder, *EVERYSEC, *[w for pair in options.items() for w in pair])

    @property
    def url(self) -> str:
        return self.url_with()

    def url_with(
        self,
        ca: Path | None = None,
        client: Pair | None = None,
        host: str = "127.0.0.1",
        more: str = "",
    ) -> str:
        """Return the URL of a client that trusts `ca` and shows `client`, the right ones unless
        others are given."""
        ca, client = ca or certificates().ca.certificate, client or certificates().client
        shown = f"ssl_certfile={client.certificate}&ssl_keyfile={client.key}"
        return f"rediss://{host}:{self.tls_port}/0?ssl_ca_certs={ca}&{shown}{more}"


def _authority(folder: Path, name: str) -> Pair:
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    extensions = _extensions(folder, name, CA_EXTENSIONS)
    request = _request(folder, name, key)
    _openssl(
        *("x509", "-req", "-in", request, "-signkey", key, "-days", "2"),
        *("-extfile", extensions, "-out", certificate),
    )
    return Pair(certificate, key)


def _signed(folder: Path, name: str, by: Pair, names: str, *, days: int = 2) -> Pair:
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    extensions = _extensions(folder, name, LEAF_EXTENSIONS.format(names=names))
    request = _request(folder, name, key)
    _openssl(
        *("x509", "-req", "-in", request, "-CA", by.certificate, "-CAkey", by.key),
        *("-CAcreateserial", "-days", days, "-extfile", extensions, "-out", certificate),
    )
    return Pair(certificate, key)


def _request(folder: Path, name: str, key: Path) -> Path:
    request = folder / f"{name}.csr"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-new", *curve, "-keyout", key, "-subj", f"/CN={name}", "-out", request)
    return request


def _extensions(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.ext"
    path.write_text(text)
    return path


def _openssl(*words: object) -> None:
    command = ["openssl", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_MAX)
