"""What `python -m bridge doctor` makes of several servers: a Cluster's primaries, each read as one
that stands alone, and for which a key of another one is not there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bridge.doctor import Finding, Level, Reading, Stream

SEVERITY: Final = (Level.OK, Level.UNKNOWN, Level.WARN, Level.LOSE)


def worst(found: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """Return of what was found of each server, by its address, the worst of each name."""
    if len(found) == 1:
        return [each for findings in found.values() for each in findings]
    by_name: dict[str, list[tuple[str, Finding]]] = {}
    for where, findings in found.items():
        for each in findings:
            by_name.setdefault(each.name, []).append((where, each))
    return [_worst(each) for each in by_name.values()]


def _worst(found: Sequence[tuple[str, Finding]]) -> Finding:
    level = max([each.level for _, each in found], key=SEVERITY.index)
    there = {where: each for where, each in found if each.level is level}
    first = next(iter(there.values()))
    return first._replace(what=f"{' '.join(there)}: {first.what}")


def merged(reads: Sequence[Reading]) -> Reading:
    """Return what was read of all keys; the rest is that of the first server."""
    first, *others = reads
    if not others:
        return first
    values = dict(first.values)
    for each in others:
        values |= {key: raw for key, raw in each.values.items() if raw is not None}
    return replace(
        first,
        values=values,
        state=next((each.state for each in reads if each.state), {}),
        metrics=next((each.metrics for each in reads if each.metrics), {}),
        contract=next((each.contract for each in reads if each.contract is not None), None),
        exec_streams={
            kind: next((s for s in _of(reads, kind) if _is_there(s)), stream)
            for kind, stream in first.exec_streams.items()
        },
        market_streams=[stream for each in reads for stream in each.market_streams],
        bus_streams=[stream for each in reads for stream in each.bus_streams],
        traders=sorted({trader for each in reads for trader in each.traders}),
        is_whole=all(each.is_whole for each in reads),
    )


def _of(reads: Sequence[Reading], kind: str) -> list[Stream]:
    return [each.exec_streams[kind] for each in reads]


def _is_there(stream: Stream) -> bool:
    return (stream.type, stream.mark_type) != ("none", "none") or stream.refused is not None
