"""bridge/status/access.py: who may look at a bridge, and what every answer carries."""

import http.cookies
import json

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope

from bridge.status.access import POLICY, Access
from bridge.status_settings import StatusSettings
from tests.bridge.status.serving import Answer, fetch, make, running

TOKEN = "0123456789abcdef"
BEARER = f"Bearer {TOKEN}"
PATHS = ("/", "/page.js", "/page.css", "/events", "/metrics")


async def ask(
    settings: dict[str, object], peer: str, path: str = "/metrics", **headers: str
) -> Answer:
    """Ask an application behind Access, as a client at the address `peer`."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": "http", "method": "GET", "path": path, "query_string": b""}
    scope |= {"headers": raw, "client": (peer, 40_000)}
    behind = Access(PlainTextResponse("seen"), StatusSettings.model_validate(settings))
    await behind(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], told, sent[1]["body"])


@pytest.mark.parametrize("path", ["/", "/events", "/metrics", "/health", "/nothing"])
async def test_every_answer_carries_the_headers(path: str) -> None:
    """No script but ours, no framing, no sniffing, no referrer, nothing kept: also on a refusal."""
    server = make(token=TOKEN)

    async with running(server):
        answers = [
            await fetch(server, path, method="HEAD"),
            await fetch(server, path, method="HEAD", authorization=BEARER),
            await fetch(server, path, method="PUT"),
        ]

    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_token_nothing_is_seen(path: str) -> None:
    """All but /health asks for it, on the loopback interface too."""
    server = make(token=TOKEN)

    async with running(server):
        refused = await fetch(server, path)
        wrong = await fetch(server, path, authorization=f"Bearer {TOKEN[:-1]}0")
        head = await fetch(server, path, method="HEAD", authorization=BEARER)

    assert (refused.status, wrong.status, head.status) == (401, 401, 200)
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_health_without_the_token_says_no_more_than_whether() -> None:
    """A probe has no token: it learns the status, and who has one learns the reason."""
    server = make(token=TOKEN, health=lambda: "no connection to Redis at 10.0.0.7")

    async with running(server):
        probed = await fetch(server, "/health")
        known = await fetch(server, "/health", authorization=BEARER)

    assert (probed.status, json.loads(probed.body)) == (503, {"status": "unhealthy"})
    assert json.loads(known.body)["reason"] == "no connection to Redis at 10.0.0.7"


async def test_a_login_leaves_a_cookie_and_no_token() -> None:
    """`/?token=` answers with a redirect to the page, and a cookie that no script reads, no other
    site sends but with a link to here, and that is not the token."""
    server = make(token=TOKEN)

    async with running(server):
        login = await fetch(server, f"/?token={TOKEN}")
        cookie = http.cookies.SimpleCookie(login.headers["set-cookie"])
        [morsel] = cookie.values()
        shown = f"other=1; {morsel.key}={morsel.value}"
        seen = [(await fetch(server, path, method="HEAD", cookie=shown)).status for path in PATHS]
        forged = await fetch(server, "/", cookie=f"{morsel.key}={TOKEN}")

    assert (login.status, login.headers["location"]) == (303, "./")
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "lax", "/")
    assert seen == [200] * len(PATHS)
    assert forged.status == 401
    assert TOKEN not in str(login)


async def test_cookies_may_come_one_by_one() -> None:
    """Proxies split the header; what is in the second one counts as much."""
    settings = {"token": TOKEN}
    behind = Access(PlainTextResponse("seen"), StatusSettings.model_validate(settings))
    shown = f"{behind._cookie}={behind._session}"

    for first, second in (("a=1", shown), (shown, "a=1")):
        answer = await ask(settings, "192.0.2.1", cookie=first, Cookie=second)
        assert answer.status == 200


async def test_an_absolute_target_is_let_in_by_its_headers() -> None:
    """A client that asks as it would ask a proxy shows its token like any other."""
    server = make(token=TOKEN)

    async with running(server):
        for shown, expected in ((BEARER, 200), ("", 401)):
            answer = await fetch(server, "http://ops.example/metrics", authorization=shown)
            assert answer.status == expected


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("text/html,*/*;q=0.8", "text/html"), ("*/*", "text/plain"), ("", "text/plain")],
)
async def test_who_lacks_the_token_is_told_where_it_goes(accept: str, kind: str) -> None:
    """A person in a browser by a few lines of HTML, a program in plain words."""
    server = make(token=TOKEN)

    async with running(server):
        answer = await fetch(server, "/", accept=accept)

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["content-security-policy"] == POLICY
    assert b"/?token=..." in answer.body


@pytest.mark.parametrize(
    "query", ["token=", "token=wrong", f"token={TOKEN}x", "token=%00&token=%ff"]
)
async def test_a_wrong_token_is_no_login(query: str) -> None:
    """The answer is that of no token at all, and sets no cookie."""
    server = make(token=TOKEN)

    async with running(server):
        answer = await fetch(server, f"/?{query}")

    assert answer.status == 401
    assert "set-cookie" not in answer.headers


async def test_only_the_page_takes_a_login() -> None:
    """A token in the query of anything else is nothing: it would stand in logs of proxies."""
    server = make(token=TOKEN)

    async with running(server):
        assert (await fetch(server, f"/metrics?token={TOKEN}")).status == 401


async def test_two_bridges_on_one_host_keep_their_cookies_apart() -> None:
    """A browser sends the cookies of one port to the other; their names differ with the token."""
    names = []
    for token in (TOKEN, TOKEN[::-1]):
        server = make(token=token)
        async with running(server):
            answer = await fetch(server, f"/?token={token}")
        names.append(answer.headers["set-cookie"].partition("=")[0])

    assert names[0] != names[1]


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:9309", "[::1]:80", "LOCALHOST:1", "127.9.9.9"]
)
async def test_a_local_name_is_answered(host: str) -> None:
    """Whatever port a tunnel shows it on."""
    server = make()

    async with running(server):
        assert (await fetch(server, "/metrics", host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9309", "127.0.0.1.evil.example", "[::2]", "", "localhost."],
)
async def test_a_foreign_name_is_refused(host: str) -> None:
    """A site whose name leads to 127.0.0.1 reads nothing: DNS rebinding."""
    server = make()

    async with running(server):
        answer = await fetch(server, "/metrics", host=host)

    assert answer.status == 403
    assert b"nautilus_bridge_" not in answer.body


async def test_the_token_makes_a_foreign_name_welcome() -> None:
    """Another site has it not, and a proxy may keep the name its clients ask for."""
    server = make(token=TOKEN)

    async with running(server):
        answer = await fetch(server, "/metrics", host="ops.example", authorization=BEARER)

    assert answer.status == 200


PROXY = {"host": "0.0.0.0", "trusted_proxy": ["10.1.0.0/16", "127.0.0.1/32", "fd00::/8"]}


@pytest.mark.parametrize(
    ("peer", "host", "expected"),
    [
        ("10.1.2.3", "ops.example", 200),
        ("fd00::7", "ops.example", 200),
        ("::ffff:10.1.2.3", "ops.example", 200),
        ("10.2.0.1", "ops.example", 403),
        ("192.0.2.1", "127.0.0.1", 403),
        ("127.0.0.1", "127.0.0.1:9309", 200),
        ("127.0.0.1", "evil.example", 403),
        ("127.0.0.2", "127.0.0.1", 403),
        ("no address", "127.0.0.1", 403),
    ],
)
async def test_a_trusted_proxy_needs_no_token(peer: str, host: str, expected: int) -> None:
    """Only its own address counts, not what a header claims; one on this machine asks by a local
    name, as nginx does."""
    answer = await ask(PROXY, peer, host=host, **{"x-forwarded-for": "10.1.2.3"})

    assert answer.status == expected


@pytest.mark.parametrize(("peer", "expected"), [("10.1.2.3", 200), ("10.2.0.1", 401)])
async def test_beside_a_proxy_the_token_counts(peer: str, expected: int) -> None:
    """Who does not come through the proxy may still show it."""
    both = PROXY | {"token": TOKEN}

    assert (await ask(both, peer, host="a")).status == expected
    assert (await ask(both, peer, host="a", authorization=BEARER)).status == 200
