"""The command line of `python -m integrations.binance`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integrations.binance import __main__ as command
from integrations.binance.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["ingest", "--source", ".", "--catalog", "x"],
        ["ingest", "--source", "no such folder", "--catalog", "x", "--symbols", "BTCUSDT"],
        ["verify", "--source", ".", "--symbols", "BTCUSDT", "--market", "options"],
    ],
)
def test_usage(words, capsys):
    """Something is missing, is not there, or is unknown."""
    with pytest.raises(SystemExit) as caught:
        main(words)

    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_sample_never_replaces_what_is_not_one(tmp_path, capsys):
    """A folder with something else in it: 2, and it stays as it is."""
    (tmp_path / "mine.txt").write_text("mine")

    assert main(["sample", str(tmp_path)]) == 2
    assert "is not a generated dataset" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_interrupted(tmp_path, capsys, monkeypatch):
    """Ctrl-C while it works: 130, and what to do."""

    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "find_jobs", interrupted)

    assert main(["verify", "--source", str(tmp_path), "--symbols", "BTCUSDT"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on where it was\n"


def test_interrupted_while_it_imports(tmp_path):
    """Ctrl-C in the first second: no traceback."""
    (tmp_path / "pyarrow.py").write_text("import signal; signal.raise_signal(signal.SIGINT)\n")

    ended = subprocess.run(
        [sys.executable, "-m", "integrations.binance", "verify"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
