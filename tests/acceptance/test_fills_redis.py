"""acceptance/fills_redis.py: fills out of a stream, and what is refused."""

import re
from dataclasses import replace
from decimal import Decimal

import pytest

from acceptance import fills_redis, record
from acceptance.fills_csv import FillsError
from acceptance.fills_redis import address
from integrations.binance.manifest import Instrument
from tests.acceptance.fills_rig import add, bare, base, dataset, entry, publish
from tests.acceptance.rigs import END, START
from tests.servers import RedisServer, free_port

FILLS = base().fills or ()


def read(
    server: RedisServer, prefix: str = "", instruments: tuple[Instrument, ...] = ()
) -> list[record.Fill]:
    return fills_redis.read(address(server.url, prefix), instruments, tell=str)


@pytest.mark.parametrize("known", [True, False])
def test_a_stream_comes_back_exactly(redis_server: RedisServer, known: bool) -> None:
    """Every fill of more than one page, by time; with instruments and without."""
    many = [*FILLS] * 40  # more than a thousand
    publish(redis_server.client, sorted(many, key=lambda fill: -fill.ts), "shadow:")

    found = read(redis_server, "shadow:", dataset().instruments if known else ())

    assert len(many) > fills_redis.PAGE_ENTRIES
    assert found == sorted(bare(*many), key=lambda fill: fill.ts)


def test_a_fill_told_twice_counts_once(redis_server: RedisServer) -> None:
    """A repetition differs in what the telling adds only: producer, numbers, event."""
    publish(redis_server.client, FILLS[:2])
    again = entry(FILLS[1], 2) | {"producer": "D.1.1", "seq": "1", "jseq": "9", "event_id": "x"}
    add(redis_server.client, again)

    assert read(redis_server) == bare(*FILLS[:2])


def test_two_fills_of_one_identity_are_refused(redis_server: RedisServer) -> None:
    """Another price under a fill_id that was there: nobody knows which of them is true."""
    publish(redis_server.client, FILLS[:1])
    first = redis_server.client.xrange("exec:fills")[0][0]
    wrong = add(redis_server.client, entry(FILLS[0], 1) | {"price": "7"})

    with pytest.raises(FillsError) as error:
        read(redis_server)

    assert wrong in str(error.value) and f"another fill's, of entry {first}" in str(error.value)


def test_a_fee_is_taken_in_quote_currency(redis_server: RedisServer) -> None:
    """A fee in base currency is worth its price, one in a third currency what fee_quote says."""
    bnb = {"fee_ccy": "BNB", "fee": "0.01", "fee_quote": "6.5"}
    add(redis_server.client, entry(FILLS[0], 1, fee_ccy="BTC", fee="0.001"))
    add(redis_server.client, entry(FILLS[0], 2, **bnb))

    fees = [fill.fee for fill in read(redis_server)]

    assert fees == [FILLS[0].px * Decimal("0.001"), Decimal("6.5")]


def test_made_up_fills_are_left_out_and_told(redis_server: RedisServer) -> None:
    """What reconciliation made up is not counted; how many there were is said."""
    publish(redis_server.client, FILLS[:1])
    add(redis_server.client, entry(FILLS[1], 2, provisional="1"))
    said: list[str] = []

    found = fills_redis.read(address(redis_server.url), tell=said.append)

    assert found == bare(FILLS[0])
    assert said == ["exec:fills: 1 fills made up in reconciliation (provisional) are left out"]


@pytest.mark.parametrize("first", ["0", "1"])
def test_a_made_up_fill_that_is_told_again_gives_way(redis_server: RedisServer, first: str) -> None:
    """A fill that reconciliation made up and the venue told, in either order, is the venue's."""
    changes = {"0": {"provisional": "0"}, "1": {"provisional": "1", "price": "7"}}
    second = {"0": "1", "1": "0"}[first]
    for each in (first, second):
        add(redis_server.client, entry(FILLS[0], 1, **changes[each]))
    said: list[str] = []

    found = fills_redis.read(address(redis_server.url), tell=said.append)

    assert (found, said) == (bare(FILLS[0]), [])


