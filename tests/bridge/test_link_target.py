"""bridge/link.py: a Target is where Redis is and how to get in, and tells no secret."""

import pytest

from bridge.link import Target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://example.org", Target(host="example.org")),
        ("redis://h:7000/2", Target(host="h", port=7000, db=2)),
        ("redis://u:p%40ss@h", Target(host="h", username="u", password="p@ss")),
        ("redis://:pw@h", Target(host="h", password="pw")),
        ("unix:///run/redis.sock?db=1", Target(path="/run/redis.sock", db=1)),
    ],
)
def test_target_from_url(url: str, target: Target) -> None:
    """Every part of a Redis URL is understood."""
    assert Target.from_url(url) == target


def test_target_with_tls() -> None:
    """rediss:// verifies the server unless the URL says otherwise."""
    strict = Target.from_url("rediss://h").tls
    lax = Target.from_url("rediss://h?ssl_cert_reqs=none").tls

    assert strict is not None and strict.check_hostname
    assert lax is not None and not lax.check_hostname


def test_target_refuses_another_url() -> None:
    """What is no Redis URL is an error with a reason."""
    with pytest.raises(ValueError, match="scheme"):
        Target.from_url("http://h")


def test_target_hides_its_password() -> None:
    """A target may be logged."""
    assert "pw" not in repr(Target(password="pw"))


@pytest.mark.parametrize(
    ("target", "greeting"),
    [
        (Target(), [("PING",)]),
        (Target(password="p"), [("AUTH", "default", "p"), ("PING",)]),
        (
            Target(username="u", password="p", db=2),
            [("AUTH", "u", "p"), ("SELECT", "2"), ("PING",)],
        ),
    ],
)
def test_greeting(target: Target, greeting: list[tuple[str, ...]]) -> None:
    """The greeting gets in, chooses the database and asks for a sign of life, in that order."""
    assert target.greeting() == greeting
