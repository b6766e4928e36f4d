"""Fixtures for the scripts: on a real redis-server, and on the fakeredis that may stand in."""

from collections.abc import Iterator

import fakeredis
import pytest

from tests.bridge.core.callers import Caller


@pytest.fixture(params=["redis-server", "fakeredis"])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """A caller that owns nothing yet, on an empty Redis."""
    if request.param == "redis-server":
        yield Caller(request.getfixturevalue("redis_server").client)
        return
    with fakeredis.FakeRedis(version=(7,), decode_responses=True, protocol=2) as client:
        yield Caller(client)


@pytest.fixture
def owner(caller: Caller) -> Caller:
    """A caller that has shipped the numbers 1 to 4."""
    assert caller.claim() == ["absent"]
    assert caller.ship(1, 4) == 4
    return caller