def test_two_strategies_are_not_mixed(redis_server: RedisServer) -> None:
    """Both are named; the one that is chosen, even one without a name, is taken alone."""
    add(redis_server.client, entry(FILLS[0], 1))
    add(redis_server.client, entry(FILLS[1], 2, strategy_id="OTHER-001"))

    with pytest.raises(FillsError) as error:
        read(redis_server)

    said = str(error.value)
    assert "fills of 2 strategy_ids would be mixed; there are: CARRY-001 OTHER-001" in said
    assert "choose by --strategy-id, in a URL by ?strategy_id=" in said
    mine = address(redis_server.url, strategies=["CARRY-001"])
    assert fills_redis.read(mine, tell=str) == bare(FILLS[0])
    theirs = address(f"{redis_server.url}?strategy_id=OTHER-001")
    assert fills_redis.read(theirs, tell=str) == bare(FILLS[1])


def test_another_strategys_market_is_no_problem_of_ours(redis_server: RedisServer) -> None:
    """What it trades need not be in the dataset, nor fit in a result."""
    add(redis_server.client, entry(FILLS[0], 1))
    add(redis_server.client, entry(FILLS[1], 2, strategy_id="X-1", symbol="DOGE", multiplier="10"))
    mine = address(redis_server.url, strategies=["CARRY-001"])

    assert fills_redis.read(mine, dataset().instruments, tell=str) == bare(FILLS[0])


def test_two_accounts_of_one_leg_are_not_mixed(redis_server: RedisServer) -> None:
    """Each leg in an account of its own is one run; a leg in two is not, unless both are chosen."""
    spot = next(fill for fill in FILLS if fill.leg == "spot")
    perp = next(fill for fill in FILLS if fill.leg == "perp")
    for number, (fill, account) in enumerate([(spot, "A"), (perp, "B")]):
        add(redis_server.client, entry(fill, number, account=account))
    assert read(redis_server) == bare(*sorted((spot, perp), key=lambda fill: fill.ts))
    add(redis_server.client, entry(spot, 3, account="C"))

    with pytest.raises(FillsError, match="fills of 2 accounts would be mixed; there are: A B C"):
        read(redis_server)

    for accounts, count in ((["A", "B"], 2), (["C"], 1), (["A", "C"], 2)):
        place = address(redis_server.url, accounts=accounts)
        assert len(fills_redis.read(place, tell=str)) == count


def test_a_choice_that_is_not_there_is_refused(redis_server: RedisServer) -> None:
    """A mistyped strategy or account is no run without fills; those that are there are named."""
    publish(redis_server.client, FILLS[:1])

    for chosen in ({"strategies": ["CARY-001"]}, {"accounts": ["X"]}):
        with pytest.raises(FillsError, match=r"no fill has .* (CARY-001|X); there are: "):
            fills_redis.read(address(redis_server.url, **chosen), tell=str)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"side": "HOLD"}, "side 'HOLD' is neither BUY nor SELL"),
        ({"qty": "0"}, "qty 0 is not above 0"),
        ({"multiplier": "10"}, "no linear contract of one unit"),
        ({"inverse": "1"}, "no linear contract of one unit"),
        ({"fee_ccy": "BNB", "fee_quote": ""}, "has no price (fee_quote)"),
        ({"symbol": "XRPUSDT"}, "symbol 'XRPUSDT' is not one of the dataset's: BTCUSDT"),
    ],
)
def test_an_unusable_entry_is_refused_by_its_id(
    redis_server: RedisServer, changes: dict[str, str], said: str
) -> None:
    """Stream, entry and field are named; nothing is guessed."""
    wrong = add(redis_server.client, entry(FILLS[0], 1, **changes))

    with pytest.raises(FillsError, match=re.escape(f"exec:fills {wrong}: ")) as error:
        read(redis_server, instruments=dataset().instruments)

    assert said in str(error.value)


