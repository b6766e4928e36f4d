"""The settings of the status server: where it listens, and who may look."""

import ipaddress
import re
from pathlib import Path
from typing import Final, Self

from pydantic import SecretStr, field_validator, model_validator

from bridge.section import Section, empty_is_unset, no_repetition, setting

TOKEN: Final = re.compile(r"[A-Za-z0-9_~.-]{16,256}")


class StatusSettings(Section):
    host: str = setting(
        "127.0.0.1", "host name or address",
        "Where the ops page, /metrics and /health listen. Off this host only with status.token or"
        " status.trusted_proxy.",
        pattern=r"^\S+$",
    )  # fmt: skip
    port: int = setting(
        9309, "TCP port", "Port of /metrics, /health and the ops page. 0: any free one.",
        ge=0, le=65_535,
    )  # fmt: skip
    token: SecretStr | None = setting(
        None, "16 to 256 letters, digits and _ ~ . -",
        "Who shows it may look: as a bearer token, or once as /?token=... in a browser. Unset:"
        " nobody is asked.",
    )  # fmt: skip
    trusted_proxy: tuple[str, ...] = setting(
        (),
        "CIDR, ...",
        "Addresses of proxies that ask their clients who they are, and need no token.",
    )
    acceptance: Path = setting(
        Path("artifacts/acceptance/comparison.json"), "file",
        "What `make accept` wrote last; the ops page shows its verdict.",
    )  # fmt: skip

    _unset = field_validator("token", mode="before")(empty_is_unset)
    _distinct = field_validator("trusted_proxy")(no_repetition)

    @field_validator("token")
    @classmethod
    def _check_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("it is too short, or has other characters; try `openssl rand -hex 16`")
        return value

    @field_validator("trusted_proxy")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            try:
                network = ipaddress.ip_network(each)
            except ValueError as error:
                raise ValueError(str(error)) from None
            mapped = getattr(network.network_address, "ipv4_mapped", None)
            if mapped is not None:
                plain = f"{mapped}/{network.prefixlen - 96}"
                raise ValueError(f"an IPv4 client is known by its IPv4 address: write {plain}")
        return value

    @model_validator(mode="after")
    def _check_exposed(self) -> Self:
        if not is_loopback(self.host) and self.token is None and not self.trusted_proxy:
            raise ValueError(
                f"status.host {self.host} can be reached from other machines: set status.token or"
                " status.trusted_proxy, or leave it at 127.0.0.1"
            )
        return self


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens there; a name is not looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
