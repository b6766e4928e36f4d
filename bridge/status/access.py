"""Who may look: this machine, who shows the token, and who comes through a declared proxy."""

import hashlib
import hmac
import ipaddress
import re
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.status_settings import StatusSettings, is_loopback

METHODS: Final = ("GET", "HEAD")
# What anybody who reaches the port may ask: whether it is well, not why.
OPEN_PATHS: Final = ("/health",)
# The header of that name: an IPv6 address in brackets or anything else, and a port.
HOST: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::\d+)?")
COOKIE_SECONDS: Final = 30 * 86_400
# What a browser says of a request that a page of somebody else makes. Another port of this host is
# the same site.
FOREIGN_SITES: Final = ("cross-site", "same-site")
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}
LOGIN: Final = (
    "a token is needed (status.token): open /?token=..., or send Authorization: Bearer ...\n"
)
LOGIN_PAGE: Final = f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>A token is needed - Nautilus bridge</title>
<h1>A token is needed</h1>
<p>Open <code>/?token=...</code> of this address, with the token of the bridge in place of the dots.
This browser is let in for {COOKIE_SECONDS // 86_400} days then.</p>
<p>The token is what <code>status.token</code> is set to, or the credential
<code>status-token</code>.</p>
</html>
"""
STRANGER: Final = "this address may not look; see status.trusted_proxy and status.token\n"
FOREIGN: Final = "a page of another site may link to /, and ask for nothing else\n"
MISNAMED: Final = "not by this name: a local address is asked as localhost, 127.0.0.1 or [::1]\n"


class Access:
    """ASGI in front of `app`: answers those who may not look, and puts headers on every answer.

    Where neither token nor proxy is set, only this machine reaches the port. `scope["knows"]` tells
    `app` whether the client may know more than whether all is well.
    """

    def __init__(self, app: ASGIApp, settings: StatusSettings) -> None:
        self._app = app
        self._host = settings.host.lower()
        token = settings.token
        self._token = None if token is None else token.get_secret_value().encode()
        self._proxies = [ipaddress.ip_network(each) for each in settings.trusted_proxy]
        # The name holds a mark of the token: bridges on one host share a browser's cookies.
        self._cookie = f"bridge_{self._derived(b'name')[:8]}"
        self._session = self._derived(b"session")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        scope["knows"] = refusal is None
        if scope["method"] not in METHODS:
            refusal = PlainTextResponse("only GET and HEAD\n", 405, {"allow": ", ".join(METHODS)})
        elif scope["path"] in OPEN_PATHS:
            refusal = None
        await (refusal or self._app)(scope, receive, send_safely)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to who may not look, or logs in; None for who may."""
        headers = Headers(scope=scope)
        if _is_foreign(scope["path"], headers):
            return PlainTextResponse(FOREIGN, HTTPStatus.FORBIDDEN)
        if self._token is not None:
            if scope["path"] == "/" and (login := self._login(scope)):
                return login
            if self._is_known(headers):
                return None
        peer = _peer(scope)
        if any(peer in network for network in self._proxies if peer is not None):
            is_local = peer is not None and peer.is_loopback
        elif self._token is None and not self._proxies:
            is_local = True
        else:
            return self._no_entry(headers)
        # A name of theirs that was made to lead here lets other sites in: DNS rebinding.
        if is_local and not self._is_own(headers.get("host", "")):
            return PlainTextResponse(MISNAMED, HTTPStatus.FORBIDDEN)
        return None

    def _is_known(self, headers: Headers) -> bool:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(shown.strip()):
            return True
        # Proxies may send cookies one by one.
        cookies = cookie_parser("; ".join(headers.getlist("cookie")))
        session = cookies.get(self._cookie, "")
        return hmac.compare_digest(session.encode(), self._session.encode())

    def _login(self, scope: Scope) -> Response | None:
        """Return what keeps who shows the token in the query: a cookie; None where none is."""
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        if not self._is_token(shown):
            return None
        # The address without the token, whatever a proxy has put in front of it.
        answer = Response(status_code=HTTPStatus.SEE_OTHER, headers={"location": "./"})
        # Lax: links of other sites find who has logged in, and nothing else of theirs does.
        answer.set_cookie(
            self._cookie, self._session, max_age=COOKIE_SECONDS, httponly=True, samesite="lax"
        )
        return answer

    def _no_entry(self, headers: Headers) -> Response:
        if self._token is None:
            return PlainTextResponse(STRANGER, HTTPStatus.FORBIDDEN)
        asks = {"www-authenticate": "Bearer"}
        if "text/html" in headers.get("accept", ""):
            return HTMLResponse(LOGIN_PAGE, HTTPStatus.UNAUTHORIZED, asks)
        return PlainTextResponse(LOGIN, HTTPStatus.UNAUTHORIZED, asks)

    def _is_token(self, shown: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(shown.encode(), self._token)

    def _is_own(self, host: str) -> bool:
        found = HOST.fullmatch(host.lower())
        name = found and (found[1] or found[2])
        return name is not None and (name == self._host or is_loopback(name))

    def _derived(self, purpose: bytes) -> str:
        return hmac.new(self._token or b"", b"bridge status " + purpose, hashlib.sha256).hexdigest()


def _is_foreign(path: str, headers: Headers) -> bool:
    """Return whether another site's page asks, for more than to open this one.

    It could not read the answer, but take all places of those who may.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None:  # an old browser, or plain HTTP across a network
        return origin is not None and origin.partition("//")[2] != headers.get("host")
    opens = path == "/" and headers.get("sec-fetch-mode") == "navigate"
    return site in FOREIGN_SITES and not opens


def _peer(scope: Scope) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        peer = ipaddress.ip_address(scope["client"][0])
    except (TypeError, ValueError):
        return None
    return getattr(peer, "ipv4_mapped", None) or peer
