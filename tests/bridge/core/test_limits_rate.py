"""bridge/core/limits.py: how many orders may leave in a while."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.limits import Bucket

D = Decimal
SECOND = 10**9


def taken(bucket: Bucket, rate: str, now_ns: int, times: int) -> int:
    """Return how many of so many orders may leave at one time."""
    refusals = [bucket.take(D(rate), now_ns) for _ in range(times)]
    assert all(each is None or each.cause == "max_order_rate" for each in refusals)
    return refusals.count(None)


def test_rate() -> None:
    """As many as the rate may leave at once, then as many as it a second; no more are saved up."""
    bucket = Bucket()
    assert taken(bucket, "5", 0, 9) == 5
    assert taken(bucket, "5", SECOND // 5 - 1, 1) == 0
    assert taken(bucket, "5", SECOND // 5, 2) == 1
    assert taken(bucket, "5", SECOND, 9) == 4
    assert taken(bucket, "5", 1000 * SECOND, 9) == 5


def test_rate_below_one() -> None:
    """Half an order a second is one every two seconds; 0 is none at all."""
    bucket = Bucket()
    assert taken(bucket, "0.5", 0, 3) == 1
    assert taken(bucket, "0.5", 2 * SECOND - 1, 1) == 0
    assert taken(bucket, "0.5", 2 * SECOND, 2) == 1
    assert taken(bucket, "0", 100 * SECOND, 3) == 0
    assert taken(Bucket(), "0", 0, 3) == 0


def test_rate_that_changes() -> None:
    """A lower rate holds at once, also for what was saved up; so does a higher one."""
    bucket = Bucket()
    assert taken(bucket, "10", 0, 1) == 1
    assert taken(bucket, "2", 0, 9) == 2
    assert taken(bucket, "100", SECOND // 10, 99) == 10


def test_rate_and_a_clock_that_is_set_back() -> None:
    """A clock that is set back gives nothing, and takes nothing."""
    bucket = Bucket()
    assert taken(bucket, "2", 100 * SECOND, 3) == 2
    assert taken(bucket, "2", SECOND, 1) == 0
    assert taken(bucket, "2", 2 * SECOND, 3) == 2


@given(
    rate=st.integers(1, 8),
    pauses_ms=st.lists(st.integers(0, 400), min_size=1, max_size=60),
)
def test_rate_over_any_time(rate: int, pauses_ms: list[int]) -> None:
    """Over any stretch of time, no more leave than at once plus the rate times its length."""
    bucket, now_ms, left_at = Bucket(), 0, []
    for pause in pauses_ms:
        now_ms += pause
        if bucket.take(D(rate), now_ms * 10**6) is None:
            left_at.append(now_ms)
    for first, began in enumerate(left_at):
        for count, ended in enumerate(left_at[first:], start=1):
            assert count <= rate + rate * (ended - began) / 1000
