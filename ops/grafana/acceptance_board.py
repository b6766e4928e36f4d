"""The dashboard of the acceptance: what each comparison of the programs came to."""

from typing import Final

from ops.grafana.panels import Board, Panel

_PASSED = "nautilus_acceptance_gate_passed"
_TOTAL = '{scope="total"}'
_RATIO = (
    f"nautilus_acceptance_gate_measured{_TOTAL} / (nautilus_acceptance_gate_allowed{_TOTAL} > 0)"
)
_WHAT_TO_DO = ("`make accept` does not pass",)

_VERDICTS = (
    (
        Panel(
            "Verdict",
            "What the comparison came to as a whole.",
            "short",
            (("nautilus_acceptance_exit_code", "verdict"),),
            "timeline",
            (("pass", "green"), ("FAIL", "red"), ("cannot judge", "orange")),
            _WHAT_TO_DO,
        ),
        Panel(
            "Gates failed",
            "How many gates failed, those of single symbols included.",
            "short",
            ((f"count({_PASSED} == 0) or vector(0)", "failed"),),
            runbook=_WHAT_TO_DO,
        ),
        Panel(
            "Last judged",
            "When the programs were compared last.",
            "dateTimeFromNow",
            (("1000 * max(nautilus_acceptance_judged_seconds)", "judged"),),
            "number",
            nothing="Never",
        ),
    ),
)

_GATES = (
    (
        Panel(
            "Gates of all symbols together",
            "Which gates passed and which failed; one that was not judged is absent.",
            "short",
            ((f"{_PASSED}{_TOTAL}", "{{tier}} {{gate}}"),),
            "timeline",
            (("FAIL", "red"), ("pass", "green")),
            _WHAT_TO_DO,
        ),
        Panel(
            "Measured, as a share of what is allowed",
            "How near each gate of all symbols together is to failing: above 100% it fails.",
            "percentunit",
            ((_RATIO, "{{tier}} {{gate}}"),),
        ),
    ),
)

_PROGRAMS = (
    (
        Panel(
            "Orders",
            "How many orders each program made.",
            "short",
            (("nautilus_acceptance_orders", "{{program}}"),),
        ),
        Panel(
            "Fills",
            "How many fills each program made.",
            "short",
            (("nautilus_acceptance_fills", "{{program}}"),),
        ),
        Panel(
            "Equity curves apart",
            "How far the equity curves of the programs are apart at most.",
            "currencyUSD",
            (("nautilus_acceptance_equity_difference_dollars", "difference"),),
        ),
    ),
)

ACCEPTANCE: Final = Board(
    "nautilus-acceptance",
    "Nautilus acceptance",
    "now-30d",
    "5m",
    {"Verdicts": _VERDICTS, "Gates": _GATES, "Programs": _PROGRAMS},
    {},
)
