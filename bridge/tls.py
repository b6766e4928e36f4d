"""Why there is no connection, where TLS may be the reason: asked once more, of the server itself.

What redis-py raises does not tell: a server that refuses our certificate says so behind the
handshake, in words that are lost when something was written meanwhile.
"""

import socket
import ssl
from typing import Final, NamedTuple

from bridge import exits
from bridge.target import Target

ANSWER_SECONDS_MAX: Final = 1.0
# OpenSSL's X509_V_ERR_ numbers.
OUT_OF_DATE: Final = (9, 10)
OTHER_NAME: Final = (62, 64)
NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
OF_OUR_CERTIFICATE: Final = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")
PLAIN: Final = "write redis:// where Redis has no TLS, or name its tls-port"


class Trouble(NamedTuple):
    """What is wrong: the exit code for it, what is said of it, and what to do."""

    code: int
    said: str
    remedy: str


def trouble(target: Target) -> Trouble | None:
    """Return why TLS with a server does not come about; None when it does, or nobody is there."""
    if target.path is not None:
        return None
    if target.tls is None:
        return _speaks_tls(target)
    try:
        with _connected(target) as plain:
            try:
                secure = target.tls.wrap_socket(plain, server_hostname=target.host)
            except TimeoutError:
                said = f"no TLS handshake within {ANSWER_SECONDS_MAX:g} s"
                return Trouble(exits.UNAVAILABLE, said, PLAIN)
            with secure:
                secure.recv(1)  # nothing, or what it says of our certificate
    except ssl.SSLCertVerificationError as error:
        return _of_their_certificate(error)
    except ssl.SSLError as error:
        return _of_ours(error.reason or "")
    except OSError:
        pass
    return None


def _speaks_tls(target: Target) -> Trouble | None:
    """Return that it is TLS which a server wants that we asked without."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(target) as plain, context.wrap_socket(plain):
            pass
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return None
    except OSError:
        return None
    return Trouble(exits.CONFIGURATION, "it talks TLS", "write rediss:// in place of redis://")


def _of_their_certificate(error: ssl.SSLCertVerificationError) -> Trouble:
    said = f"its certificate: {error.verify_message}"
    if error.verify_code in OUT_OF_DATE:
        return Trouble(exits.UNAVAILABLE, said, "renew it, or set this machine's clock")
    if error.verify_code in OTHER_NAME:
        remedy = "name the host as its subjectAltName does, or have one made for this name"
        return Trouble(exits.CONFIGURATION, said, remedy)
    remedy = "name the file of the authority that signed it: ?ssl_ca_certs=/path behind the URL"
    return Trouble(exits.CONFIGURATION, said, remedy)


def _of_ours(reason: str) -> Trouble | None:
    said = reason.replace("_", " ").lower()
    if reason in NO_TLS:
        return Trouble(exits.CONFIGURATION, "it does not talk TLS", PLAIN)
    if "ALERT" in reason and any(word in reason for word in OF_OUR_CERTIFICATE):
        remedy = (
            "it wants a certificate that its tls-ca-cert-file has signed: "
            "?ssl_certfile=/path&ssl_keyfile=/path behind the URL"
        )
        return Trouble(exits.REFUSED, said, remedy)
    if "PROTOCOL" in reason:
        return Trouble(exits.CONFIGURATION, said, "see tls-protocols in redis.conf")
    return None


def _connected(target: Target) -> socket.socket:
    return socket.create_connection((target.host, target.port), ANSWER_SECONDS_MAX)
