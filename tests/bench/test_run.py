"""The bench itself: every row runs, and its verdicts are right. No figure is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import run
from tests.bench.machine import Round

ROOT = Path(__file__).parents[2]
KEYS = {"name", "unit", "min", "median", "max", "bar", "holds"}
NAMES = [
    *("sink", "sink_sparse", "bus", "engine", "native_buffered"),
    *("redis_py_pipeline", "redis_py_xadd", "latency_10k", "latency_50k"),
    *("stall_drain", "kill_lost", "streams_1000", "memory_1m"),
    *("journal_append", "exec_lane", "exec_latency"),
    *("flag_seen", "halt_gate", "halt_done", "guard_cost", "guard_growth"),
    *("ledger", "archive", "audit", "audit_rss"),
    *("backtest", "legacy", "accept_seconds", "ingest", "ingest_rss"),
    *("status", "exec_bytes", "market_bytes"),
]
AT_LEAST = run.Row("speed", "x", ">=", 2.0, run.memory_1m)


@pytest.mark.timeout(600)
def test_every_row_is_measured(tmp_path):
    """One tiny round of each row of the issue's table ends up in the file, in its order."""
    output = tmp_path / "deep" / "bench.json"
    command = [sys.executable, "-m", "tests.bench.run", "--quick", "--output", str(output)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)

    assert done.returncode in (0, 1), done.stderr
    report = json.loads(output.read_text())
    assert [row["name"] for row in report["rows"]] == NAMES
    for row in report["rows"]:
        assert row.keys() >= KEYS
        assert row["min"] <= row["median"] <= row["max"]
    assert report["machine"].keys() >= {"cpus", "python", "redis_server", "nautilus_trader"}


def test_the_median_decides():
    """One bad round of three does not break a bar, two do."""
    good, bad = Round(2.0), Round(1.9)

    assert run.judge(AT_LEAST, [good, bad, good])["holds"]
    assert not run.judge(AT_LEAST, [bad, good, bad])["holds"]


def test_a_loss_in_any_round_breaks_the_bar():
    """An entry lost in one round counts, whatever the median says."""
    fine, lossy = Round(3.0), Round(3.0, lost=1)

    assert not run.judge(AT_LEAST, [fine, fine, lossy])["holds"]


def test_details_are_medians():
    """The absolute figures beside a ratio are medians of their own."""
    rounds = [Round(1.0, {"per_s": each}) for each in (5.0, 1.0, 3.0)]

    assert run.judge(AT_LEAST, rounds)["detail"] == {"per_s": 3.0}


@pytest.mark.parametrize("words", [["--only", "sinc"], ["--rounds", "0"], ["--rounds", "x"]])
def test_bad_usage_is_explained(words, capsys):
    """A row that is not there and a count below 1 exit with 2 and are named."""
    with pytest.raises(SystemExit) as ended:
        run.main(words)

    assert ended.value.code == 2
    assert repr(words[1])[1:-1] in capsys.readouterr().err
