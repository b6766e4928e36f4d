"""What the dashboards show: titles, units and PromQL, before Grafana's own format.

`$role` and `$__rate_interval` are Grafana's variables: the roles chosen above the panels, and four
scrape intervals or more.
"""

from typing import Final, Literal, NamedTuple


class Panel(NamedTuple):
    """One panel; `queries` are pairs of an expression and how its series are called.

    `unit` is Grafana's name of one. A timeline shows the one of `words` that a number stands for.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["lines", "timeline", "number"] = "lines"
    words: tuple[str, ...] = ()


class Board(NamedTuple):
    """One dashboard, in the file `<uid>.json`: rows of panels by their titles."""

    uid: str
    title: str
    since: str
    rows: dict[str, tuple[Panel, ...]]


STATES: Final = ("ACTIVE", "REDUCING", "DISABLED", "HALTED")


def own(name: str, **labels: str) -> str:
    """Return the selector of a metric of the bridge."""
    wanted = ", ".join(['role=~"$role"', *(f'{key}="{value}"' for key, value in labels.items())])
    return f"nautilus_bridge_{name}{{{wanted}}}"


def rate(name: str, *labels: str) -> str:
    """Return how much a counter grows a second, by role and these labels."""
    by = ", ".join(("role", *labels))
    return f"sum by ({by}) (rate({own(f'{name}_total')}[$__rate_interval]))"


def quantile(share: float, name: str, *labels: str) -> str:
    """Return a quantile of a histogram, by role and these labels."""
    by = ", ".join(("role", "le", *labels))
    buckets = f"rate({own(f'{name}_bucket')}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({by}) ({buckets}))"


def each(*names: str) -> tuple[tuple[str, str], ...]:
    """Return queries of gauges under their own names."""
    return tuple([(own(name), f"{{{{role}}}} {name.replace('_', ' ')}") for name in names])


def rates(name: str, label: str) -> tuple[tuple[str, str], ...]:
    """Return the query of a counter by one label."""
    return ((rate(name, label), f"{{{{role}}}} {{{{{label}}}}}"),)


def process(name: str) -> tuple[tuple[str, str], ...]:
    """Return the query of a metric of the process."""
    selector = f'process_{name}{{job="nautilus-bridge", role=~"$role"}}'
    is_counter = name.endswith("_total")
    return ((f"rate({selector}[$__rate_interval])" if is_counter else selector, "{{role}}"),)


def latencies(name: str, *labels: str) -> tuple[tuple[str, str], ...]:
    """Return the queries of the median and the 99th percentile."""
    said = " ".join([f"{{{{{label}}}}}" for label in ("role", *labels)])
    return tuple([(quantile(q, name, *labels), f"{said} p{q * 100:g}") for q in (0.5, 0.99)])


def state() -> str:
    """Return the place of the state in force in `STATES`."""
    places = [f"{i} * {own('control_state', state=name)}" for i, name in enumerate(STATES)]
    return " + ".join([f"sum by (role) ({place})" for place in places])


def slippage() -> str:
    """Return what was paid against the middle, in basis points of what was filled."""
    paid, earned, filled = [
        f"sum by (role) (increase({selector}[1h]))"
        for selector in (
            own("slippage_dollars_total", sign="paid"),
            own("slippage_dollars_total", sign="earned"),
            own("filled_dollars_total"),
        )
    ]
    return f"10000 * ({paid} - {earned}) / {filled}"


BRIDGE: Final = Board(
    "nautilus-bridge",
    "Nautilus bridge",
    "now-1h",
    {
        "Rates": (
            Panel("Events", "ops", rates("events_processed", "type")),
            Panel("Execution entries in Redis", "ops", rates("exec_published", "stream")),
            Panel("Market entries in Redis", "ops", rates("market_published", "kind")),
        ),
        "Latency": (
            Panel("Publish to acknowledgement", "s", latencies("publish_latency_seconds", "lane")),
            Panel("Journal append", "s", latencies("journal_append_seconds")),
            Panel("Age of the oldest last quote", "s", each("quote_age_seconds")),
        ),
        "Backlog": (
            Panel("Not acknowledged", "short", each("exec_backlog", "market_backlog")),
            Panel("In flight", "short", ((own("in_flight"), "{{role}} {{lane}}"),)),
            Panel("Journal, and its bound", "bytes", each("journal_bytes", "journal_bytes_max")),
            Panel("Journal entries not durable yet", "short", each("journal_unsynced")),
        ),
        "Errors": (
            Panel("Redis errors", "ops", rates("redis_errors", "kind")),
            Panel(
                "Market entries lost",
                "ops",
                ((rate("market_dropped", "kind", "reason"), "{{role}} {{kind}} {{reason}}"),),
            ),
            Panel("Market entries conflated", "ops", rates("market_conflated", "kind")),
            Panel("Events refused", "ops", rates("events_refused", "reason")),
            Panel("Connections made again", "ops", rates("reconnects", "lane")),
            Panel("Numbers bridged", "short", each("exec_holes_total")),
            Panel("Redis's clock ahead", "s", each("redis_clock_ahead_seconds")),
            Panel(
                "Connected",
                "short",
                ((own("connected"), "{{role}} {{lane}}"),),
                "timeline",
                ("away", "connected"),
            ),
        ),
        "Readers": (
            Panel("Behind", "short", ((own("reader_lag_entries"), "{{role}} {{reader}}"),)),
            Panel("Entries taken", "ops", rates("reader_taken", "reader")),
            Panel(
                "Missing, and not usable",
                "short",
                (
                    (own("reader_gaps"), "{{role}} {{reader}} missing"),
                    (own("reader_dead_total"), "{{role}} {{reader}} dead"),
                ),
            ),
            Panel(
                "Reading",
                "short",
                ((own("reader_up"), "{{role}} {{reader}}"),),
                "timeline",
                ("no", "yes"),
            ),
        ),
        "Process": (
            Panel("Processor time", "percentunit", process("cpu_seconds_total")),
            Panel("Resident memory", "bytes", process("resident_memory_bytes")),
            Panel("Open files", "short", process("open_fds")),
        ),
    },
)

TRADING: Final = Board(
    "nautilus-trading",
    "Nautilus trading",
    "now-24h",
    {
        "State": (
            Panel("State", "short", ((state(), "{{role}}"),), "timeline", STATES),
            Panel(
                "Flag and latch",
                "short",
                each("control_flag", "control_latched"),
                "timeline",
                ("off", "on"),
            ),
            Panel("The last halt", "s", each("halt_gate_seconds", "halt_done_seconds"), "number"),
        ),
        "Orders and fills": (
            Panel("Order entries", "ops", ((rate("orders_published"), "{{role}}"),)),
            Panel("Fills", "ops", ((rate("fills_published"), "{{role}}"),)),
            Panel("Refused by the guard", "ops", rates("orders_refused", "cause")),
            Panel("Filled", "currencyUSD", each("filled_dollars_total")),
            Panel(
                "Slippage of the last hour, in basis points", "short", ((slippage(), "{{role}}"),)
            ),
            Panel(
                "Slippage",
                "currencyUSD",
                ((own("slippage_dollars_total"), "{{role}} {{sign}}"),),
            ),
        ),
        "Positions and PnL": (
            Panel("Open", "short", each("positions_open", "ledger_open_lots")),
            Panel("Made since midnight UTC", "currencyUSD", each("day_pnl_dollars")),
            Panel("Drawdown", "percentunit", each("drawdown_ratio")),
            Panel(
                "Ledger",
                "currencyUSD",
                each(
                    "ledger_realized_pnl_dollars", "ledger_fees_dollars", "ledger_funding_dollars"
                ),
            ),
            Panel("Stop losses", "short", each("stop_losses_total")),
        ),
    },
)

PASSED: Final = "nautilus_acceptance_gate_passed"
MEASURED: Final = "nautilus_acceptance_gate_measured"
ALLOWED: Final = "nautilus_acceptance_gate_allowed"

ACCEPTANCE: Final = Board(
    "nautilus-acceptance",
    "Nautilus acceptance",
    "now-30d",
    {
        "Verdicts": (
            Panel(
                "Verdict",
                "short",
                (("nautilus_acceptance_exit_code", "verdict"),),
                "timeline",
                ("pass", "fail", "cannot judge"),
            ),
            Panel(
                "Gates",
                "short",
                (
                    (f"count({PASSED} == 1) or vector(0)", "passed"),
                    (f"count({PASSED} == 0) or vector(0)", "failed"),
                ),
            ),
            Panel(
                "Last judged",
                "dateTimeFromNow",
                (("1000 * max(nautilus_acceptance_judged_seconds)", ""),),
                "number",
            ),
        ),
        "Programs": (
            Panel("Fills", "short", (("nautilus_acceptance_fills", "{{program}}"),)),
            Panel("Orders", "short", (("nautilus_acceptance_orders", "{{program}}"),)),
            Panel(
                "Equity curves apart, at most",
                "currencyUSD",
                (("nautilus_acceptance_equity_difference_dollars", "difference"),),
            ),
        ),
        "Gates": (
            Panel(
                "Measured over allowed, of all symbols together",
                "percentunit",
                (
                    (
                        f'{MEASURED}{{scope="total"}} / ({ALLOWED}{{scope="total"}} > 0)',
                        "{{tier}} {{gate}}",
                    ),
                ),
            ),
            Panel("Measured", "short", ((MEASURED, "{{gate}} {{scope}}"),)),
        ),
    },
)

BOARDS: Final = (BRIDGE, TRADING, ACCEPTANCE)
