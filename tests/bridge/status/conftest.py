"""Fixtures for the ops page: a Chromium, and a server that shows what a test says."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.bridge.status.browser import Stage, Visit, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def serving() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def stage(serving: Stage) -> Stage:
    """The module's server, with the document that all is well."""
    serving.show()
    return serving


@pytest.fixture
def visit(browser: Browser, stage: Stage) -> Iterator[Visit]:
    """A wide window of its own; the browser must have had nothing to complain about."""
    with Visit(browser, stage.url) as visit:
        yield visit.until_live()
        assert visit.troubles == []
