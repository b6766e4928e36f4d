"""bridge/core/scripts.py, on a real redis-server and on fakeredis: every answer of every script."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import scripts
from bridge.core.scripts import mark_key
from tests.bridge.core.callers import MARK, STREAM, Caller, foreign, numbered
from tests.servers import RedisServer, free_port

# A claim.


def test_a_claim_answers_by_producer(owner: Caller) -> None:
    """Each producer gets its last number, `none` when the stream knows it not, in their order."""
    assert owner.claim("Q", "P", "R") == ["none", "4", "none"]


def test_a_claim_of_no_stream_is_absent(caller: Caller) -> None:
    """A stream that is not there is told from one that does not know the producer."""
    assert caller.claim("P", "Q") == ["absent", "absent"]
    assert caller.client.hgetall(MARK) == {"owner:S": "t"}
    assert not caller.client.exists(STREAM)


def test_a_claim_fences_the_owner_before(owner: Caller) -> None:
    """From then on only the new token writes; the same scope never has two."""
    other = Caller(owner.client, token="u")

    assert other.claim() == ["4"]
    before = owner.everything
    assert owner.ship(5, 6) == f"FENCED {MARK}"
    assert owner.remark(1, "1-1") == f"FENCED {MARK}"
    assert owner.everything == before
    assert other.ship(5, 6) == 6


def test_a_claim_tells_what_follows_the_mark(caller: Caller) -> None:
    """Where the stream goes on behind the mark, the answer has both ids: somebody has to look."""
    caller.claim()
    caller.ship(1, 2)
    assert caller.call(scripts.CLAIM, "P") == ["2"]
    last = caller.last_id

    later = caller.client.xadd(STREAM, {"n": "of another"})

    assert caller.call(scripts.CLAIM, "P") == [f"2 {last} {later}"]


def test_scopes_do_not_fence_each_other(owner: Caller) -> None:
    """Producers of different scopes write the same stream side by side."""
    other = Caller(owner.client, producer="Q", token="u", scope="other")

    assert other.claim() == ["none"]
    assert other.ship(1, 2) == 2
    assert owner.ship(5, 5) == 5
    foreign(owner, 1)
    assert other.ship(3, 3) == 3
    assert owner.ship(6, 6) == 6
    assert owner.claim("P", "Q") == ["6", "3"]
    assert [n for n in owner.entries if n[0] == "P"] == numbered("P", 1, 6)
    assert [n for n in owner.entries if n[0] == "Q"] == numbered("Q", 1, 3)


def test_nobody_writes_unclaimed(caller: Caller) -> None:
    """Without an owner nothing is written, whatever the token."""
    foreign(caller, 1)
    before = caller.everything

    assert caller.ship(1, 2) == f"UNCLAIMED {MARK}"
    assert caller.remark(1, "1-1") == f"UNCLAIMED {MARK}"
    assert caller.everything == before


# What is shipped.


def test_a_receipt_is_the_last_number(owner: Caller) -> None:
    """The mark holds the last number, its id, and how many entries the stream has had."""
    assert owner.ship(5, 9) == 9

    assert owner.entries == numbered("P", 1, 9)
    assert owner.mark == f"9 {owner.last_id} 9"


@pytest.mark.parametrize(("first", "last", "mark"), [(1, 4, 4), (2, 3, 4), (1, 7, 7), (4, 5, 5)])
def test_known_numbers_are_skipped(owner: Caller, first: int, last: int, mark: int) -> None:
    """A batch that is there, whole or in part, adds what is missing and nothing else."""
    assert owner.ship(first, last) == mark

    assert owner.entries == numbered("P", 1, mark)


def test_a_gap_is_refused(owner: Caller) -> None:
    """What does not follow the mark is not written; the answer tells the mark."""
    before = owner.everything

    assert owner.ship(6, 8) == "GAP 4"
    assert owner.everything == before


def test_the_first_number_of_a_producer_is_one(owner: Caller) -> None:
    """An unknown producer's mark is 0: it begins at 1 or behind a base of 0."""
    other = Caller(owner.client, producer="Q")

    assert other.ship(2, 2) == "GAP 0"
    assert other.ship(501, 502, base=0) == 502


