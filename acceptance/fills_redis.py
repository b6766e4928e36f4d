"""The fills of a program of anyone's, out of the stream that a bridge writes (`exec:fills`)."""

import contextlib
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import redis

from acceptance.fills_csv import FillsError
from acceptance.shape import Fill
from bridge import endpoints
from bridge.core.contract import TAIL, default_names
from bridge.core.fills import Fill as Told
from bridge.core.fills import cost_of, fill_of, is_spot
from integrations.binance.manifest import Instrument

PAGE_ENTRIES: Final = 1000
SOCKET_SECONDS_MAX: Final = 10.0
TELL_SECONDS: Final = 2.0
# Of the same fill told twice, these may differ: they are of the telling.
OF_THE_TELLING: Final = frozenset({*TAIL, "event_id"})
FAILURES: Final = (redis.RedisError, OSError, UnicodeDecodeError)

REFUSED: Final = ("denied", "rejected")
OURS: Final = ("prefix", "strategy_id", "account")  # in a URL; the rest is of redis.url

type Tell = Callable[[str], None]


class Address(NamedTuple):
    """A Redis, the prefix of the streams in it, and whose fills are taken (empty: not chosen);
    `shown` is fit for messages."""

    url: str
    prefix: str
    shown: str
    strategies: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()


def address(
    text: str,
    prefix: str | None = None,
    *,
    strategies: Sequence[str] = (),
    accounts: Sequence[str] = (),
) -> Address:
    """Return the place that a URL names; what is not given may stand in the URL, as
    `?prefix=shadow:&strategy_id=CARRY-001&account=A-1&account=B-1`.

    Raises FillsError, which never repeats a password.
    """
    base, _, query = text.partition("?")
    given = parse_qs(query)
    found = given.get("prefix", [""])[-1] if prefix is None else prefix
    rest = "&".join([each for each in query.split("&") if each.partition("=")[0] not in OURS])
    url = f"{base}?{rest}" if rest else base
    try:
        endpoints.parse(url)
    except ValueError as error:
        raise FillsError(f"the Redis URL: {error}") from None
    scheme, _, where = base.partition("://")
    return Address(
        url,
        found,
        f"{scheme}://{where.rpartition('@')[2]}",
        tuple(strategies or given.get("strategy_id", ())),
        tuple(accounts or given.get("account", ())),
    )


def read(place: Address, instruments: Sequence[Instrument] = (), *, tell: Tell) -> list[Fill]:
    """Return the fills of the stream, each once, by time. `tell` is given what a person may see.

    An instrument is found among `instruments` by its id, and by its symbol where a venue has
    another name; without instruments the base currency and the kind of market say what it is.
    Raises FillsError with the entry of the first problem, when Redis does not answer, and when
    fills of several strategies, or of several accounts in one leg, would be mixed unchosen.
    """
    key, leg_of = default_names(place.prefix).key("fills"), _Legs(instruments)
    told = _told(place, key, tell)
    strategies = {each.strategy_id for _, each in told}
    _check(place, key, "strategy_id", place.strategies, strategies, mixed=strategies)
    told = [row for row in told if _is_chosen(row[1].strategy_id, place.strategies)]
    fills: list[Fill] = []
    holders: dict[tuple[str, str], set[str]] = {}  # the accounts of a leg
    for where, each in told:
        if not _is_chosen(each.account, place.accounts):
            continue
        try:
            symbol, leg = leg_of(each)
            fills.append(_fill(each, symbol, leg))
        except ValueError as error:
            raise FillsError(f"{where}: {error}") from None
        holders.setdefault((symbol, leg), set()).add(each.account)
    mixed = max(holders.values(), key=len, default=set[str]())
    _check(place, key, "account", place.accounts, {each.account for _, each in told}, mixed=mixed)
    return sorted(fills, key=lambda fill: fill.ts)


def _told(place: Address, key: str, tell: Tell) -> list[tuple[str, Told]]:
    """Return what the stream tells of, each fill once, with the place of its entry."""
    known: dict[str, tuple[str, dict[str, str]]] = {}
    told: list[tuple[str, Told]] = []
    made_up: set[str] = set()
    for entry_id, fields in _entries(place, key, tell):
        where = f"{place.shown} {key} {entry_id}"
        try:
            fill = fill_of(fields)
            if fill.provisional:
                made_up.add(fill.fill_id)
                continue
            same = {name: text for name, text in fields.items() if name not in OF_THE_TELLING}
            first, before = known.setdefault(fill.fill_id, (entry_id, same))
            if before != same:
                raise ValueError(f"fill_id {fill.fill_id} is another fill's, of entry {first}")
        except ValueError as error:
            raise FillsError(f"{where}: {error}") from None
        if first == entry_id:
            told.append((where, fill))
    if not known and not made_up:
        raise FillsError(f"{place.shown} {key}: no fill is there; see --prefix")
    if left_out := len(made_up - known.keys()):
        tell(f"{key}: {left_out} fills made up in reconciliation (provisional) are left out")
    return told


