"""bridge/endpoints.py: where a URL leads, what is refused in one, and that no secret is told."""

import ssl
from pathlib import Path

import pytest

from bridge import endpoints
from bridge.endpoints import Cluster, parse
from bridge.section import check_redis_url, safe_url
from bridge.sentinel import Sentinel
from bridge.target import Target

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://", Target()),
        ("redis://example.org", Target(host="example.org")),
        ("redis://h:7000/2", Target(host="h", port=7000, db=2)),
        ("redis://h?db=3", Target(host="h", db=3)),
        ("redis://[::1]:7000/", Target(host="::1", port=7000)),
        ("redis://u:p%40ss@h", Target(host="h", username="u", password="p@ss")),
        ("redis://:p@ss@h", Target(host="h", password="p@ss")),
        ("redis://h?username=u&password=p%26", Target(host="h", username="u", password="p&")),
        ("unix:///run/redis.sock?db=1", Target(path="/run/redis.sock", db=1)),
        ("unix://:pw@/run/a%20b", Target(path="/run/a b", password="pw")),
    ],
)
def test_one_server(url: str, target: Target) -> None:
    """Host, port, socket, database and user are read from it."""
    assert parse(url) == target


def test_tls_context() -> None:
    """rediss:// verifies the certificate, unless it is told not to."""
    strict, lax = parse("rediss://h"), parse("rediss://h?ssl_cert_reqs=none")
    assert isinstance(strict, Target)
    assert isinstance(lax, Target)
    assert strict.tls is not None
    assert lax.tls is not None
    assert (strict.tls.verify_mode, strict.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (lax.tls.verify_mode, lax.tls.check_hostname) == (ssl.CERT_NONE, False)


def test_sentinels() -> None:
    """The user before the hosts is Redis's, that of the Sentinels stands behind the ?."""
    sentinel = parse(
        "redis+sentinel://u:p@h,[::1]:5000/prim%20ary/4?sentinel_username=su&sentinel_password=s%26"
    )

    assert isinstance(sentinel, Sentinel)
    assert sentinel.where == "h:26379,::1:5000/prim ary"
    assert sentinel.primary == Target(db=4, username="u", password="p", proves_role=True)
    assert sentinel.without_secrets("p and s&") == "*** and ***"


def test_a_cluster() -> None:
    """A Cluster is its nodes, all entered in the same way."""
    assert parse("redis+cluster://u:p@h:7000,h2") == Cluster(
        (
            Target(host="h", port=7000, username="u", password="p"),
            Target(host="h2", username="u", password="p"),
        )
    )


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_tls_for_all(kind: str) -> None:
    """rediss+ speaks TLS with whatever it leads to, in the way that the ? says."""
    endpoint = parse(f"rediss+{kind}://h/{'s' if kind == 'sentinel' else ''}?ssl_cert_reqs=none")
    entered = [endpoint.primary] if isinstance(endpoint, Sentinel) else []

    assert isinstance(endpoint, Sentinel | Cluster)
    for target in (*entered, *getattr(endpoint, "seeds", ())):
        assert target.tls is not None
        assert target.entry["ssl"]
        assert target.entry["ssl_cert_reqs"] == "none"


def test_one_object_for_one_url() -> None:
    """Who parses the same URL shares what its Sentinels said last."""
    assert parse("redis+sentinel://h/s") is parse("redis+sentinel://h/s")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://:hunter2@h", "does not begin with"),
        ("hunter2@h:6379", "does not begin with"),
        ("redis+raft://:hunter2@h", "does not begin with"),
        ("redis://:hunter2@h:x", "host that cannot be read"),
        ("redis://:hunter2@h:99999", "host that cannot be read"),
        ("redis://:hunter2@h:0", "host that cannot be read"),
        ("redis://:hunter2@[::1", "cannot be read"),
        ("redis://:hunter2@a..b", "host that cannot be read"),
        (f"redis://:hunter2@{'a' * 64}.example", "host that cannot be read"),
        ("redis://:hunter2@h:1,h:2", "several hosts"),
        ("redis://ops@desk:hunter2@h", "%40"),
        ("redis+cluster://:hunter2@a:1,:hunter2@b:2", "stand once, before the hosts"),
        ("redis+sentinel://a,u:hunter2@b/s", "stand once, before the hosts"),
        ("redis://:hunter2@h/x", "database"),
        ("redis://:hunter2@h/-1", "database"),
        ("redis://:hunter2@h?db=x", "database"),
        ("redis://:hunter2@h/99999999999", "database"),
        (
            "redis://:hunter2@h/0?no_such=1",
            "may stand, once each: db, username, password, client_name",
        ),
        ("redis://h?password=hunter2&password=2", "once each"),
        ("redis://h?hunter2", "cannot be read"),
        ("redis://:hunter2@h?ssl_cert_reqs=none", "once each"),
        ("redis://h?%70assword=hunter2", "only values may"),
        ("redis+sentinel://h/s?sentinel_%70assword=hunter2", "only values may"),
        (" redis://:hunter2@h", "does not begin with"),
        ("redis://:hunter2 @h", "a blank or a control character"),
        ("redis://:hun\nter2@h", "a blank or a control character"),
        ("redis://h?pass\tword=hunter2", "a blank or a control character"),
        ("redis://h\x00?password=hunter2", "a blank or a control character"),
        ("redis://h?password=hunter2\x85", "a blank or a control character"),
        ("redis://:hunter#2@h", "%23"),
        ("rediss://:hunter2@h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://:hunter2@h?ssl_check_hostname=maybe", "ssl_check_hostname"),
        ("rediss://:hunter2@h?ssl_ca_certs=", "empty"),
        ("rediss://:hunter2@h?ssl_ca_certs=/no/hunter2", "ssl_ca_certs: the file cannot be used"),
        ("rediss://:hunter2@h?ssl_certfile=/no/hunter2", "ssl_certfile: the file cannot be used"),
        (
            f"rediss://:hunter2@h?ssl_certfile={__file__}&ssl_keyfile=/no/hunter2",
            "ssl_keyfile: the file cannot be used: No such file",
        ),
        (
            f"rediss://:hunter2@h?ssl_certfile={__file__}",
            "holds no key, and there is no ssl_keyfile",
        ),
        ("rediss://:hunter2@h?ssl_keyfile=/no/hunter2", "without ssl_certfile"),
        ("unix://:hunter2@run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///run/redis.sock?db=hunter2", "database"),
        ("redis+sentinel://:hunter2@h:26379", "name of the service"),
        ("redis+sentinel://:hunter2@/s", "host that cannot be read"),
        ("redis+sentinel://:hunter2@h,/s", "host that cannot be read"),
        ("redis+sentinel://:hunter2@h/s/x", "database"),
        ("redis+sentinel://:hunter2@h/s/0/1", "database"),
        ("redis+sentinel://:hunter2@h/s?db=1", "sentinel_username, sentinel_password"),
        ("redis+cluster://:hunter2@h/0", "no databases"),
        ("redis+cluster://:hunter2@h?db=0", "nothing"),
        ("redis+cluster://:hunter2@", "host that cannot be read"),
    ],
)
def test_what_is_refused(url: str, why: str) -> None:
    """A URL with an error in it is refused with a reason that repeats no part of it."""
    with pytest.raises(ValueError, match=why) as caught:
        check_redis_url(url)

    assert SECRET not in str(caught.value)


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    """Nor is a file taken that holds something else."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")

    with pytest.raises(ValueError, match="ssl_ca_certs: the file cannot be used"):
        check_redis_url(f"rediss://h?ssl_ca_certs={file}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "redis+sentinel://u:hunter2@h,h2/s/1?sentinel_password=hunter2",
            "redis+sentinel://u:***@h,h2/s/1?sentinel_password=***",
        ),
        ("rediss+cluster://:hunter2@h:1,h:2", "rediss+cluster://:***@h:1,h:2"),
        ("redis://h?db=1&password=hunter2", "redis://h?db=1&password=***"),
        ("redis://h?%70assword=hunter2&db=1", "redis://h?%70assword=***&db=1"),
        ("redis://h?pass%77ord=hunter2", "redis://h?pass%77ord=***"),
        ("redis://u:hun\nter2 hunter2@h", "redis://u:***@h"),
        ("redis://h?password=x hunter2", "redis://h?password=***"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    """Passwords are masked, those in the query, too."""
    assert safe_url(url) == shown


def test_repr_hides_the_password() -> None:
    """A target that ends up in a traceback or a log does not show its password."""
    assert "pw" not in repr(Target(password="pw"))
    assert "pw" not in repr(parse("redis+cluster://:pw@h"))


def test_one_server_for_the_cache() -> None:
    """Nautilus's cache takes neither Sentinels nor a Cluster."""
    assert endpoints.parse_single("redis://h") == Target(host="h")
    for url in ("redis+sentinel://h/s", "redis+cluster://h"):
        with pytest.raises(ValueError, match="one server"):
            endpoints.parse_single(url)


@pytest.mark.parametrize(
    ("target", "greeting"),
    [
        (Target(), [("PING",)]),
        (Target(password="p"), [("AUTH", "default", "p"), ("PING",)]),
        (
            Target(username="u", password="p", db=2),
            [("AUTH", "u", "p"), ("SELECT", "2"), ("PING",)],
        ),
        (Target(proves_role=True), [("PING",), ("ROLE",)]),
    ],
)
def test_greeting(target: Target, greeting: list[tuple[str, ...]]) -> None:
    """Password first, then the database, then a question; whose primary it is only if need be."""
    assert target.greeting() == greeting
