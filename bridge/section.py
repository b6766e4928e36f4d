"""What a section of settings is made of: its base class, its fields, the forms of its values."""

import re
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

from bridge import endpoints
from bridge.log import MASK, mask_urls

PLACEHOLDERS = ("asset", "symbol", "venue", "base", "quote")
DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
_BAR_TYPE = r"^\S+\.\S+-\d+-[A-Z_]+-[A-Z_]+-(INTERNAL|EXTERNAL)(@\S+)?$"

InstrumentName = Annotated[str, StringConstraints(pattern=r"^\S+\.[^\s.]+$")]
BarTypeName = Annotated[str, StringConstraints(pattern=_BAR_TYPE)]
VenueName = Annotated[str, StringConstraints(pattern=r"^[^\s{}]+$")]


def safe_url(url: str) -> str:
    """Return a Redis URL fit to be shown: its password masked, also where the scheme is missing."""
    url = "".join(url.split())  # a password does not end at a blank
    if "://" not in url and "@" in url:
        return f"{MASK}@{url.rpartition('@')[2]}"
    return mask_urls(url)


def with_password(url: str, password: str) -> str | None:
    """Return a Redis URL with a password, percent-encoded; None when it holds one already."""
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user = authority.rpartition("@")[0]
    if ":" in user or re.search(r"[?&]password=", rest):
        return None
    where = rest.removeprefix(f"{user}@") if "@" in authority else rest
    return f"{scheme}://{user}:{quote(password, safe='')}@{where}"


def with_sentinel_password(url: str, password: str) -> str | None:
    """Return a Redis URL with the password of its Sentinels; None when it holds one already.

    One that names no Sentinels needs none, and stays as it is.
    """
    if "+sentinel://" not in url:
        return url
    if re.search(r"[?&]sentinel_password=", url):
        return None
    return f"{url}{'&' if '?' in url else '?'}sentinel_password={quote(password, safe='')}"


def check_redis_url(url: str) -> str:
    """Return `url`, or raise ValueError with a reason that never repeats a part of it."""
    endpoints.parse(url)
    return url


def check_secret_url(value: SecretStr | None) -> SecretStr | None:
    """Return `value`, or raise ValueError as `check_redis_url` does."""
    if value is not None:
        check_redis_url(value.get_secret_value())
    return value


def setting(default: Any, allowed: str, text: str, **bounds: Any) -> Any:
    """A field: `allowed` names its unit or form in words, `bounds` are checked and shown."""
    return Field(default, description=text, json_schema_extra={"allowed": allowed}, **bounds)


class Section(BaseModel):
    """A frozen table of settings that takes no name it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        str_strip_whitespace=True,
        hide_input_in_errors=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: object) -> object:
        # pydantic reads true as 1: a port of 1, one entry.
        if isinstance(value, bool):
            raise ValueError("true and false are no values here")
        return value


def empty_is_unset(value: object) -> object:
    """Return None for the empty text, which is how a variable unsets."""
    return None if value == "" else value


def no_repetition(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return `value`, or raise ValueError when a name stands in it twice."""
    if len(set(value)) < len(value):
        raise ValueError("a name is listed twice")
    return value
