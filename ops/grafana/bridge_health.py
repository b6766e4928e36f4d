"""The top of the bridge's dashboard: is it well now, and what was lost in the time shown."""

from typing import Final

from ops.grafana.panels import (
    ALERTS,
    STARTED,
    STATES,
    UP,
    Line,
    Panel,
    gauge,
    growth,
    own,
    state,
    times,
)  # fmt: skip

NOW: Final[tuple[Line, ...]] = (
    (
        Panel(
            "Up",
            "Whether the bridge answers Prometheus.",
            "short",
            ((UP, "{{role}}"),),
            "number",
            (("DOWN", "red"), ("up", "green")),
            ("NautilusBridgeDown", "NautilusBridgeNotScraped", "The exit code"),
            nothing="Not scraped",
        ),
        Panel(
            "State",
            "What the gates let pass: all orders, those that reduce, or none.",
            "short",
            ((state(), "{{role}}"),),
            "number",
            STATES,
            ("NautilusBridgeHalted", "HALTED, and nobody has halted"),
        ),
        Panel(
            "Halt latched",
            "A halt that is latched holds over restarts until somebody resumes.",
            "short",
            (gauge("control_latched"),),
            "number",
            (("no", "green"), ("YES", "red")),
            ("NautilusBridgeLatched", "Resume"),
        ),
        Panel(
            "Alerts firing",
            "How many alerts of this bridge fire; the line below names them.",
            "short",
            ((f"sum by (role) ({ALERTS}) or 0 * sum by (role) ({UP})", "{{role}}"),),
            "number",
            bad_from=1,
        ),
    ),
    (
        Panel(
            "Version",
            "The bridge's version, and NautilusTrader's.",
            "short",
            ((own("info"), "{{role}} {{version}} (Nautilus {{nautilus_version}})"),),
            "name",
        ),
        Panel(
            "Uptime",
            "How long the process runs.",
            "s",
            ((f"time() - {STARTED}", "{{role}}"),),
            "number",
        ),
        Panel(
            "Restarts",
            "How often the process began anew in the time shown.",
            "short",
            ((f"changes({STARTED}[$__range])", "{{role}}"),),
            "number",
            runbook=("The exit code",),
            bad_from=1,
        ),
        Panel(
            "Halted",
            "Share of the time shown in which the state was HALTED, while the bridge ran.",
            "percentunit",
            (
                (
                    f"avg_over_time({own('control_state', state='HALTED')}[$__range])",
                    "{{role}}",
                ),
            ),
            "number",
            runbook=("NautilusBridgeHalted",),
            bad_from=0.0001,
        ),
    ),
    (
        Panel(
            "Alerts",
            "Which alerts fired when; each has a section of its name in the runbook.",
            "short",
            ((f"max by (role, alertname) ({ALERTS})", "{{role}} {{alertname}}"),),
            "timeline",
            (("quiet", "green"), ("firing", "red")),
            nothing="None",
        ),
    ),
)

LOST: Final[tuple[Line, ...]] = (
    (
        Panel(
            "Entries lost to a hole",
            "Execution entries that Redis lost and the journal does not hold: gone for good.",
            "short",
            times("exec_holes"),
            "number",
            runbook=("NautilusBridgeBaseJump",),
            bad_from=1,
        ),
        Panel(
            "Entries that a reader misses",
            "Entries that ledger or archive lack, and that are nowhere any more; the most at once.",
            "short",
            ((f"max_over_time({own('reader_gaps')}[$__range])", "{{role}} {{reader}}"),),
            "number",
            runbook=("NautilusBridgeReaderGap", "The audit does not agree"),
            bad_from=1,
        ),
        Panel(
            "Entries that a reader cannot use",
            "Entries that ledger or archive have put aside, in the stream that ends in :dead.",
            "short",
            (
                (
                    f"round({growth('reader_dead', '$__range', by='role, reader')})",
                    "{{role}} {{reader}}",
                ),
            ),
            "number",
            runbook=("NautilusBridgeDeadLetters", "A reader is behind, or has a gap"),
            bad_from=1,
        ),
        Panel(
            "Events refused",
            "Events of Nautilus that could not become an entry; the log says why.",
            "short",
            times("events_refused"),
            "number",
            runbook=("NautilusBridgeEventsRefused",),
            bad_from=1,
        ),
        Panel(
            "Connections made again",
            "How often Redis had to be connected to once more.",
            "short",
            times("reconnects"),
            "number",
            runbook=("NautilusBridgeRedisErrors",),
        ),
        Panel(
            "Notices lost",
            "Messages to people that no URL of notify.urls took, or that were one too many.",
            "short",
            (
                (
                    f"round({growth('notices_failed', '$__range')}"
                    f" + {growth('notices_dropped', '$__range')})",
                    "{{role}}",
                ),
            ),
            "number",
            runbook=("NautilusBridgeNoticesLost",),
            bad_from=1,
        ),
    ),
)
