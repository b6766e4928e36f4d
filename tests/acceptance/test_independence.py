"""The legacy program is independent of the port and of Nautilus."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from strategies.basis_carry import legacy

FOLDER = Path(legacy.__file__).parent
ROOT = FOLDER.parents[1]
RUN = """
import json, sys
from datetime import UTC, datetime
from decimal import Decimal
from acceptance import record, run
from integrations.binance import dataset, sample
from strategies.basis_carry.params import BasisCarryParams

sample.generate(sys.argv[1], start=datetime(2025, 7, 1, 7, 45, tzinfo=UTC), minutes=5)
params = BasisCarryParams(
    entry_basis_bps=-100.0, exit_basis_bps=-100.0, end_of_run_minutes=Decimal(0)
)
made = run.legacy(dataset.load(sys.argv[1]), params)
print(json.dumps({
    "sha256": record.save(made, sys.argv[2]),
    "fills": made.run.fills,
    "modules": [name for name in sys.modules],
}))
"""


def legacy_run(folder: Path, hash_seed: str) -> dict[str, object]:
    """Run the legacy program on five minutes in a process of its own; return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "data"), str(folder / "result.json")],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Two runs in processes with different PYTHONHASHSEED."""
    return [legacy_run(tmp_path_factory.mktemp("run"), seed) for seed in ("1", "2")]


def test_a_legacy_run_does_not_import_nautilus(runs: list[dict[str, object]]) -> None:
    """From dataset to result file: no Nautilus, no port, no bridge process, no Redis."""
    modules = runs[0]["modules"]
    assert isinstance(modules, list)

    assert runs[0]["fills"]
    assert "strategies.basis_carry.legacy" in modules
    for name in (
        "nautilus_trader",
        "integrations.nautilus",
        "strategies.basis_carry.port",
        "redis",
    ):
        assert name not in modules


def test_the_hash_seed_does_not_change_the_result(runs: list[dict[str, object]]) -> None:
    """Two processes with different PYTHONHASHSEED write the same bytes."""
    assert runs[0]["sha256"] == runs[1]["sha256"]


def imported(path: Path) -> set[str]:
    """Return the modules of this project that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: a relative import"
            module = node.module or ""
            # `from package import module` imports that module.
            inner = {f"{module}.{alias.name}" for alias in node.names}
            names |= {each for each in inner if (ROOT / f"{each.replace('.', '/')}.py").exists()}
            names.add(module)
    top = ("acceptance", "bridge", "integrations", "nautilus_trader", "strategies")
    return {name for name in names if name.split(".")[0] in top}


def test_legacy_imports_the_parameters_only() -> None:
    """And the parameters import nothing of the project."""
    assert imported(FOLDER / "legacy.py") == {"strategies.basis_carry.params"}
    assert imported(FOLDER / "params.py") == set()


def test_the_port_shares_the_parameters_only() -> None:
    """No module of the port imports the legacy program or anything that does."""
    modules = list(FOLDER.glob("port*.py"))
    assert modules

    for path in modules:
        ours = {name for name in imported(path) if not name.startswith("nautilus_trader")}
        allowed = {"strategies.basis_carry", "strategies.basis_carry.params"}
        allowed |= {f"strategies.basis_carry.{each.stem}" for each in modules}
        assert ours <= allowed, path.name
