"""A shadow's comparison for the terminal."""

from collections.abc import Iterator
from typing import Final

from acceptance.measures import time_text
from acceptance.report_tables import Table, exact_text
from acceptance.report_text import printable, text_table
from acceptance.shadow import MATCHED, SECOND_NS, Row, Shadowing

HEAD: Final = (
    "verdict", "time", "decision", "shadow qty", "reference qty", "delay s", "price bp",
    "slippage bp", "of reference", "shortfall bp", "of reference",
)  # fmt: skip
ROWS_MAX: Final = 40


def terminal(found: Shadowing) -> str:
    """Return the comparison as lines of plain text."""
    shown = table(found)
    return "\n".join([*map(printable, lines(found)), "", shown.title, *text_table(shown), ""])


def lines(found: Shadowing) -> Iterator[str]:
    """Yield what a person wants to know first: the verdict, the counts, the first divergence."""
    said = ", ".join([f"{count} {name}" for name, count in found.counts.items() if count])
    yield f"{found.verdict}: {said or 'no decision'}"
    yield from [f"  {reason}" for reason in found.reasons]
    if (first := found.divergence) is not None:
        what = f"{first.symbol} {first.leg} {first.side} at {time_text(first.ts)} (ts {first.ts})"
        yield f"  first divergence: {first.verdict}, {what}"


def table(found: Shadowing) -> Table:
    """Return the decisions as a table, at most `ROWS_MAX`: first those that are not the same."""
    rows = sorted(found.rows, key=lambda row: row.verdict == MATCHED)[:ROWS_MAX]
    rows.sort(key=lambda row: row.ts)
    left = len(found.rows) - len(rows)
    title = "Decisions" + (f" ({left} more of them with --json)" if left else "")
    return Table(title, HEAD, tuple(_cells(row) for row in rows), "<<<" + ">" * 8)


def _cells(row: Row) -> tuple[str, ...]:
    def bps(value: float | None) -> str:
        return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"

    return (
        row.verdict,
        time_text(row.ts),
        f"{row.symbol} {row.leg} {row.side}",
        exact_text(row.shadow_qty),
        exact_text(row.reference_qty),
        "-" if row.delay_ns is None else f"{row.delay_ns / SECOND_NS:g}",
        bps(row.worse_bps),
        bps(row.shadow_slippage_bps),
        bps(row.reference_slippage_bps),
        bps(row.shadow_shortfall_bps),
        bps(row.reference_shortfall_bps),
    )
