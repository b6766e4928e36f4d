"""ops/prometheus/acceptance_metrics.py: a comparison becomes a file for node_exporter."""

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.prometheus.acceptance_metrics import main
from tests.ops.comparison import COMPARISON


def written(folder: Path, comparison: object) -> int:
    """Run the command on a comparison; return its exit code."""
    path = folder / "comparison.json"
    path.write_text(json.dumps(comparison))
    return main([str(path), str(folder)])


def test_what_is_told(tmp_path: Path) -> None:
    """Verdict, counts, distance and gates; of a gate that was not judged only what it allows."""
    assert written(tmp_path, COMPARISON) == 0

    text = (tmp_path / "nautilus_acceptance.prom").read_text()
    told = {
        (sample.name.removeprefix("nautilus_acceptance_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    del told["judged_seconds",]
    assert told == {
        ("exit_code",): 1,
        ("orders", "A nautilus"): 12,
        ("orders", "B legacy"): 12,
        ("fills", "A nautilus"): 10,
        ("fills", "B legacy"): 0,
        ("equity_difference_dollars",): 2.5,
        ("gate_passed", "pnl", "total", "contract"): 1,
        ("gate_passed", "fills", "total", "contract"): 0,
        ("gate_measured", "pnl", "total", "contract"): 0.01,
        ("gate_measured", "fills", "total", "contract"): 3,
        ("gate_allowed", "pnl", "total", "contract"): 0.05,
        ("gate_allowed", "fills", "total", "contract"): 0,
        ("gate_allowed", "sharpe", "total", "contract"): 0.1,
    }


@pytest.mark.parametrize("comparison", [{}, [], {**COMPARISON, "gates": [{}]}])
def test_what_is_no_comparison(
    tmp_path: Path, comparison: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 65, the file's name and what to give instead; nothing is written."""
    assert written(tmp_path, comparison) == 65

    assert str(tmp_path / "comparison.json") in capsys.readouterr().err
    assert not (tmp_path / "nautilus_acceptance.prom").exists()


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and the usage."""
    assert main([]) == 2
    assert "usage: python -m ops.prometheus.acceptance_metrics" in capsys.readouterr().err