def _is_chosen(name: str, chosen: Collection[str]) -> bool:
    return not chosen or name in chosen


def _check(
    place: Address,
    key: str,
    field: str,
    chosen: Sequence[str],
    found: Collection[str],
    *,
    mixed: Collection[str],
) -> None:
    """Raise FillsError for a choice that is not among those `found`, and where none is made and
    the fills of those `mixed` would be one run's."""
    there = " ".join([shlex.quote(name) for name in sorted(found)]) or "none"
    if absent := sorted(set(chosen) - set(found)):
        what = f"no fill has {field} {' or '.join(absent)}"
    elif not chosen and len(mixed) > 1:
        what = f"fills of {len(mixed)} {field}s would be mixed"
    else:
        return
    option = f"--{field.replace('_', '-')}"
    raise FillsError(
        f"{place.shown} {key}: {what}; there are: {there}; choose by {option}, in a URL by "
        f"?{field}="
    )


def refused(place: Address, start_ns: int, end_ns: int, tell: Tell) -> Mapping[str, int]:
    """Return how many orders of `[start_ns, end_ns)` were denied, and rejected, by `exec:orders`.

    Of the chosen strategies and accounts; an order that was denied may have no account yet.
    Empty where there is no such stream: then nobody knows. Raises FillsError.
    """
    key, counts, is_there = default_names(place.prefix).key("orders"), Counter[str](), False
    for entry_id, fields in _entries(place, key, tell):
        is_there = True
        account = fields.get("account", "")
        if not _is_chosen(fields.get("strategy_id", ""), place.strategies):
            continue
        if account and not _is_chosen(account, place.accounts):
            continue
        try:
            if fields.get("status") in REFUSED and start_ns <= int(fields["ts_ns"]) < end_ns:
                counts[fields["status"]] += 1
        except (KeyError, ValueError):
            raise FillsError(f"{place.shown} {key} {entry_id}: ts_ns is no integer") from None
    return {status: counts[status] for status in REFUSED} if is_there else {}


class _Legs:
    """Which symbol and leg a fill is of, by what its venue calls the instrument."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self._by_name: dict[str, list[Instrument]] = {}
        for each in instruments:
            self._by_name.setdefault(each.id.rpartition(".")[0], []).append(each)

    def __call__(self, told: Told) -> tuple[str, Any]:
        if not self._by_name:
            return told.base, "spot" if is_spot(told) else "perp"
        found = self._by_name.get(told.symbol, [])
        exact = [each for each in found if each.id == f"{told.symbol}.{told.venue}"]
        if len(exact or found) != 1:
            which = "is not one" if not found else "may be several"
            known = ", ".join(self._by_name)
            raise ValueError(f"symbol {told.symbol!r} {which} of the dataset's: {known}")
        instrument = (exact or found)[0]
        return instrument.symbol, instrument.leg


def _fill(told: Told, symbol: str, leg: Any) -> Fill:
    if told.inverse or told.multiplier != 1:
        raise ValueError(f"{told.symbol} is no linear contract of one unit; those are not compared")
    cost = cost_of(told)
    if cost is not None and not (cost.is_priced and cost.ccy == told.quote):
        raise ValueError(f"its fee of {told.fee} {told.fee_ccy} has no price (fee_quote)")
    fee = cost.amount if cost else told.fee
    side: Any = told.side
    return Fill(told.ts_ns, symbol, leg, side, told.qty, told.price, fee)


def _entries(place: Address, key: str, tell: Tell) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the entries of the stream in its order. Raises FillsError."""
    began, count, start = time.monotonic(), 0, "-"
    seconds = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), SOCKET_SECONDS_MAX)
    with contextlib.closing(
        endpoints.sync_client(place.url, decode_responses=True, **seconds)
    ) as client:
        while True:
            try:
                page: Any = client.xrange(key, start, "+", PAGE_ENTRIES)
            except FAILURES as error:
                said = endpoints.told(place.url, error)
                raise FillsError(f"{place.shown} {key}: {said}") from None
            if not page:
                return
            yield from page
            count, start = count + len(page), f"({page[-1][0]}"
            if time.monotonic() > began + TELL_SECONDS:
                began = time.monotonic()
                tell(f"{key}: {count:,} entries read")
