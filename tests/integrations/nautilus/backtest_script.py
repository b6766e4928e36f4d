"""The documented script, called in this process or started as one."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from integrations.nautilus import run_backtest
from tests.bridge.processes import ROOT, Ended, environment

SCRIPT = ROOT / "integrations" / "nautilus" / "run_backtest.py"
EXAMPLE = ("--strategy", "strategies.example:Example")

type Call = Callable[..., Ended]


def caller(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset: Path,
    folder: Path,
) -> Call:
    """Return `call(*words, **settings)`: the script in this process. Its result goes to `folder`
    and its data come from `dataset`, unless the words say otherwise. However slow the machine is,
    it says nothing of its progress."""
    monkeypatch.setattr("integrations.binance.progress.AFTER_SECONDS", math.inf)

    def call(*words: str, **settings: str) -> Ended:
        monkeypatch.setattr(os, "environ", environment(settings))
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        given = [*words]
        for name, path in (("--output", folder / "result.json"), ("--dataset", dataset)):
            given += [] if name in words or "--config" in words else [name, str(path)]
        if "--config" not in words:
            given += config(folder / "catalog.json", catalog=str(folder / "catalog"))
        return Ended(run_backtest.main(given), *capsys.readouterr())

    return call


def start(
    *words: str, cwd: Path = Path("/"), settings: Mapping[str, str] = {}
) -> "subprocess.Popen[str]":
    """Start the script by its absolute path, from a folder of somebody else's."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        cwd=cwd,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def config(path: Path, **content: Any) -> tuple[str, str]:
    """Write a file of settings; return the words that name it."""
    path.write_text(json.dumps(content))
    return "--config", str(path)
