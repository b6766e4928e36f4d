"""OrderFilled -> an entry of exec:fills: who it was, what it cost, whether it is real."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from nautilus_trader.cache.cache import Cache
from nautilus_trader.model.enums import liquidity_side_to_str, order_side_to_str
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import AccountId
from nautilus_trader.model.instruments import Instrument

from bridge.core import contract
from bridge.core.contract import Entry
from integrations.nautilus.prices import Prices, is_price_of
from integrations.nautilus.values import code, flag, money, place, plain, text, value

# Shapes of trade ids that Nautilus makes up in reconciliation: a UUID of version 5 for a fill
# inferred from an order report, S-<hex>-<hex> for one that squares a position window.
INVENTED_TRADE_ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|S-[0-9a-fA-F]+-[0-9a-fA-F]+"
)


class Fills:
    """Translates fills."""

    def __init__(
        self,
        cache: Cache,
        *,
        venue_alias: Mapping[str, str],
        run_of: Callable[[AccountId], str],
    ) -> None:
        self._cache = cache
        self._venue_alias = venue_alias
        self._run_of = run_of
        self._prices = Prices(cache)

    def entry(self, event: OrderFilled) -> Entry:
        """Return the entry; to be called in the exact decimal context."""
        fill_id = self._fill_id(event)
        instrument = self._cache.instrument(event.instrument_id)
        fee = event.commission
        return contract.entry(
            "fills",
            {
                "fill_id": fill_id,
                "cl_ord_id": event.client_order_id.value,
                "price": text(event.last_px),
                "qty": text(event.last_qty),
                "fee": money(fee),
                **place(event.instrument_id, self._venue_alias),
                "ts_ns": str(event.ts_event),
                "account": event.account_id.value,
                "side": order_side_to_str(event.order_side),
                **_terms(instrument),
                "quote_ccy": event.currency.code,
                "fee_ccy": fee.currency.code,
                "fee_quote": self._fee_quote(event, instrument),
                "liquidity": liquidity_side_to_str(event.liquidity_side),
                "trade_id": event.trade_id.value,
                "venue_order_id": value(event.venue_order_id),
                "position_id": value(event.position_id),
                "strategy_id": event.strategy_id.value,
                "trader_id": event.trader_id.value,
                "provisional": flag(is_invented(event)),
                "recon": flag(event.reconciliation),
                "event_id": event.id.value,
            },
            once=f"fill|{fill_id}",
        )

    def _fill_id(self, event: OrderFilled) -> str:
        """Return the fill's identity: no two fills share it, and a restart does not change it."""
        parts = [
            event.account_id.value,
            event.instrument_id.value,
            value(event.venue_order_id) or event.client_order_id.value,
            order_side_to_str(event.order_side),
            event.trade_id.value,
        ]
        run = self._run_of(event.account_id)
        if run:
            parts.append(run)
        return "|".join([part.replace("%", "%25").replace("|", "%7C") for part in parts])

    def _fee_quote(self, event: OrderFilled, instrument: Instrument | None) -> str:
        """Return the fee in quote currency, empty when there is no price for its currency."""
        fee, quote = event.commission, event.currency
        if fee.currency == quote:
            return money(fee)
        if not fee.raw:
            return "0"
        if instrument is not None and is_price_of(instrument, fee.currency, quote):
            return plain(fee.as_decimal() * event.last_px.as_decimal())
        price = self._prices.of(fee.currency, quote)
        return "" if price is None else plain(fee.as_decimal() * price)


def is_invented(event: OrderFilled) -> bool:
    """Return whether Nautilus made the fill up in reconciliation, until the venue's own comes."""
    return bool(event.reconciliation and INVENTED_TRADE_ID.fullmatch(event.trade_id.value))


def _terms(instrument: Instrument | None) -> dict[str, str]:
    if instrument is None:
        return {"base_ccy": "", "multiplier": "", "inverse": ""}
    return {
        "base_ccy": code(instrument.get_base_currency()),
        "multiplier": text(instrument.multiplier),
        "inverse": flag(instrument.is_inverse),
    }
