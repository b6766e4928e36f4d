"""The tables of a report, as text: what all its renderings show."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from acceptance.measures import time_text
from acceptance.report import PARTS, WORDS, Program, Report
from acceptance.shape import Fill, text_of
from acceptance.tolerance import WIDER
from acceptance.verdict import Divergence, Gate

DIVERGENT: Final = "First divergent fill"
GATES: Final = "Gates"
NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under `head`; `align` has `<` for a column of words, `>` for one of numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str


def tables(told: Report) -> list[Table]:
    """Return the report's tables, those that answer first: the divergent fill, gates, PnL, runs.

    All but the last only where there is something in them.
    """
    found = []
    if told.divergence:
        rows = tuple(_fill_rows(told.divergence, told.a.name, told.b.name))
        head: tuple[str, ...] = ("", "program", "time", "fill", "fee", "mid", "reason")
        found.append(Table(DIVERGENT, head, rows, "<" * len(head)))
    if told.gates:
        found.append(gate_table(GATES, _grouped(told.gates)))
    if told.money:
        head = ("symbol", "program", *[part.replace("_", " ") for part in PARTS])
        align = "<<" + ">" * len(PARTS)
        found.append(Table("PnL in USDT", head, tuple(_money_rows(told)), align))
    runs = tuple(_run_rows(told.a, told.b))
    return [*found, Table("Runs", ("", told.a.name, told.b.name), runs, "<>>")]


def gate_table(title: str, gates: Iterable[Gate]) -> Table:
    """Return gates as a table, those that did not pass first."""
    rows = [
        (
            WORDS[gate.passed],
            gate.tier,
            gate.name,
            gate.scope,
            figure(gate.measured),
            figure(gate.allowed),
            gate.unit,
            gate.why,
        )
        for gate in sorted(gates, key=lambda gate: (gate.passed is True, gate.passed is None))
    ]
    head = ("verdict", "tier", "gate", "scope", "measured", "allowed", "unit", "why")
    return Table(title, head, tuple(rows), "<<<<>><<")


def figure(value: float | None) -> str:
    """Return a measured figure, six digits of it."""
    return NOTHING if value is None else f"{value:.6g}"


def money_text(amount: Decimal | None, places: int = 2) -> str:
    """Return an amount rounded to cents, or to so many places."""
    if amount is None:
        return NOTHING
    text = f"{amount:,.{places}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def exact_text(amount: Decimal | None) -> str:
    """Return all digits of an amount."""
    return NOTHING if amount is None else text_of(amount)


def _run_rows(a: Program, b: Program) -> Iterator[tuple[str, ...]]:
    def shown(value: object) -> str:
        return NOTHING if value is None else f"{value:,}" if isinstance(value, int) else str(value)

    yield "strategy", a.strategy, b.strategy
    yield "from", time_text(a.start_ns), time_text(b.start_ns)
    yield "to", time_text(a.end_ns), time_text(b.end_ns)
    yield "symbols", " ".join(a.symbols), " ".join(b.symbols)
    yield "data sha256", (a.data_sha256 or NOTHING)[:16], (b.data_sha256 or NOTHING)[:16]
    for name in ("events_fed", "events", "orders", "fills"):
        yield name.replace("_", " "), shown(getattr(a, name)), shown(getattr(b, name))


def _money_rows(told: Report) -> Iterator[tuple[str, ...]]:
    """Yield three rows a symbol: a, b, and exactly what lies between them."""
    for scope in dict.fromkeys([each.scope for each in told.money]):
        cells = [each for each in told.money if each.scope == scope]
        yield scope, told.a.name, *[money_text(each.a) for each in cells]
        yield "", told.b.name, *[money_text(each.b) for each in cells]
        yield "", "A - B", *[exact_text(each.difference) for each in cells]


def _grouped(gates: Sequence[Gate]) -> list[Gate]:
    """Return the gates with one line for all scopes of a gate that passed, of the worst of them."""
    found: list[Gate] = [gate for gate in gates if gate.passed is False]
    others: dict[tuple[object, ...], list[Gate]] = {}
    for gate in gates:
        if gate.passed is not False:
            key = (gate.tier, gate.name, gate.unit, gate.allowed, gate.passed)
            others.setdefault(key, []).append(gate)
    for same in others.values():
        worst = max(same, key=lambda gate: gate.measured or 0)
        scopes = ", ".join(dict.fromkeys([gate.scope for gate in same]))
        scopes = scopes if len(same) <= 4 else f"{len(same)} scopes"
        # Detail of a gate that passed is in the full list. Why one is not judged belongs here, and
        # that one was made easier to pass.
        why = worst.why if worst.passed is None or WIDER in worst.why else ""
        found.append(
            Gate(worst.name, worst.tier, scopes, worst.unit, worst.measured, worst.allowed,
                 worst.passed, why)
        )  # fmt: skip
    return found


def _fill_rows(divergence: Divergence, a: str, b: str) -> Iterator[tuple[str, ...]]:
    """Yield the fills around the divergence, the divergent ones marked."""
    for name, one, around in (
        (a, divergence.a, divergence.around_a),
        (b, divergence.b, divergence.around_b),
    ):
        if one is None:
            yield ">", name, "no such fill", *[""] * 4
        for fill in around or ([one] if one else []):
            yield ">" if fill == one else "", name, *_fill_cells(fill)


def _fill_cells(fill: Fill) -> tuple[str, ...]:
    text = f"{fill.symbol} {fill.leg} {fill.side} {text_of(fill.qty)} @ {text_of(fill.px)}"
    return (
        time_text(fill.ts), text, text_of(fill.fee), exact_text(fill.mid), fill.reason or NOTHING,
    )  # fmt: skip
