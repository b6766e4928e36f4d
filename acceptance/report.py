"""What a comparison tells a reader: a record first, tables of text second, renderings last."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, localcontext
from typing import Any, Final

from acceptance.measures import time_text
from acceptance.shape import EXACT, TOTAL, Record, Totals, text_of
from acceptance.verdict import Comparison, Divergence, Gate

PARTS: Final = ("price_spot", "price_perp", "funding", "fees", "net", "turnover")
WORDS: Final = {True: "pass", False: "FAIL", None: "not judged"}
BPS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Program:
    """One side of the comparison: `name` is what it is called here, unlike the other's."""

    name: str
    strategy: str
    mode: str
    data_sha256: str | None
    start_ns: int
    end_ns: int
    symbols: tuple[str, ...]
    events_fed: int | None
    events: int | None
    orders: int | None
    fills: int | None


@dataclass(frozen=True, slots=True)
class Money:
    """What a symbol, or `total`, brought in one program or the other, in USDT; `difference` is a
    less b. None where a program does not say."""

    scope: str
    part: str
    a: Decimal | None
    b: Decimal | None
    difference: Decimal | None


@dataclass(frozen=True, slots=True)
class Deviation:
    """Where the equity curves are furthest apart, of the times that both have; USDT, a less b."""

    ts: int
    difference: Decimal
    points: int


@dataclass(frozen=True, slots=True)
class Report:
    """A comparison in a reader's words. `notes` are no part of the verdict."""

    verdict: str
    exit_code: int
    tier: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    a: Program
    b: Program
    gates: tuple[Gate, ...]
    money: tuple[Money, ...]
    deviation: Deviation | None
    divergence: Divergence | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: numbers of money as text."""
        plain: dict[str, Any] = _plain(asdict(self))
        return {"schema": 1} | plain


def report(comparison: Comparison) -> Report:
    """Return what there is to tell of a comparison.

    Where nothing could be judged, as of a run that stopped early, there is no PnL to tell of.
    """
    a, b = comparison.a, comparison.b
    judged = bool(comparison.gates)
    return Report(
        verdict=comparison.verdict,
        exit_code=comparison.exit_code,
        tier=comparison.tier,
        reasons=comparison.reasons,
        notes=tuple(_notes(a if a.params and a.instruments else b)) if judged else (),
        a=_program(a, f"A {a.program}"),
        b=_program(b, f"B {b.program}"),
        gates=comparison.gates,
        money=tuple(_money(a.totals or {}, b.totals or {})) if judged else (),
        deviation=_deviation(a, b) if judged else None,
        divergence=comparison.divergence,
    )


def differences(a: Record, b: Record) -> list[tuple[int, Decimal]]:
    """Return a's equity less b's, at the times that both have."""
    theirs = dict(b.equity or ())
    with localcontext(EXACT):
        return [(ts, pnl - theirs[ts]) for ts, pnl in a.equity or () if ts in theirs]


def headline(told: Report) -> str:
    """Return the verdict in one line."""
    counts = Counter(WORDS[gate.passed] for gate in told.gates)
    said = ", ".join([f"{counts[word]} {word}" for word in WORDS.values() if counts[word]])
    return f"{told.verdict}: gates of the {told.tier} tier: {said or 'none was judged'}"


def reasons(told: Report) -> tuple[str, ...]:
    """Return why nothing can be judged; why a gate failed stands in the table of gates."""
    return told.reasons if told.verdict == "cannot judge" else ()


def divergence_line(divergence: Divergence) -> str:
    """Return the first divergence in one line."""
    when = f"{time_text(divergence.ts)} (ts {divergence.ts})"
    return f"cause: {divergence.cause}; {divergence.symbol} at {when}: {divergence.why}"


def _program(record: Record, name: str) -> Program:
    data, run = record.data, record.run
    return Program(
        name=name,
        strategy=record.strategy,
        mode=record.mode,
        data_sha256=data.sha256,
        start_ns=data.start_ns,
        end_ns=data.end_ns,
        symbols=data.symbols,
        events_fed=data.events,
        events=run.events,
        orders=run.orders,
        fills=run.fills,
    )


def _notes(record: Record) -> Iterator[str]:
    """Yield what must be known to read the PnL: that the fees alone decide its sign (spec 1.3)."""
    params, fees = record.params or {}, _fees_bps(record)
    if not fees or not {"entry_basis_bps", "exit_basis_bps"} <= params.keys():
        return
    try:
        captured = float(params["entry_basis_bps"]) - float(params["exit_basis_bps"])
    except ValueError:
        return
    spot, perp = min(fees, key=sum)
    cost = 2 * (spot + perp)
    if math.isfinite(captured) and float(cost) > captured:
        yield (
            f"With spot and perp taker fees of {text_of(spot)} and {text_of(perp)} bp a round trip"
            f" costs {text_of(cost)} bp against about {captured:g} bp captured: at these"
            " thresholds the strategy loses by construction. What is judged is whether both"
            " programs trade the same, not whether they earn."
        )


def _fees_bps(record: Record) -> list[tuple[Decimal, Decimal]]:
    """Return the taker's fees of each symbol that has two legs: spot, perp."""
    by_leg = {(each.symbol, each.leg): each.fee * BPS for each in record.instruments or ()}
    return [
        (fee, by_leg[symbol, "perp"])
        for (symbol, leg), fee in by_leg.items()
        if leg == "spot" and (symbol, "perp") in by_leg
    ]


def _money(a: Mapping[str, Totals], b: Mapping[str, Totals]) -> Iterator[Money]:
    scopes = [*dict.fromkeys([*a, *b])]
    for scope in sorted(scopes, key=lambda scope: scope == TOTAL):
        for part in PARTS:
            ours: Decimal | None = getattr(a.get(scope), part, None)
            theirs: Decimal | None = getattr(b.get(scope), part, None)
            with localcontext(EXACT):
                both = ours is not None and theirs is not None
                difference = ours - theirs if both else None  # type: ignore[operator]
            yield Money(scope, part, ours, theirs, difference)


def _deviation(a: Record, b: Record) -> Deviation | None:
    found = differences(a, b)
    if not found:
        return None
    ts, difference = max(found, key=lambda point: abs(point[1]))
    return Deviation(ts, difference, len(found))


def _plain(value: Any) -> Any:
    """Return what JSON can hold, with decimals as text."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return text_of(value) if isinstance(value, Decimal) else value
