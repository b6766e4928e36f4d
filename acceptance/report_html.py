"""A report as one HTML page: no script, nothing to fetch, light and dark, wide and narrow."""

from collections.abc import Sequence
from decimal import Decimal
from html import escape
from typing import Final

from acceptance.measures import time_text
from acceptance.report import Report, differences, divergence_line, headline, reasons
from acceptance.report_chart import Curve, chart
from acceptance.report_tables import DIVERGENT, GATES, Table, exact_text, gate_table, tables
from acceptance.shape import Record

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#59636e;--paper:#fff;--line:#d1d9e0;
--soft:#f3f5f8;--a:#0969da;--b:#bc4c00;--pass:#1a7f37;--fail:#cf222e;--open:#7d5e00}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--paper:#0d1117;--line:#30363d;
--soft:#161b22;--a:#58a6ff;--b:#f0883e;--pass:#3fb950;--fail:#ff7b72;--open:#d9a400}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:72rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.pass{color:var(--pass)}.fail{color:var(--fail)}.open{color:var(--open)}
.verdict{display:inline-block;padding:.1rem .7rem;border:2px solid;border-radius:1rem;
font-weight:600}
.note{border-left:4px solid var(--line);padding:.25rem .75rem;color:var(--dim)}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{padding:.3rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{background:var(--soft);white-space:nowrap}tr:last-child td{border-bottom:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
figure{margin:1rem 0 2rem}figcaption{font-weight:600}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.25rem 0;padding:0}
.key{display:inline-block;width:1.5rem;height:0;margin-right:.4rem;vertical-align:middle;
border-top:3px solid}
.key.a{border-color:var(--a)}.key.b{border-top-style:dashed;border-color:var(--b)}
.key.d{border-color:var(--ink)}
.chart{display:grid;grid-template-columns:4.5rem 1fr;grid-template-rows:15rem 1.5rem;gap:0 .5rem;
font-size:.75rem;color:var(--dim);font-variant-numeric:tabular-nums;padding:.5rem 1rem 0 0}
.ys,.xs{position:relative}.xs{grid-column:2}
.ys span{position:absolute;right:0;transform:translateY(-50%)}
.xs span{position:absolute;top:.25rem;transform:translateX(-50%);white-space:nowrap}
svg{width:100%;height:100%;overflow:visible}
polyline{fill:none;stroke-width:2;stroke-linejoin:round;vector-effect:non-scaling-stroke}
polyline.a{stroke:var(--a);stroke-width:4;stroke-opacity:.55}
polyline.b{stroke:var(--b);stroke-dasharray:6 4}polyline.d{stroke:var(--ink)}
line{vector-effect:non-scaling-stroke;stroke:var(--line)}line.zero{stroke:var(--dim)}
summary{cursor:pointer;padding:.5rem 0}
@media print{.wide{overflow:visible}}
"""
CLASSES: Final = {
    "pass": "pass", "fail": "fail", "FAIL": "fail", "cannot judge": "open", "not judged": "open",
}  # fmt: skip


def page(told: Report, a: Record, b: Record) -> str:
    """Return the page; the curves are those of the two results that the report is about."""
    title = escape(f"Acceptance: {told.a.name} and {told.b.name}")
    why = "".join(f"<li>{escape(reason)}</li>" for reason in reasons(told))
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in told.notes)
    parts = [
        f"<h1>{title}</h1>",
        f'<p><span class="verdict {CLASSES[told.verdict]}">{escape(told.verdict)}</span></p>',
        f"<p>{escape(headline(told))}</p>",
        f"<ul>{why}</ul>" if why else "",
        notes,
        *[_section(told, a, b, table) for table in tables(told)],
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _charts(told: Report, a: Record, b: Record) -> list[str]:
    apart = differences(a, b)
    curves = [
        Curve(told.a.name, "a", _floats(a.equity or ())),
        Curve(told.b.name, "b", _floats(b.equity or ())),
    ]
    ends = " and ".join(
        f"{curve.name} ends at {curve.points[-1][1]:,.2f} USDT" for curve in curves if curve.points
    )
    found = [chart("equity", "PnL of both, USDT", f"{ends}.", curves)]
    if told.deviation:
        most = told.deviation
        about = (
            f"A less B at {most.points} times; furthest apart by {exact_text(most.difference)}"
            f" USDT at {time_text(most.ts)}."
        )
        curve = Curve("A - B", "d", _floats(apart))
        found += [chart("apart", "Difference, USDT", about, [curve]), f"<p>{escape(about)}</p>"]
    return found


def _floats(points: Sequence[tuple[int, Decimal]]) -> list[tuple[int, float]]:
    return [(ts, float(value)) for ts, value in points]


def _section(told: Report, a: Record, b: Record, table: Table) -> str:
    """Return a table with its title and what belongs to it."""
    parts = [f"<h2>{escape(table.title)}</h2>"]
    if table.title == DIVERGENT and told.divergence:
        parts.append(f"<p>{escape(divergence_line(told.divergence))}</p>")
    parts.append(_rows(table))
    if table.title == GATES:
        every = _rows(gate_table("All gates", told.gates))
        parts.append(f"<details><summary>All {len(told.gates)} gates</summary>{every}</details>")
        parts += ["<h2>Equity</h2>", *_charts(told, a, b)]
    return "".join(parts)


def _rows(table: Table) -> str:
    """Return the table in a frame of its own, which scrolls where the page is too narrow."""
    head = "".join(
        f'<th scope="col"{" class=n" if align == ">" else ""}>{escape(cell)}</th>'
        for cell, align in zip(table.head, table.align, strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row, table.align))}</tr>" for row in table.rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(table.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str, align: str) -> str:
    style = "n" if align == ">" else CLASSES.get(text, "")
    return f"<td{f' class={style}' if style else ''}>{escape(text)}</td>"
