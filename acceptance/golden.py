"""A pinned result: what a run has to be, to the last decimal, until that is changed on purpose.

The file has the inputs, counts, totals and metrics as they are and a sha256 of each long part, so
that it is small and still says what changed. The program's name and its dust are no part of it:
both programs have the same golden.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from acceptance.consistency import unjudgeable
from acceptance.record import RecordError, dumps
from acceptance.shape import TOTAL, Record, Totals
from acceptance.verdict import Gate

FILE: Final = Path(__file__).with_name("goldens") / "basis_carry.json"
HASHED: Final = ("instruments", "params", "days", "orders", "fills", "funding", "equity")
HASHES: Final = "sha256."
SHOWN_MAX: Final = 4  # values that the gate tells of
COMMAND: Final = "python -m acceptance golden RESULT GOLDEN --write"


def check(record: Record, path: Path | str = FILE) -> Gate:
    """Return the gate `golden`: is this the pinned result? Not judged when there is none, or when
    the result is no evidence.

    Raises RecordError for a golden file that cannot be read.
    """
    if record.mode != "full":
        return _gate(None, None, "only a full result can be pinned")
    if reasons := unjudgeable(record):
        return _gate(None, None, f"the result {reasons[0]}")
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return _gate(None, None, f"{path} does not exist; pin a result with `{COMMAND}`")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        pinned = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON ({error}); pin a result with `{COMMAND}`") from error
    if not isinstance(pinned, dict):
        raise RecordError(f"{path}: not a golden file; pin a result with `{COMMAND}`")
    changes = dict(_changes("", pinned, summary(record)))
    if not changes:
        return _gate(0.0, True, "")
    parts = dict.fromkeys(_part(where) for where in changes)
    values = [change for where, change in changes.items() if not where.startswith(HASHES)]
    shown = "; ".join([f"changed: {', '.join(parts)}", *values[:SHOWN_MAX]])
    return _gate(float(len(changes)), False, f"{shown}; if that is meant: `{COMMAND}`")


def write(record: Record, path: Path | str = FILE) -> None:
    """Pin a result. Raises RecordError for one that lacks parts or cannot be judged, OSError."""
    if record.mode != "full" or record.totals is None:
        raise RecordError("only a full result can be pinned; run it with --mode full")
    if reasons := unjudgeable(record):
        raise RecordError(f"a result that cannot be judged is not pinned: it {'; '.join(reasons)}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary(record), indent=2, sort_keys=True)
    Path(path).write_text(text + "\n", encoding="utf-8")


def summary(record: Record) -> dict[str, Any]:
    """Return what of a result is pinned."""
    days = tuple((ts, _without_dust(rows)) for ts, rows in record.days or ())
    common = replace(record, program="pinned", days=days, totals=_without_dust(record.totals or {}))
    content: dict[str, Any] = json.loads(dumps(common))
    hashes = {name: _sha256(content.pop(name)) for name in HASHED if name in content}
    del content["program"]
    return content | {"sha256": hashes}


def _without_dust(totals: Mapping[str, Totals]) -> dict[str, Totals]:
    """Return totals without what the legacy program alone can tell."""
    return {scope: replace(row, dust=None) for scope, row in totals.items()}


def _sha256(part: Any) -> str:
    text = json.dumps(part, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _changes(where: str, pinned: Any, found: Any) -> Iterator[tuple[str, str]]:
    """Yield the place of each value that is not as it was, and what it was and is."""
    if isinstance(pinned, dict) and isinstance(found, dict):
        for key in sorted(pinned.keys() | found.keys()):
            inner = f"{where}.{key}" if where else key
            yield from _changes(inner, pinned.get(key), found.get(key))
    elif pinned != found:
        yield where, f"{where} was {pinned}, is {found}"


def _part(where: str) -> str:
    return where.removeprefix(HASHES).split(".")[0]


def _gate(measured: float | None, passed: bool | None, why: str) -> Gate:
    return Gate("golden", "strict", TOTAL, "values", measured, 0.0, passed, why)
