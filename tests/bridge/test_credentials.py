"""Secrets that systemd hands over: files of the folder that CREDENTIALS_DIRECTORY names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from bridge.config import ConfigError, load

SHADOW = {"BRIDGE_ROLE": "shadow"}


def url_of(folder: Path, url: str) -> str:
    """Return redis.url as it is in force."""
    environ = SHADOW | {"CREDENTIALS_DIRECTORY": str(folder), "BRIDGE_REDIS__URL": url}
    return str(load(None, environ=environ).redis.secret_url)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://host:1/0", "redis://:pw@host:1/0"),
        ("redis://user@host", "redis://user:pw@host"),
        ("rediss://host/2?ssl_cert_reqs=none", "rediss://:pw@host/2?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock?db=1", "unix://:pw@/run/redis.sock?db=1"),
        ("redis://[::1]:6379/0", "redis://:pw@[::1]:6379/0"),
        ("redis://host?username=a@b", "redis://:pw@host?username=a@b"),
        ("redis://@host", "redis://:pw@host"),
        ("redis+cluster://h:1,h:2", "redis+cluster://:pw@h:1,h:2"),
        (
            "redis+sentinel://me@h,h2/s?sentinel_password=of",
            "redis+sentinel://me:pw@h,h2/s?sentinel_password=of",
        ),
    ],
)
def test_it_joins_its_url(tmp_path: Path, url: str, wanted: str) -> None:
    """Behind the user's name, where there is one; the end of its line does not belong to it."""
    (tmp_path / "redis-password").write_text("pw\n")

    assert url_of(tmp_path, url) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis+sentinel://h/s", "redis+sentinel://h/s?sentinel_password=a%26b"),
        (
            "redis+sentinel://h/s?sentinel_username=me",
            "redis+sentinel://h/s?sentinel_username=me&sentinel_password=a%26b",
        ),
        ("redis://h", "redis://h"),
    ],
)
def test_the_sentinels_have_their_own(tmp_path: Path, url: str, wanted: str) -> None:
    """It goes behind the ? of a URL that names Sentinels, and nowhere else."""
    (tmp_path / "sentinel-password").write_text("a&b\n")

    assert url_of(tmp_path, url) == wanted


def test_both_passwords(tmp_path: Path) -> None:
    """Redis's own and that of its Sentinels join the same URL, each in its place."""
    (tmp_path / "redis-password").write_text("pw")
    (tmp_path / "sentinel-password").write_text("of")

    wanted = "redis+sentinel://me:pw@h,h2/s?sentinel_password=of"
    assert url_of(tmp_path, "redis+sentinel://me@h,h2/s") == wanted


@given(st.text(st.characters(min_codepoint=33, exclude_categories=["Cs", "Z", "Cc"]), min_size=1))
def test_any_password(tmp_path_factory: pytest.TempPathFactory, password: str) -> None:
    """Whatever stands in it, redis-py finds the same in the URL, and the same host."""
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "redis-password").write_text(password)

    options = parse_url(url_of(folder, "redis://me@host:7/3"))

    assert (options["username"], options["password"]) == ("me", password)
    assert (options["host"], options["port"], options["db"]) == ("host", 7, 3)


def test_the_cache_has_its_own(tmp_path: Path) -> None:
    """`cache-password` belongs to cache.url, and to nothing else."""
    (tmp_path / "cache-password").write_text("pw")
    environ = {
        "BRIDGE_ROLE": "live",
        "BRIDGE_NODE__EXEC_CLIENT": "a:b",
        "BRIDGE_REDIS__URL": "redis://a",
        "BRIDGE_CACHE__URL": "redis://b",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }

    config = load(None, environ=environ)

    assert config.redis.secret_url == "redis://a"
    assert config.cache.url is not None
    assert config.cache.url.get_secret_value() == "redis://:pw@b"


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_one_is_none(tmp_path: Path, text: str) -> None:
    """The unit hands over an empty one where the operator has none."""
    (tmp_path / "redis-password").write_text(text)

    assert url_of(tmp_path, "redis://user:own@host") == "redis://user:own@host"


def test_none_without_a_url(tmp_path: Path) -> None:
    """The demo's own Redis needs none."""
    (tmp_path / "redis-password").write_text("pw")

    assert load(None, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}).redis.url is None


def refusal(folder: Path, url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        url_of(folder, url)
    [line] = caught.value.problems
    return line


@pytest.mark.parametrize("url", ["redis://user:own@host", "redis://host?password=own@1"])
def test_two_passwords(tmp_path: Path, url: str) -> None:
    """One in the URL and one in the credential: refused, without saying either."""
    (tmp_path / "redis-password").write_text("hunter2")

    line = refusal(tmp_path, url)

    assert line.startswith("redis.url: it holds a password, and so does the credential redis-pass")
    assert line.endswith("from environment variable BRIDGE_REDIS__URL")
    assert "hunter2" not in line
    assert "own@" not in line


def test_two_passwords_of_the_sentinels(tmp_path: Path) -> None:
    """One in the URL and one in the credential: refused, without saying either."""
    (tmp_path / "sentinel-password").write_text("hunter2")

    line = refusal(tmp_path, "redis+sentinel://h/s?sentinel_password=own@1")

    assert line.startswith("redis.url: it holds a password, and so does the credential sentinel-pa")
    assert "hunter2" not in line
    assert "own@" not in line


def test_one_that_is_no_text(tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "redis-password").write_bytes(b"\xff")

    line = refusal(tmp_path, "redis://host")

    assert line.startswith(f"credential redis-password: cannot be read from {tmp_path}/redis-pass")


def told(folder: Path, **environ: str) -> list[str]:
    """Return the URLs of notify.urls as they are in force."""
    config = load(None, environ={"CREDENTIALS_DIRECTORY": str(folder)} | environ)
    return [url.get_secret_value() for url in config.notify.urls]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tgram://token/chat\n", ["tgram://token/chat"]),
        ("json://a/?b=1,2\n\n  mailtos://c \n", ["json://a/?b=1,2", "mailtos://c"]),
        ("\n", []),
    ],
)
def test_where_alerts_go(tmp_path: Path, text: str, wanted: list[str]) -> None:
    """One URL a line, a comma and all; an empty file is none."""
    (tmp_path / "notify-urls").write_text(text)

    assert told(tmp_path) == wanted


def test_alerts_from_two_places(tmp_path: Path) -> None:
    """In the settings and in the credential: refused, without saying either."""
    (tmp_path / "notify-urls").write_text("tgram://hunter2/chat\n")

    with pytest.raises(ConfigError) as caught:
        told(tmp_path, BRIDGE_NOTIFY__URLS="json://own")

    assert caught.value.problems == [
        "notify.urls: the credential notify-urls sets it, too; take one away; from environment "
        "variable BRIDGE_NOTIFY__URLS"
    ]


def test_an_alert_url_that_is_none(tmp_path: Path) -> None:
    """Its number is said, and where it comes from; none of it is shown."""
    (tmp_path / "notify-urls").write_text("json://good\nhunter2\n")

    with pytest.raises(ConfigError) as caught:
        told(tmp_path)

    [line] = caught.value.problems
    assert "notify.urls: *** is refused: number 2 is no URL" in line
    assert line.endswith("from credential notify-urls")
    assert "hunter2" not in line


def test_a_url_that_is_wrong_shows_no_password(tmp_path: Path) -> None:
    """What is said about a bad URL masks the password that has joined it."""
    (tmp_path / "redis-password").write_text("hunter2")

    assert "hunter2" not in refusal(tmp_path, "redis://user@host/x")
