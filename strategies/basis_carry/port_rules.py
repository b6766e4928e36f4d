"""The rules of the Nautilus port that need no engine: sizes, clips, exits.

All numbers but the signals are exact decimals; call these functions in the context `EXACT`.
"""

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

from strategies.basis_carry.params import BasisCarryParams
from strategies.basis_carry.port_memory import HIGH_FUNDING, RICH_BASIS, ZERO, Record

# Python's default of 28 digits would round a product of quantity, mark and rate.
EXACT: Final = Context(prec=60)
FUNDING_UNIT: Final = Decimal("1e-8")  # what an amount of funding is rounded to
# After these both reasons to enter wait until their signals have come down.
DISARMING: Final = ("stop_loss", "hedge_divergence", "timeout")


@dataclass(frozen=True, slots=True)
class Leg:
    """What a venue demands of the orders in one instrument; `min_notional` in quote currency."""

    lot: Decimal
    min_notional: Decimal


@dataclass(frozen=True, slots=True)
class Pair:
    """The two legs of a symbol. Raises ValueError when no lot is a multiple of the other."""

    spot: Leg
    perp: Leg

    def __post_init__(self) -> None:
        if self.lot % min(self.spot.lot, self.perp.lot):
            raise ValueError(
                f"the lots {self.spot.lot} (spot) and {self.perp.lot} (perpetual) do not fit: one "
                "has to be a multiple of the other"
            )

    @property
    def lot(self) -> Decimal:
        """Return the step of a size that both legs can trade."""
        return max(self.spot.lot, self.perp.lot)

    @property
    def entry_min(self) -> Decimal:
        """Return what a clip of an entry has to be worth."""
        return 2 * max(self.spot.min_notional, self.perp.min_notional)


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bids and asks of both legs, and the sizes shown there."""

    spot_bid: Decimal
    spot_ask: Decimal
    spot_bid_size: Decimal
    spot_ask_size: Decimal
    perp_bid: Decimal
    perp_ask: Decimal
    perp_bid_size: Decimal
    perp_ask_size: Decimal

    @property
    def entry_price(self) -> Decimal:
        """Return what a clip of an entry is valued at."""
        return min(self.spot_ask, self.perp_bid)


def entry_quantity(
    pair: Pair, params: BasisCarryParams, fraction: Decimal, open_notional: Decimal, touch: Touch
) -> Decimal:
    """Return how much an entry buys, 0 for no entry. `fraction` of the full size is traded."""
    notional = min(
        (fraction * params.max_gross * params.equity - open_notional) / 2,
        fraction * params.max_notional,
    )
    if notional < params.min_notional * fraction:
        return ZERO
    quantity = max(ZERO, notional) // (touch.spot_ask * pair.lot) * pair.lot
    return quantity if quantity * touch.entry_price >= pair.entry_min else ZERO


def exit_reason(
    record: Record,
    params: BasisCarryParams,
    *,
    ts_ns: int,
    basis_bps: float,
    funding_annual: float,
    value: Decimal,
    is_ending: bool,
) -> str:
    """Return why to leave now, or nothing.

    `basis_bps` is not rounded; `value` is of what is held, at mid.
    """
    unrealized = value - record.spot_cost + record.perp_proceeds + record.funding
    if record.spot_cost and round(unrealized / record.spot_cost, 9) <= -params.stop_loss_pct:
        return "stop_loss"
    if round(basis_bps - record.basis_bps, 9) >= params.hedge_divergence_bps:
        return "hedge_divergence"
    if record.reason == RICH_BASIS and round(basis_bps, 9) <= params.exit_basis_bps:
        return "basis_reverted"
    if record.reason == HIGH_FUNDING and funding_annual <= params.exit_funding_annual:
        return "funding_faded"
    if ts_ns - record.ts_ns >= params.timeout_ns:
        return "timeout"
    return "end_of_run" if is_ending else ""


def is_flat(pair: Pair, spot: Decimal, perp: Decimal, touch: Touch) -> bool:
    """Whether nothing is left that could be traded."""
    is_dust = spot < pair.spot.lot or spot * touch.spot_bid < pair.spot.min_notional
    return is_dust and not perp


def entry_orders(
    pair: Pair, left: Decimal, spot: Decimal, perp: Decimal, touch: Touch, ratio: Decimal
) -> tuple[Decimal, Decimal]:
    """Return what to trade now of the spot and the perp, signed, with `left` still to be bought."""
    shown = min(touch.spot_ask_size, touch.perp_bid_size)
    lot, step = pair.lot, pair.perp.lot

    def perp_order(clip: Decimal) -> Decimal:
        return perp_target(pair, spot + clip, ratio) - perp

    clip = min(floored(left, pair.spot.lot), floored(shown, lot))
    if -perp_order(clip) > touch.perp_bid_size:  # with what a refused order has left
        # The largest clip with floor(ratio * (spot + clip) / step) * step <= shown - perp.
        room = floored(touch.perp_bid_size - perp, step) + step - ratio * spot
        clip = max(ZERO, raised(room, ratio * lot) / ratio - lot)
    # After a refused spot order the hedge may be there already, or too large: it is cut by buying.
    is_hedged = perp_order(ZERO) > 0 and perp_order(clip) >= 0
    if not is_hedged and -perp_order(clip) * touch.perp_bid < pair.perp.min_notional:
        clip = ZERO
    if clip * touch.entry_price < pair.entry_min:
        clip = ZERO
    order = capped(perp_order(clip), step, touch)
    is_worth = order > 0 or -order * touch.perp_bid >= pair.perp.min_notional
    return clip, order if is_worth else ZERO


def exit_orders(
    pair: Pair, spot: Decimal, perp: Decimal, touch: Touch, ratio: Decimal
) -> tuple[Decimal, Decimal]:
    """Return what to trade now of the spot and the perp, signed, to become flat."""
    shown = min(touch.spot_bid_size, touch.perp_ask_size)
    lot, step, sold_min = pair.lot, pair.perp.lot, pair.spot.min_notional

    def perp_order(clip: Decimal) -> Decimal:
        # The hedge only shrinks now, whatever it was before.
        return max(perp_target(pair, spot - clip, ratio), min(perp, ZERO)) - perp

    clip = min(floored(spot, pair.spot.lot), floored(shown, lot))
    if perp_order(clip) > touch.perp_ask_size:
        # The largest clip with floor(ratio * (spot - clip) / step) * step >= -perp - shown.
        kept = raised(-perp - touch.perp_ask_size, step)
        clip = max(ZERO, floored(ratio * spot - kept, ratio * lot) / ratio)
    if 0 < (spot - clip) * touch.spot_bid < sold_min:
        smaller = floored(spot - raised(sold_min / touch.spot_bid, lot), lot)
        if 0 < smaller < clip:
            clip = smaller
    if clip * touch.spot_bid < sold_min:
        clip = ZERO
    return -clip, capped(perp_order(clip), step, touch)


def perp_target(pair: Pair, spot: Decimal, ratio: Decimal) -> Decimal:
    """Return the position of the perpetual that hedges this much spot."""
    return -floored(ratio * spot, pair.perp.lot)


def capped(perp: Decimal, step: Decimal, touch: Touch) -> Decimal:
    """Return a signed order of the perp, cut to what is shown on the side that it hits."""
    if perp < 0:
        return -min(-perp, floored(touch.perp_bid_size, step))
    return min(perp, floored(touch.perp_ask_size, step))


def floored(value: Decimal, step: Decimal) -> Decimal:
    """Return the largest multiple of `step` that is not above `value`, which is 0 or more."""
    return value // step * step


def raised(value: Decimal, step: Decimal) -> Decimal:
    """Return the smallest multiple of `step` that is not below `value`."""
    whole = value // step * step
    return whole if whole >= value else whole + step
