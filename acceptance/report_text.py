"""A report for the terminal, and as Markdown."""

import re
from collections.abc import Iterator, Sequence

from acceptance.report import Report, divergence_line, headline, reasons
from acceptance.report_tables import DIVERGENT, Table, tables

GAP = "  "


def terminal(told: Report) -> str:
    """Return the report as lines of plain text."""
    lines = [printable(headline(told))]
    lines += [f"  {printable(reason)}" for reason in reasons(told)]
    for table in tables(told):
        if table.title == DIVERGENT and told.divergence:
            lines += ["", printable(divergence_line(told.divergence))]
        lines += ["", table.title, *text_table(table)]
    lines += [text for note in told.notes for text in ("", printable(note))]
    return "\n".join(lines) + "\n"


def text_table(table: Table) -> Iterator[str]:
    """Yield the lines of a table: words to the left, numbers to the right."""
    rows = [[printable(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:{align}{width}}"
            for cell, align, width in zip(row, table.align, widths, strict=True)
        ]
        yield f"  {GAP.join(cells)}".rstrip()


def markdown(told: Report) -> str:
    """Return the report as Markdown."""
    lines = [f"# Acceptance: {_escaped(told.verdict)}", "", _escaped(headline(told))]
    lines += [f"* {_escaped(reason)}" for reason in reasons(told)]
    if told.notes:
        lines += ["", *[f"> {_escaped(note)}" for note in told.notes]]
    for table in tables(told):
        lines += ["", f"## {table.title}", ""]
        if table.title == DIVERGENT and told.divergence:
            lines += [_escaped(divergence_line(told.divergence)), ""]
        rules = " | ".join([":--" if align == "<" else "--:" for align in table.align])
        lines += [_row(table.head), f"| {rules} |", *[_row(row) for row in table.rows]]
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """Return the text without what a terminal would obey."""
    return "".join([each if each.isprintable() else "?" for each in text])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join([_escaped(cell) for cell in cells])} |"


def _escaped(text: str) -> str:
    """Return the text with nothing in it that Markdown or the HTML made of it would take as its
    own."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]#])", r"\\\1", text)