def test_a_base_bridges_a_hole(owner: Caller) -> None:
    """Behind a hole it goes on where `base` is the mark, and numbers known by then are skipped."""
    assert owner.ship(8, 9, base=4) == 9
    assert owner.ship(8, 10, base=4) == 10
    assert owner.entries == [*numbered("P", 1, 4), *numbered("P", 8, 10)]


@pytest.mark.parametrize("base", ["3", "5", "04", "-1", "x", "4 "])
def test_a_base_is_the_mark_and_nothing_else(owner: Caller, base: str) -> None:
    """A base that is another number than the mark bridges nothing."""
    before = owner.everything

    assert owner.ship(8, 9, base=base) == "GAP 4"
    assert owner.everything == before


def test_numbers_are_exact(owner: Caller) -> None:
    """Numbers as large as a double holds exactly are neither rounded nor written as 1e15."""
    large = 2**53 - 2

    assert owner.ship(large, large + 1, base=4) == large + 1
    assert owner.mark == f"{large + 1} {owner.last_id} 6"
    assert owner.claim() == [str(large + 1)]
    assert owner.ship(large, large + 1) == large + 1


def test_a_large_batch_is_one_call(owner: Caller) -> None:
    """As many entries as a batch may hold go in one call."""
    assert owner.ship(5, 10_004) == 10_004
    assert owner.client.xlen(STREAM) == 10_004


@given(batches=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), max_size=12))
def test_whatever_is_sent_each_number_is_there_once(
    _shared_redis: RedisServer, batches: list[tuple[int, int]]
) -> None:
    """Batches in any order, repeated and overlapping, leave the numbers 1 to the mark, once."""
    _shared_redis.client.delete(STREAM, MARK)
    caller = Caller(_shared_redis.client)
    caller.claim()
    mark = 0
    for first, more in batches:
        answer = caller.ship(first, first + more)
        follows = first <= mark + 1
        mark = max(mark, first + more) if follows else mark
        assert answer == (mark if follows else f"GAP {mark}")

    assert caller.entries == numbered("P", 1, mark)


# The cluster.


def test_both_keys_are_in_one_slot(make_redis: Callable[..., RedisServer]) -> None:
    """A Cluster runs the scripts: stream and mark share a slot, whatever the stream is called."""
    # Its bus would be 10,000 above the port, which may be above the last one.
    server = make_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    client = server.client
    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    for name in (STREAM, "demo:exec:fills", "a b", "é"):
        slots = {client.execute_command("CLUSTER", "KEYSLOT", k) for k in (name, mark_key(name))}
        assert len(slots) == 1, name
    while "cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
        pass
    caller = Caller(client)

    assert caller.claim() == ["absent"]
    assert caller.ship(1, 2) == 2


# Who holds the lease.


def lease(caller: Caller, ours: str, instead_of: str = "", milliseconds: object = 60_000) -> Any:
    return caller.client.eval(scripts.LEASE, 1, "lease", ours, milliseconds, instead_of)


def test_a_lease_has_one_holder(caller: Caller) -> None:
    """The first one gets it and renews it; another one is told who holds it."""
    assert lease(caller, "a", milliseconds=10_000) == "a"
    assert lease(caller, "b") == "a"
    assert lease(caller, "b", instead_of="c") == "a"
    assert 0 < caller.client.pttl("lease") <= 10_000
    assert lease(caller, "a") == "a"
    assert caller.client.pttl("lease") > 10_000


@pytest.mark.parametrize("instead_of", ["a", "*"])
def test_a_lease_is_taken_over(caller: Caller, instead_of: str) -> None:
    """Whoever names the holder, or does not care who it is, takes its place."""
    lease(caller, "a")

    assert lease(caller, "b", instead_of=instead_of) == "b"
    assert lease(caller, "a") == "b"


def test_a_lease_is_released_by_its_holder(caller: Caller) -> None:
    """Nobody gives back what another one holds, or what nobody holds."""
    lease(caller, "a")

    assert caller.client.eval(scripts.RELEASE, 1, "lease", "b") == 0
    assert caller.client.get("lease") == "a"
    assert caller.client.eval(scripts.RELEASE, 1, "lease", "a") == 1
    assert caller.client.eval(scripts.RELEASE, 1, "lease", "a") == 0
    assert lease(caller, "b") == "b"
