"""The last acceptance comparison as metrics, for node_exporter's textfile collector.

`python -m ops.prometheus.acceptance_metrics artifacts/acceptance/comparison.json FOLDER` writes
FOLDER/nautilus_acceptance.prom, where FOLDER is what node_exporter's
`--collector.textfile.directory` names. Prometheus keeps what it said before: that is the history.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

USAGE = "usage: python -m ops.prometheus.acceptance_metrics COMPARISON.json FOLDER"
PREFIX = "nautilus_acceptance"
GATE_LABELS = ("tier", "gate", "scope")


def registry_of(comparison: Mapping[str, Any], judged_seconds: float) -> CollectorRegistry:
    """Return the metrics of what `python -m acceptance compare` wrote (schema 1).

    A gate that was not judged has no sample. Raises KeyError when it is something else.
    """
    registry = CollectorRegistry()

    def gauge(name: str, said: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", said, labels, registry=registry)

    gauge("exit_code", "0 pass, 1 fail, 2 cannot judge.").set(comparison["exit_code"])
    gauge("judged_seconds", "When it was judged, Unix time.").set(judged_seconds)
    for each in ("orders", "fills"):
        counted = gauge(each, f"How many {each} a program made.", "program")
        for side in ("a", "b"):
            counted.labels(comparison[side]["name"]).set(comparison[side][each] or 0)
    if comparison["deviation"] is not None:
        apart = gauge("equity_difference_dollars", "How far the equity curves are apart at most.")
        apart.set(abs(float(comparison["deviation"]["difference"])))
    passed = gauge("gate_passed", "1 when the gate passed.", *GATE_LABELS)
    measured = gauge("gate_measured", "What the gate measured, in its unit.", *GATE_LABELS)
    allowed = gauge("gate_allowed", "What the gate allows, in its unit.", *GATE_LABELS)
    for gate in comparison["gates"]:
        labels = gate["tier"], gate["name"], gate["scope"]
        allowed.labels(*labels).set(gate["allowed"])
        if gate["passed"] is not None:
            passed.labels(*labels).set(gate["passed"])
        if gate["measured"] is not None:
            measured.labels(*labels).set(gate["measured"])
    return registry


def main(words: list[str]) -> int:
    """Write the file. Returns 2 for wrong arguments, 65 for a file that is no comparison."""
    if len(words) != 2:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    path, folder = map(Path, words)
    try:
        registry = registry_of(json.loads(path.read_text()), path.stat().st_mtime)
        write_to_textfile(str(folder / f"{PREFIX}.prom"), registry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(
            f"{path}: cannot be turned into metrics in {folder}: {type(error).__name__}: {error};"
            " give a comparison.json of `make accept` and a folder that exists\n"
        )
        return 65
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
