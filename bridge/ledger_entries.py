"""Entries as the ledger takes them: their fields, their order, and which are the same."""

from decimal import Decimal

from bridge.core.fills import Fill
from bridge.reading import Item


class Conflict(ValueError):
    """Two fills have the same id, and are not the same."""


def fields_of(item: Item) -> dict[str, str]:
    """Return an entry's fields by name. Raises ValueError when one is not UTF-8."""
    texts = b"\0".join(item.fields).decode().split("\0")  # one decode is faster than sixty
    if len(texts) != len(item.fields):
        texts = [field.decode() for field in item.fields]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def raw(item: Item, name: bytes) -> str:
    """Return one field of whatever an entry holds."""
    fields = dict(zip(item.fields[::2], item.fields[1::2], strict=False))
    return fields.get(name, b"").decode(errors="replace")


def in_time[T](fills: list[tuple[Fill, T]]) -> list[tuple[Fill, T]]:
    """Sort a batch as its books will, so that few of them have to be built again: by time, and
    each producer's fills in their order."""
    clocks: dict[str, int] = {}
    keys: dict[str, tuple[int, str, int]] = {}
    for fill, _ in fills:
        at_ns = max(fill.ts_ns, clocks.get(fill.producer, 0) if fill.producer else 0)
        clocks[fill.producer] = at_ns
        keys[fill.fill_id] = at_ns, fill.producer, fill.seq
    return sorted(fills, key=lambda pair: keys[pair[0].fill_id])


def check_same(fill: Fill, known: tuple[str, ...]) -> None:
    """Raise Conflict when a fill is not the one that is known under its id."""
    *place, qty, price, fee, fee_ccy, producer, seq, entry_id = known
    now = [fill.account, fill.venue, fill.symbol, fill.side]
    amounts = Decimal(qty), Decimal(price), Decimal(fee)
    same_fee = fee_ccy == fill.fee_ccy or not fill.fee
    if place != now or amounts != (fill.qty, fill.price, fill.fee) or not same_fee:
        who = f"{producer} {seq}" if producer else f"entry {entry_id}"
        raise Conflict(
            f"conflict: fill_id {fill.fill_id} was told by {who} as {' '.join(place)} {qty} at"
            f" {price}, fee {fee} {fee_ccy}, now as {' '.join(now)} {fill.qty:f} at"
            f" {fill.price:f}, fee {fill.fee:f} {fill.fee_ccy}"
        )
