"""Verdicts that others came to and left in a file: the last audit, the last acceptance run."""

import json
import os
import time
from pathlib import Path
from typing import Any, Final

AUDIT: Final = "audit.json"
BYTES_MAX: Final = 1 << 24
TEXT_MAX: Final = 500
ACCEPTED: Final = ("pass", "fail", "cannot judge")


def keep_audit(state: Path, verdict: str, text: str) -> None:
    """Keep what an audit came to: `agree`, `differ`, or empty when it could not be told.

    Raises OSError.
    """
    path = state / AUDIT
    told = {"verdict": verdict, "ts_ns": time.time_ns(), "text": text[:TEXT_MAX]}
    fresh = path.with_name(f"{AUDIT}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(told))
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)


def audit(state: Path) -> dict[str, Any] | None:
    """Return the last audit's `verdict`, `ts_ns` and `text`; None where there is none."""
    told, _ = _read(state / AUDIT)
    match told:
        case {"verdict": str(verdict), "ts_ns": int(ts_ns), "text": str(text)}:
            return {"verdict": verdict, "ts_ns": ts_ns, "text": text[:TEXT_MAX]}
    return None


def acceptance(path: Path) -> dict[str, Any] | None:
    """Return the verdict of a comparison.json, as `make accept` writes it, with the file's time;
    None where there is none, or something else."""
    told, ts_ns = _read(path)
    match told:
        case {"verdict": str(verdict), "tier": str(tier), "gates": [*gates], "reasons": [*reasons]}:
            if verdict not in ACCEPTED:
                return None
        case _:
            return None
    passed = [each.get("passed") for each in gates if isinstance(each, dict)]
    counts = {"pass": passed.count(True), "fail": passed.count(False)}
    said = ", ".join([f"{count} {word}" for word, count in counts.items() if count])
    text = "; ".join([f"gates: {said or 'none was judged'}", *map(str, reasons)])
    return {"verdict": verdict, "tier": tier, "ts_ns": ts_ns, "text": text[:TEXT_MAX]}


def _read(path: Path) -> tuple[Any, int]:
    """Return what a file holds as JSON, and when it was written; None for what cannot be read."""
    try:
        known = path.stat()
        if known.st_size > BYTES_MAX:
            return None, 0
        return json.loads(path.read_bytes()), known.st_mtime_ns
    except (OSError, ValueError, RecursionError):
        return None, 0
