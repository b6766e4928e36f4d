"""One Redis server: its address, and how to get in."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is and how to get in. Exactly one of `path` and `host` is used.

    `tls_options` are those that `tls` was made from, by redis-py's names. `proves_role`: it has to
    say that it is a primary before it is believed to be one.
    """

    host: str = "127.0.0.1"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tls_options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    proves_role: bool = False

    async def locate(self, age_seconds_max: float = 0.0) -> "Target":
        """Return where the primary is: there, at any time."""
        return self

    def locate_now(self, age_seconds_max: float = 0.0) -> "Target":
        """Return where the primary is: there, at any time."""
        return self

    @property
    def problem(self) -> str:
        """Why it is not sure where the primary is now; empty when it is."""
        return ""

    @property
    def where(self) -> str:
        """The address, fit to be logged."""
        return self.path or f"{self.host}:{self.port}"

    @property
    def entry(self) -> dict[str, Any]:
        """How to get in, as options of redis-py."""
        return {
            "username": self.username,
            "password": self.password,
            "ssl": self.tls is not None,
            **self.tls_options,
        }

    def without_secrets(self, text: str) -> str:
        """Return what Redis said without the password, should Redis repeat it."""
        text = text.partition(", with args beginning with")[0]
        return text.replace(self.password, "***") if self.password else text

    def greeting(self) -> list[tuple[str, ...]]:
        """Return the commands that open a session; each must be answered without an error."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            # With the user's name, as redis-py does it: without, a server that has no password
            # refuses what it accepts with one.
            commands.append(("AUTH", self.username or "default", self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        commands.append(("PING",))
        if self.proves_role:
            commands.append(("ROLE",))
        return commands


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return how to speak TLS, from options by redis-py's names.

    Raises ValueError, which does not tell their values, when a file of theirs cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    except OSError as error:
        raise ValueError(f"ssl_ca_certs: the file cannot be used: {_reason(error)}") from None
    if "ssl_certfile" in options:
        _load_own(context, options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_check_hostname") is False:
        context.check_hostname = False
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_own(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Take our certificate and its key, which may stand in the same file. Raises ValueError."""
    for name, path in (("ssl_certfile", certificate), ("ssl_keyfile", key)):
        try:
            text = "" if path is None else Path(path).read_text(errors="replace")
        except OSError as error:
            raise ValueError(f"{name}: the file cannot be used: {_reason(error)}") from None
        if name == "ssl_certfile" and key is None and "PRIVATE KEY" not in text:
            raise ValueError("ssl_certfile holds no key, and there is no ssl_keyfile")
    try:
        # Without a password of ours OpenSSL asks for that of an encrypted key at the terminal.
        context.load_cert_chain(certificate, key, "")
    except OSError as error:
        raise ValueError(
            "ssl_certfile, ssl_keyfile: they cannot be used (the key must not be encrypted): "
            f"{_reason(error)}"
        ) from None


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is no certificate in PEM form"
    return error.strerror or type(error).__name__
