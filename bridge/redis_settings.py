"""Settings of the Redis servers that the bridge writes to."""

from pydantic import SecretStr, field_validator

from bridge.section import Section, check_secret_url, empty_is_unset, safe_url, setting


class RedisSettings(Section):
    url: SecretStr | None = setting(
        None,
        "URL: redis[s]://, unix://, redis[s]+sentinel:// or redis[s]+cluster://",
        "The Redis to write to. Unset: an embedded one.",
    )
    market_url: SecretStr | None = setting(
        None,
        "URL, as of redis.url",
        "Another Redis for market data. Unset: the same. Execution and control never wait for it.",
    )
    start_timeout_seconds: float = setting(
        10, "seconds", "How long to wait at start while Redis answers LOADING.", ge=0, le=3600
    )
    reply_timeout_seconds: float = setting(
        30.0, "seconds", "A connection that owes an answer for so long is made anew.", ge=1, le=3600
    )
    reconnect_seconds_max: float = setting(
        1.0, "seconds", "Longest pause between two attempts to reconnect.", ge=0.01, le=60
    )

    _unset = field_validator("url", "market_url", mode="before")(empty_is_unset)
    _checked = field_validator("url", "market_url")(check_secret_url)

    @property
    def secret_url(self) -> str | None:
        """The URL with its password; None when unset. Never log it."""
        return None if self.url is None else self.url.get_secret_value()

    @property
    def safe_url(self) -> str | None:
        """The URL with its password masked; None when unset."""
        return None if self.url is None else safe_url(self.url.get_secret_value())

    @property
    def secret_market_url(self) -> str | None:
        """The URL of the market data's own Redis, with its password; None: there is none."""
        return None if self.market_url is None else self.market_url.get_secret_value()

    @property
    def safe_market_url(self) -> str | None:
        """The same with its password masked."""
        return None if self.market_url is None else safe_url(self.market_url.get_secret_value())


class EmbeddedSettings(Section):
    port: int = setting(
        6399, "TCP port", "Loopback port of the embedded Redis; if busy, the next free one of 20.",
        ge=1, le=65_535,
    )  # fmt: skip
