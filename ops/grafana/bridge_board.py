"""The dashboard of the bridge: is it there, and does it keep up."""

from typing import Final

from ops.grafana.bridge_health import LOST, NOW
from ops.grafana.panels import (
    CONNECTED,
    ENTRIES,
    EVENTS,
    MARKS,
    SHOWN,
    Board,
    Panel,
    gauge,
    latencies,
    own,
    process,
    rates,
)  # fmt: skip

_READER = "A reader is behind, or has a gap"

_RATES = (
    (
        Panel(
            "Events in",
            "Events of Nautilus that the bridge took, by type.",
            EVENTS,
            rates("events_processed", "type"),
        ),
        Panel(
            "Execution entries out",
            "Entries of orders, fills, positions and account that Redis took, by stream.",
            ENTRIES,
            rates("exec_published", "stream"),
        ),
        Panel(
            "Market entries out",
            "Entries of quotes, trades and bars that Redis took, by kind.",
            ENTRIES,
            rates("market_published", "kind"),
        ),
    ),
)

_LATENCY = (
    (
        Panel(
            "From the bridge to Redis and back",
            "Time until Redis acknowledges an entry, for execution and for market entries.",
            "s",
            latencies("publish_latency_seconds", "lane"),
        ),
        Panel(
            "Write into the journal",
            "Time to write one execution entry down before it is sent.",
            "s",
            latencies("journal_append_seconds"),
        ),
        Panel(
            "Age of the last quote",
            "How old the last quote is, of the instrument where it is oldest.",
            "s",
            (gauge("quote_age_seconds"),),
            runbook=("NautilusBridgeStaleData",),
        ),
    ),
)

_BACKLOG = (
    (
        Panel(
            "Waiting for Redis",
            "Entries that Redis has not acknowledged yet.",
            "short",
            (
                gauge("exec_backlog", "{{role}} execution"),
                gauge("market_backlog", "{{role}} market"),
            ),
            runbook=("NautilusBridgeExecBacklog",),
        ),
        Panel(
            "Journal used",
            "Share of journal.bytes_max on the disk; full, it forgets early or trading halts.",
            "percentunit",
            (
                (
                    f"max by (role) ({own('journal_bytes')})"
                    f" / max by (role) ({own('journal_bytes_max')})",
                    "{{role}}",
                ),
            ),
            runbook=("NautilusBridgeJournalGrowing",),
        ),
        Panel(
            "Journal entries not durable yet",
            "Entries written that a power cut would take.",
            "short",
            (gauge("journal_unsynced"),),
        ),
    ),
)

_REDIS = (
    (
        Panel(
            "Connection to Redis",
            "One for execution entries (exec), one for market entries.",
            "short",
            (gauge("connected", "{{role}} {{lane}}"),),
            "timeline",
            CONNECTED,
            ("NautilusBridgeRedisErrors",),
        ),
        Panel(
            "Errors of Redis",
            "Answers that were errors, and connections that broke, by kind.",
            "count:errors/s",
            rates("redis_errors", "kind"),
            runbook=("NautilusBridgeRedisErrors",),
        ),
        Panel(
            "Redis's clock ahead",
            "How far Redis's clock is ahead of the bridge's; below zero it is behind.",
            "s",
            (gauge("redis_clock_ahead_seconds"),),
            runbook=("NautilusBridgeClockSkew",),
        ),
    ),
    (
        Panel(
            "Nautilus's own Redis backing",
            "Whether the node's own connection has died; without such a backing it says well.",
            "short",
            (gauge("native_backing_closed"),),
            "timeline",
            (("well", "green"), ("DEAD", "red")),
            ("NautilusBridgeNativeBackingClosed",),
        ),
        Panel(
            "Market entries lost",
            "Quotes, trades and bars that never reached Redis, by kind and reason.",
            ENTRIES,
            rates("market_dropped", "kind", "reason"),
            runbook=("NautilusBridgeMarketDrops",),
        ),
        Panel(
            "Market entries conflated",
            "Entries that a newer one of the same kind replaced before they were sent.",
            ENTRIES,
            rates("market_conflated", "kind"),
        ),
    ),
)

_READERS = (
    (
        Panel(
            "Reading",
            "Whether ledger and archive read; off where they are not to run in this process.",
            "short",
            ((f"{own('reader_wanted')} + {own('reader_up')}", "{{role}} {{reader}}"),),
            "timeline",
            (("off", "gray"), ("NOT READING", "red"), ("reading", "green")),
            ("NautilusBridgeReaderLag", _READER),
        ),
        Panel(
            "Behind",
            "Entries in Redis that ledger or archive have not taken yet.",
            "short",
            (gauge("reader_lag_entries", "{{role}} {{reader}}"),),
            runbook=("NautilusBridgeReaderLag",),
        ),
        Panel(
            "Entries taken",
            "Execution entries that ledger and archive took.",
            ENTRIES,
            rates("reader_taken", "reader"),
            runbook=("NautilusBridgeArchiveBehind",),
        ),
    ),
)

_PROCESS = (
    (
        Panel(
            "Processor",
            "Share of one processor that the bridge uses.",
            "percentunit",
            ((f"rate({process('cpu_seconds_total')}[$__rate_interval])", "{{role}}"),),
        ),
        Panel(
            "Memory",
            "Resident memory of the bridge.",
            "bytes",
            ((process("resident_memory_bytes"), "{{role}}"),),
        ),
        Panel(
            "Open files",
            "File descriptors that are open, connections among them.",
            "short",
            ((process("open_fds"), "{{role}}"),),
        ),
    ),
)

BRIDGE: Final = Board(
    "nautilus-bridge",
    "Nautilus bridge",
    "now-1h",
    "10s",
    {
        "Now": NOW,
        SHOWN: LOST,
        "Rates": _RATES,
        "Latency": _LATENCY,
        "Backlog": _BACKLOG,
        "Redis": _REDIS,
        "Ledger and archive": _READERS,
        "Process": _PROCESS,
    },
    MARKS,
)