def test_a_symbol_of_two_venues_needs_the_venues_name(redis_server: RedisServer) -> None:
    """The id decides where the symbol alone cannot; an alias in its place is refused."""
    first = dataset().instruments[0]
    both = (first, replace(first, id="BTCUSDT.OTHER", symbol="OTHER"))
    add(redis_server.client, entry(FILLS[0], 1, venue="OTHER"))

    assert [fill.symbol for fill in read(redis_server, instruments=both)] == ["OTHER"]
    add(redis_server.client, entry(FILLS[0], 2))
    with pytest.raises(FillsError, match="may be several of the dataset's"):
        read(redis_server, instruments=both)


def test_refused_orders_of_the_run_are_counted(redis_server: RedisServer) -> None:
    """exec:orders says how many orders were denied and rejected, inside of the run."""
    place = address(redis_server.url)
    assert fills_redis.refused(place, START, END, str) == {}
    for status, ts in (
        ("denied", START),
        ("denied", END),
        ("rejected", START - 1),
        ("filled", START),
    ):
        redis_server.client.xadd("exec:orders", {"status": status, "ts_ns": str(ts)})

    assert fills_redis.refused(place, START, END, str) == {"denied": 1, "rejected": 0}


def test_refused_orders_of_others_are_not_counted(redis_server: RedisServer) -> None:
    """Another strategy's, another account's; an order denied before it had an account is ours."""
    for strategy, account in (("S", "A"), ("S", ""), ("S", "B"), ("T", "A")):
        told = {"status": "denied", "ts_ns": str(START)}
        told |= {"strategy_id": strategy, "account": account}
        redis_server.client.xadd("exec:orders", told)  # type: ignore[arg-type]
    place = address(redis_server.url, strategies=["S"], accounts=["A"])

    assert fills_redis.refused(place, START, END, str) == {"denied": 2, "rejected": 0}


def test_an_unusable_order_entry_is_refused(redis_server: RedisServer) -> None:
    """A denied order without a time may belong to the run or not."""
    redis_server.client.xadd("exec:orders", {"status": "denied"})

    with pytest.raises(FillsError, match="ts_ns is no integer"):
        fills_redis.refused(address(redis_server.url), START, END, str)


def test_a_redis_that_cannot_be_read_is_named(redis_server: RedisServer) -> None:
    """No server, no stream, another kind of key."""
    redis_server.client.set("exec:fills", "x")
    nobody = f"redis://127.0.0.1:{free_port()}/0"

    for url, prefix, said in (
        (nobody, "", "refused"),
        (redis_server.url, "none:", "none:exec:fills: no fill is there; see --prefix"),
        (redis_server.url, "", "WRONGTYPE"),
    ):
        with pytest.raises(FillsError, match=re.escape(said)):
            fills_redis.read(address(url, prefix), tell=str)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://secret@host/0", "does not begin with redis://"),
        ("redis://:secret@host:port/0", "cannot be read"),
        ("redis://:secret@host/shadow", "database"),
        ("redis://:secret@host/0?color=red", "behind its [?] may stand"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, said: str) -> None:
    """The reason is given, the secret is not."""
    with pytest.raises(FillsError, match=said) as error:
        address(url)

    assert "secret" not in str(error.value)


def test_a_url_may_name_whose_fills_are_taken() -> None:
    """?prefix=, ?strategy_id= and ?account= are ours; the rest is redis.url's, and a password is
    not shown. What is given beside the URL comes first."""
    url = "redis://user:secret@host:7000/2?prefix=shadow:&client_name=me&strategy_id=S&account=A"
    plain = ("redis://user:secret@host:7000/2?client_name=me", "shadow:", "redis://host:7000/2")

    assert address(f"{url}&account=B") == (*plain, ("S",), ("A", "B"))
    assert address(url, strategies=["T"], accounts=["C"]) == (*plain, ("T",), ("C",))
