"""bridge/status/access.py: what a browser may ask because a page of another site has it ask."""

import pytest

from tests.bridge.status.serving import fetch, make, running
from tests.bridge.status.test_access import PATHS, TOKEN


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("path", "mode", "expected"),
    [
        ("/events", "cors", 403),
        ("/events", "no-cors", 403),
        ("/events", "navigate", 403),
        ("/metrics", "cors", 403),
        ("/", "no-cors", 403),
        ("/", "navigate", 200),
        ("/health", "no-cors", 200),
    ],
)
async def test_another_site_may_link_to_the_page_and_no_more(
    site: str, path: str, mode: str, expected: int
) -> None:
    """Some page that is open in a browser takes no place of those who look on."""
    server = make()
    marks = {"sec_fetch_site": site, "sec_fetch_mode": mode}

    async with running(server):
        answer = await fetch(server, path, method="HEAD", **marks)

    assert answer.status == expected


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_the_page_itself_and_who_types_an_address_are_answered(site: str) -> None:
    """Whatever name a proxy has put in place of the one that the browser knows."""
    server = make()

    async with running(server):
        for path in PATHS:
            marks = {"sec_fetch_site": site, "origin": "https://ops.example"}
            assert (await fetch(server, path, method="HEAD", **marks)).status == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:9309", 200),
        ("https://localhost:9309", 200),
        ("http://localhost:3000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_a_foreign_origin_is_refused(origin: str, expected: int) -> None:
    """So says a browser that tells no more than that."""
    server = make()

    async with running(server):
        answer = await fetch(server, "/events", method="HEAD", host="localhost:9309", origin=origin)

    assert answer.status == expected


async def test_a_login_by_a_link_of_another_site() -> None:
    """A chat or a wiki may hold the address with the token; a picture may not."""
    server = make(token=TOKEN)

    async with running(server):
        for mode, expected in (("navigate", 303), ("no-cors", 403)):
            marks = {"sec_fetch_site": "cross-site", "sec_fetch_mode": mode}
            assert (await fetch(server, f"/?token={TOKEN}", **marks)).status == expected
