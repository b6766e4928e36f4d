"""Position events -> entries of exec:positions, with exact quantities and average prices.

Nautilus keeps a position's quantity and average in floats; both are computed again here, from the
fills and by Nautilus's own rules. `realized_pnl` is Nautilus's own figure.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from nautilus_trader.cache.cache import Cache
from nautilus_trader.model.enums import position_side_to_str
from nautilus_trader.model.events import (
    OrderFilled,
    PositionChanged,
    PositionClosed,
    PositionEvent,
    PositionOpened,
)
from nautilus_trader.model.identifiers import PositionId
from nautilus_trader.model.position import Position

from bridge.core import contract
from bridge.core.contract import Entry
from bridge.core.lanes import Refused
from integrations.nautilus.values import average_text, money, place

STATUS_OF: Final[Mapping[type[PositionEvent], str]] = {
    PositionOpened: "opened",
    PositionChanged: "changed",
    PositionClosed: "closed",
}

# How far a float that counts quantities is off, as a share of the largest of them.
FLOAT_NOISE: Final = Decimal("1e-12")

# A spot venue may take its fee off what was bought: at most this share of the fill. A quantity
# that is further off says that another event of the position was missed, or comes too late.
FEE_SHARE_MAX: Final = Decimal("0.01")


class Open(NamedTuple):
    """An open quantity, unsigned, and its average price, weighted as Nautilus does."""

    qty: Decimal
    price: Decimal


NOTHING: Final = Open(Decimal(0), Decimal(0))


class Positions:
    """Translates position events; remembers what each left open."""

    def __init__(self, cache: Cache, *, venue_alias: Mapping[str, str]) -> None:
        self._cache = cache
        self._venue_alias = venue_alias
        self._open: dict[PositionId, Open] = {}

    def reset(self) -> None:
        """Forget the open positions of a run that is over."""
        self._open.clear()

    def entry(self, event: PositionEvent) -> Entry:
        """Return the entry; to be called in the exact decimal context.

        Raises Refused for a class the contract does not know.
        """
        status = STATUS_OF.get(type(event))
        if status is None:
            raise Refused("unknown", f"position event of unknown class {type(event).__name__}")
        after = self._after(event)
        return contract.entry(
            "positions",
            {
                "status": status,
                "account": event.account_id.value,
                **place(event.instrument_id, self._venue_alias),
                "strategy_id": event.strategy_id.value,
                "position_id": event.position_id.value,
                "side": position_side_to_str(event.side),
                "qty": f"{after.qty:.{event.quantity.precision}f}",
                "avg_px": average_text(after.price, precision=event.last_px.precision),
                "realized_pnl": money(event.realized_pnl),
                "ts_ns": str(event.ts_event),
            },
        )

    def _after(self, event: PositionEvent) -> Open:
        """Return what is open after the event; of a closed position the price is the last one."""
        known = self._open.get(event.position_id)
        if isinstance(event, PositionOpened):
            known = NOTHING
        after = None if known is None else _step(known, event)
        if after is None:
            after = self._recall(event)
        if isinstance(event, PositionClosed):
            self._open.pop(event.position_id, None)
        else:
            self._open[event.position_id] = after
        return after

    def _recall(self, event: PositionEvent) -> Open:
        """Return what the position's own fills say: the tap came late, or events out of order."""
        reported = event.quantity.as_decimal()
        latest = None
        for fill, after in self._replay(event):
            latest = after
            last = fill.last_qty.as_decimal()
            is_it = fill.last_px == event.last_px and fill.last_qty == event.last_qty
            if is_it and _is_noise(after.qty - reported, max(after.qty, last)):
                return after
        # Without fills a float is all there is.
        price = Decimal(repr(event.avg_px_open)) if latest is None else latest.price
        return Open(reported, price)

    def _replay(self, event: PositionEvent) -> Iterator[tuple[OrderFilled, Open]]:
        # After a flip the cache holds the new position, and the old one as a snapshot.
        positions = [
            self._cache.position(event.position_id),
            *reversed(self._cache.position_snapshots(event.position_id)),
        ]
        for position in positions:
            if position is not None and position.opening_order_id == event.opening_order_id:
                yield from replay(position)
                return


def _step(known: Open, event: PositionEvent) -> Open | None:
    """Return what one fill made of `known`, None when the event is not the next one behind it."""
    last, reported = event.last_qty.as_decimal(), event.quantity.as_decimal()
    if reported > known.qty:
        qty = known.qty + last
        price = (known.price * known.qty + event.last_px.as_decimal() * last) / qty
    else:
        qty, price = known.qty - last, known.price
    drift = abs(qty - reported)
    if drift > last * FEE_SHARE_MAX:
        return None
    return Open(qty if _is_noise(drift, max(known.qty, last)) else reported, price)


def replay(position: Position) -> Iterator[tuple[OrderFilled, Open]]:
    """Yield the position's fills, oldest first, each with what it left open."""
    signed, price = Decimal(0), Decimal(0)
    for fill in position.events:
        last = fill.last_qty.as_decimal() if fill.is_buy else -fill.last_qty.as_decimal()
        if signed * last >= 0:
            cost = price * abs(signed) + fill.last_px.as_decimal() * abs(last)
            price = cost / abs(signed + last)
        signed += last
        if position.is_spot_currency and fill.commission.currency == position.base_currency:
            net = signed - fill.commission.as_decimal()
            signed = net.quantize(Decimal(1).scaleb(-position.size_precision))
        yield fill, Open(abs(signed), price)


def _is_noise(drift: Decimal, of: Decimal) -> bool:
    return abs(drift) <= of * FLOAT_NOISE
