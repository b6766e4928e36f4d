"""The ops page's files: complete, and fit for a policy that allows nothing inline or foreign."""

import re

import pytest

from bridge.status.page import assets

PAGES = {path: asset.body.decode() for path, asset in assets().items()}
SCRIPTS = {path: body for path, body in PAGES.items() if path.endswith(".js")}


def test_content_types() -> None:
    """Each file says what it is; nothing else of the folder is served."""
    kinds = {path: asset.content_type for path, asset in assets().items()}

    assert kinds.pop("/") == "text/html; charset=utf-8"
    assert kinds.pop("/page.css") == "text/css; charset=utf-8"
    assert set(kinds.values()) == {"text/javascript; charset=utf-8"}
    assert all(re.fullmatch(r"/page\.(\w+\.)?js", path) for path in kinds)


def test_what_the_page_names_is_served() -> None:
    """Style sheet, scripts and what they import are files of the page, each used."""
    named = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', PAGES["/"])
    imported = re.findall(r'from "\./([^"]+)"', "".join(SCRIPTS.values()))

    assert {f"/{name}" for name in [*named, *imported]} | {"/"} == PAGES.keys()


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_fetched_from_elsewhere(path: str) -> None:
    """No address of another host stands in any file, but the name of SVG's format."""
    hosts = re.findall(r"//[\w.]+\.\w+[^\"\s]*", re.sub(r"^\s*//.*$", "", PAGES[path], flags=re.M))

    assert set(hosts) <= {"//www.w3.org/2000/svg"}


def test_nothing_is_inline() -> None:
    """The page holds no script, style or handler of its own: the policy would refuse them."""
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script[^>]*>[^<]|javascript:", PAGES["/"])


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_never_make_markup(path: str) -> None:
    """What was sent cannot become elements: no script sets markup, or runs text."""
    markup = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser"

    assert not re.search(markup, SCRIPTS[path])


def test_every_element_that_a_script_asks_for_is_there() -> None:
    """Each id is in the page, once."""
    ids = re.findall(r'\sid="([^"]+)"', PAGES["/"])
    asked = set(re.findall(r'(?:byId|say)\("([^"]+)"', "".join(SCRIPTS.values())))

    assert len(ids) == len(set(ids))
    assert asked <= set(ids)
