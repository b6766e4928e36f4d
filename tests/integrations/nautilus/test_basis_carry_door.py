"""The documented script of the basis carry strategy: an import, and a self-test."""

import re
import subprocess
import sys
from decimal import Decimal

from integrations.nautilus import strategy_basis_carry_nt
from strategies.basis_carry import port
from tests.bridge.processes import ROOT, environment

SCRIPT = ROOT / "integrations" / "nautilus" / "strategy_basis_carry_nt.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Return how the script has ended, started from `/`."""
    words = [sys.executable, *options, str(SCRIPT)]
    return subprocess.run(
        words, cwd="/", env=environment({}), capture_output=True, text=True, timeout=30
    )


def test_it_is_the_strategy():
    """The documented import gives the one class that there is."""
    assert strategy_basis_carry_nt.NautilusBasisCarryStrategy is port.NautilusBasisCarryStrategy


def test_the_self_test():
    """Run by its path from anywhere it prints three round trips, and PnL that adds up; exit 0."""
    ended = run()

    assert (ended.returncode, ended.stderr) == (0, "")
    fills = re.findall(r"^\d\d:\d\d  (BUY |SELL) \S+ (BTC\S+) at .*, (\w+)$", ended.stdout, re.M)
    entry = [("BUY ", "BTCUSDT.BINANCE_SPOT"), ("SELL", "BTCUSDT-PERP.BINANCE_FUTURES")]
    left = [("SELL", "BTCUSDT.BINANCE_SPOT"), ("BUY ", "BTCUSDT-PERP.BINANCE_FUTURES")]
    assert [fill[:2] for fill in fills] == (entry + left) * 3
    assert [fill[2] for fill in fills] == (["rich_basis"] * 2 + ["basis_reverted"] * 2) * 3
    *parts, net = [
        Decimal(x) for x in re.findall(r"^[a-z, ]+ +(-?[\d.]+)(?: USDT.*)?$", ended.stdout, re.M)
    ]
    assert len(parts) == 3
    assert sum(parts) == net


def test_a_failed_self_test(monkeypatch, capsys):
    """When the strategy does something else, it says what was expected and what was found: 1."""
    monkeypatch.setattr(strategy_basis_carry_nt, "MINUTES", 10)

    assert strategy_basis_carry_nt.main() == 1
    said = capsys.readouterr().out
    assert "1 round trips, 1 exits, 6 fills; expected 3, 3, 12" in said
    assert said.endswith("FAILED\n")


def test_nautilus_is_not_installed():
    """An interpreter without any package: 2 and what to install, in one line."""
    ended = run("-S")

    assert ended.returncode == 2
    assert ended.stderr == "nautilus_trader is not installed: pip install -r requirements.txt\n"
