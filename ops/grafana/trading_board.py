"""The dashboard of the trading: may it trade, what did it do, and what has it made."""

from typing import Final

from ops.grafana.panels import (
    BASIS_POINTS,
    MARKS,
    SHOWN,
    STATES,
    Board,
    Panel,
    gauge,
    growth,
    own,
    slippage,
    state,
    times,
)

_STATE = (
    (
        Panel(
            "State",
            "What the gates let pass: all orders, those that reduce, or none.",
            "short",
            ((state(), "{{role}}"),),
            "timeline",
            STATES,
            ("NautilusBridgeHalted", "DISABLED, though the flag is on"),
        ),
        Panel(
            "Flag and latch",
            "The role's flag lets it trade; a halt that is latched holds until somebody resumes.",
            "short",
            (gauge("control_flag", "{{role}} flag"), gauge("control_latched", "{{role}} latch")),
            "timeline",
            (("off", "light-blue"), ("on", "dark-blue")),
            ("NautilusBridgeFlagMismatch", "Resume"),
        ),
        Panel(
            "The last halt took",
            "Of this process: from reading the halt to closed gates, and to the last order's end.",
            "s",
            (
                (f"{own('halt_gate_seconds')} > 0", "{{role}} gates closed"),
                (f"{own('halt_done_seconds')} > 0", "{{role}} orders ended"),
            ),
            "number",
            nothing="No halt",
        ),
    ),
)

_SHOWN = (
    (
        Panel(
            "Filled",
            "Value of what was filled, at the middle when its order was submitted.",
            "currencyUSD",
            ((growth("filled_dollars", "$__range"), "{{role}}"),),
            "number",
        ),
        Panel(
            "Slippage",
            "Paid against that middle, less what was earned, without fees.",
            "currencyUSD",
            ((slippage("$__range"), "{{role}}"),),
            "number",
        ),
        Panel(
            "Stop losses",
            "Positions that their stop loss closed.",
            "short",
            times("stop_losses"),
            "number",
        ),
    ),
)

_ORDERS = (
    (
        Panel(
            "Order entries and fills, in an hour",
            "Changes of orders, and fills, that reached Redis in the hour before.",
            "short",
            (
                (growth("orders_published", "1h"), "{{role}} order entries"),
                (growth("fills_published", "1h"), "{{role}} fills"),
            ),
        ),
        Panel(
            "Refused by the guard, in an hour",
            "Orders and changes that a limit or a closed gate held back, by cause.",
            "short",
            ((growth("orders_refused", "1h", by="role, cause"), "{{role}} {{cause}}"),),
        ),
        Panel(
            "Slippage of the hour before",
            "Dollars paid against the middle, less those earned, per value filled.",
            BASIS_POINTS,
            ((f"10000 * {slippage('1h')} / {growth('filled_dollars', '1h')}", "{{role}}"),),
        ),
    ),
)

_MADE = (
    (
        Panel(
            "Made since midnight UTC",
            "Realized and open PnL of the day, marked and net of fees.",
            "currencyUSD",
            (gauge("day_pnl_dollars"),),
        ),
        Panel(
            "Drawdown",
            "Share of the highest equity that is lost since.",
            "percentunit",
            (gauge("drawdown_ratio"),),
        ),
    ),
    (
        Panel(
            "Open",
            "Positions that are open at the venue, and lots that are open in the ledger.",
            "short",
            (
                gauge("positions_open", "{{role}} positions"),
                gauge("ledger_open_lots", "{{role}} lots"),
            ),
        ),
        Panel(
            "Ledger",
            "Net is the price PnL of closed lots, less fees, plus funding; since the ledger began.",
            "currencyUSD",
            (
                (
                    f"{own('ledger_realized_pnl_dollars')} - {own('ledger_fees_dollars')}"
                    f" + {own('ledger_funding_dollars')}",
                    "{{role}} net",
                ),
                gauge("ledger_realized_pnl_dollars", "{{role}} price PnL"),
                gauge("ledger_fees_dollars", "{{role}} fees paid"),
                gauge("ledger_funding_dollars", "{{role}} funding received"),
            ),
            runbook=("The audit does not agree",),
        ),
    ),
)

TRADING: Final = Board(
    "nautilus-trading",
    "Nautilus trading",
    "now-24h",
    "10s",
    {"State": _STATE, SHOWN: _SHOWN, "Orders and fills": _ORDERS, "Positions and PnL": _MADE},
    MARKS,
)
