"""Settings of the alerts that go out to people."""

import re

from pydantic import SecretStr, field_validator

from bridge.core.notices import KINDS, Kind
from bridge.section import Section, no_repetition, setting

# A scheme, and something behind it; what it means is for apprise to say.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


class NotifySettings(Section):
    urls: tuple[SecretStr, ...] = setting(
        (), "apprise URL, ...",
        "Where alerts go: tgram://, discord://, mailtos://, json:// and others. Empty: nowhere. In"
        " the environment a comma inside a URL is written %2C.",
    )  # fmt: skip
    kinds: tuple[Kind, ...] = setting(KINDS, "", "What is told.")
    per_hour_max: int = setting(
        6, "messages of a kind", "Sent within an hour; the next one says how many were left out.",
        ge=1, le=1_000,
    )  # fmt: skip
    summary_at: str = setting(
        "00:10", "HH:MM, UTC", "When the PnL of the day before is told.",
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
    )  # fmt: skip
    retry_count_max: int = setting(
        6, "tries", "How often a message that a URL did not take is sent again.", ge=0, le=100
    )
    retry_seconds_max: float = setting(
        60.0, "seconds", "Longest pause between two tries; the first is 1 s, each twice the last.",
        ge=0.01, le=3_600,
    )  # fmt: skip

    _distinct = field_validator("urls", "kinds")(no_repetition)

    @field_validator("urls")
    @classmethod
    def _check_urls(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, url in enumerate(value, start=1):
            if not _URL.fullmatch(url.get_secret_value()):
                raise ValueError(
                    f"number {number} is no URL: it does not begin with a name and ://"
                )
        return value
