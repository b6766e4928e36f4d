"""Compare two results: can they be judged, does every gate pass, where do they first part?"""

from collections.abc import Iterator
from typing import Final

from acceptance import divergence
from acceptance.consistency import unjudgeable
from acceptance.gates import judge
from acceptance.measures import time_text
from acceptance.shape import Record
from acceptance.tolerance import Tolerances
from acceptance.verdict import EXIT_CODES, Comparison, Divergence, Gate, Tier, Verdict

# Fills that are equal come of equal decisions; no one else's program counts them as ours do.
OPTIONAL: Final = frozenset({"counts", "orders"})

__all__ = ["EXIT_CODES", "Comparison", "Divergence", "Gate", "Tier", "Verdict", "compare"]


def compare(
    a: Record,
    b: Record,
    tolerances: Tolerances,
    *,
    tier: Tier = "strict",
    extra: tuple[Gate, ...] = (),
) -> Comparison:
    """Hold `a` against `b`, the reference, in the gates of a tier and in the `extra` ones.

    It fails when a gate fails. It cannot be judged when there is a reason not to (then no gate is
    judged), or when no gate fails and one is not judged: what was not seen is never a pass. Only
    the `OPTIONAL` gates may be left unjudged; the report names them all the same.
    """
    if reasons := [*_named("A", a), *_named("B", b), *_unlike(a, b)]:
        return Comparison(a, b, tier, "cannot judge", tuple(reasons), ())
    gates = judge(a, b, tolerances.of(b.strategy), tier) + extra
    failed = [gate for gate in gates if gate.passed is False]
    unseen = [gate for gate in gates if gate.passed is None and gate.name not in OPTIONAL]
    verdict: Verdict = "fail" if failed else "cannot judge" if unseen else "pass"
    return Comparison(
        a,
        b,
        tier,
        verdict,
        tuple(map(_reason, failed or unseen)),
        gates,
        divergence.first(a, b) if failed else None,
    )


def _reason(gate: Gate) -> str:
    detail = f": {gate.why}" if gate.why else ""
    if gate.passed is None:
        return f"{gate.name} {gate.scope} not judged{detail}"
    shown = "not comparable" if gate.measured is None else f"{gate.measured:.6g} {gate.unit}"
    return f"{gate.name} {gate.scope} is {shown}, allowed {gate.allowed:g}{detail}"


def _named(name: str, record: Record) -> Iterator[str]:
    """Yield why nothing can be said of this result."""
    for reason in unjudgeable(record):
        yield f"{name} ({record.program}) {reason}"


def _unlike(a: Record, b: Record) -> Iterator[str]:
    """Yield in which of their inputs the two differ, as far as both state them."""
    if a.strategy != b.strategy:
        yield f"strategies differ: {a.strategy} and {b.strategy}"
    if set(a.data.symbols) != set(b.data.symbols):
        yield f"symbols differ: {', '.join(a.data.symbols)} and {', '.join(b.data.symbols)}"
    for what in ("start_ns", "end_ns"):
        one, other = getattr(a.data, what), getattr(b.data, what)
        if one != other:
            yield f"windows differ: {what} is {time_text(one)} and {time_text(other)}"
    if a.data.sha256 and b.data.sha256 and a.data.sha256 != b.data.sha256:
        yield f"data differ: sha256 {a.data.sha256[:12]}... and {b.data.sha256[:12]}..."
    for what in ("events", "last_ts"):
        one, other = getattr(a.data, what), getattr(b.data, what)
        if None not in (one, other) and one != other:
            yield f"data differ: {what} is {one} and {other}"
    if a.params is not None and b.params is not None:
        for name in sorted(a.params.keys() | b.params.keys()):
            one_text, other_text = a.params.get(name), b.params.get(name)
            if one_text != other_text:
                yield f"params differ: {name} is {one_text} and {other_text}"
    if a.instruments is not None and b.instruments is not None:
        rows = [{row.id: row for row in record.instruments or ()} for record in (a, b)]
        for key in sorted(rows[0].keys() | rows[1].keys()):
            if rows[0].get(key) != rows[1].get(key):
                yield f"instruments differ: {key}"
