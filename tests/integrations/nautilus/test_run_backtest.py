"""The documented script: what it writes, publishes and refuses, and how it ends."""

import json
import shutil
import signal
from decimal import Decimal as D
from pathlib import Path

import pytest

from acceptance import record
from bridge import exits
from integrations.binance import sample, week
from integrations.nautilus import backtest_settings
from integrations.nautilus.backtest_settings import Account, BacktestSettings
from integrations.nautilus.run_backtest import ENGINE_FLAG, INTERRUPTED
from strategies.basis_carry.params import BasisCarryParams
from tests.bridge.processes import ROOT, Ended, eventually
from tests.integrations.nautilus.backtest_script import (
    EXAMPLE,
    Call,
    caller,
    config,
    start,
)
from tests.servers import RedisServer


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset: Path,
    tmp_path: Path,
) -> Call:
    """Return `call(*words, **settings)`."""
    return caller(monkeypatch, capsys, dataset, tmp_path)


# What it writes.


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' data are converted."""
    return tmp_path_factory.mktemp("catalog")


def test_equal_runs_write_equal_bytes(dataset: Path, catalog: Path, tmp_path: Path) -> None:
    """By its absolute path from `/`, with different hash seeds; the second reuses the catalog."""
    results = []
    for seed in ("0", "4711"):
        output = tmp_path / f"{seed}.json"
        given = config(
            tmp_path / "settings.json",
            dataset=str(dataset / "spot.parquet"),
            catalog=str(catalog / "seeds"),
            output=str(output),
            strategy="strategies.example:Example",
        )
        process = start(*given, settings={"PYTHONHASHSEED": seed})
        out, err = process.communicate(timeout=50)
        assert process.returncode == exits.DONE, err
        assert "net " in out
        assert ("catalog.reused" in err, "catalog.written" in err) == (seed != "0", seed == "0")
        results.append(output.read_bytes())
    assert results[0] == results[1]
    result = record.load(tmp_path / "0.json")
    assert (result.program, result.run.fills) == ("nautilus", len(result.fills or ()))
    assert result.run.events == result.data.events > 0


def test_fast_leaves_the_rows_out(call: Call, tmp_path: Path) -> None:
    """Fills and orders are counted and not listed; symbols are those that were asked for."""
    ended = call(*EXAMPLE, "--mode", "fast", "--symbols", "SOL")
    assert ended.code == exits.DONE, ended.err
    result = record.load(tmp_path / "result.json")
    assert (result.mode, result.fills, result.orders) == ("fast", None, None)
    assert (result.data.symbols, (result.run.fills or 0) > 0) == (("SOL",), True)


def test_the_parameters_reach_the_strategy(call: Call, tmp_path: Path) -> None:
    """From a TOML file; a parameter that the strategy does not know is refused."""
    params = tmp_path / "params.toml"
    params.write_text("entry_basis = 1\n")
    ended = call("--params", str(params))
    assert ended.code == exits.CONFIGURATION
    assert "unknown parameter entry_basis" in ended.complaint


def test_parameters_for_a_strategy_that_takes_none(call: Call, tmp_path: Path) -> None:
    """They are not ignored."""
    params = tmp_path / "params.toml"
    params.write_text("notional = 1\n")
    ended = call(*EXAMPLE, "--params", str(params))
    assert ended.code == exits.CONFIGURATION
    assert "strategies.example:Example has no field params" in ended.complaint


def test_the_example_of_settings_is_what_the_defaults_are(call: Call) -> None:
    """`strategies/basis_carry/backtest.json` loads, and the dataset's own terms are in it."""
    given = backtest_settings.load(ROOT / "strategies" / "basis_carry" / "backtest.json")
    default = backtest_settings.load()
    assert BasisCarryParams.from_mapping(given.params) == BasisCarryParams()
    assert (given.strategy, given.mode) == (default.strategy, default.mode)
    for account in given.accounts.values():
        assert account.model_copy(update={"type": None}) == Account()
    assert (given.risk.bypass, given.fill_model) == (default.risk.bypass, default.fill_model)
    assert [given.fees.spot, given.fees.perp] == [D("0.001"), D("0.0005")]
    assert ROOT / given.dataset == default.dataset


# What cannot be judged.


def test_a_starved_account_prints_no_pnl(call: Call, dataset: Path, tmp_path: Path) -> None:
    """Denied orders end it with 2; the result says so, and nothing speaks of money."""
    given = config(
        tmp_path / "settings.json",
        dataset=str(dataset),
        catalog=str(tmp_path / "catalog"),
        output=str(tmp_path / "result.json"),
        strategy="strategies.example:Example",
        accounts={"BINANCE_SPOT": {"balances": ["100 USDT"]}},
    )
    ended = call(*given)
    assert ended.code == exits.USAGE
    assert ended.complaint.startswith("cannot judge this run: ")
    assert "orders were denied" in ended.complaint
    assert ended.out == ""
    assert (record.load(tmp_path / "result.json").run.denied or 0) > 0


def test_a_missing_file_is_never_invented(call: Call, dataset: Path, tmp_path: Path) -> None:
    """Without the perps' file: exit 2, which names it; no result, and the file is still gone."""
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    (folder / "perp.parquet").unlink()
    ended = call("--dataset", str(folder / "spot.parquet"))
    assert ended.code == exits.USAGE
    assert f"{folder / 'perp.parquet'}: does not exist" in ended.complaint
    assert not (tmp_path / "result.json").exists()
    assert not (folder / "perp.parquet").exists()


def test_the_week_is_generated_at_its_own_place_only(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Path
) -> None:
    """Where `--dataset` names nothing that exists, nothing is made; at the default place it is."""
    made = []

    def generate(folder: Path) -> None:
        made.append(folder)
        shutil.copytree(dataset, folder)

    monkeypatch.setattr("integrations.binance.week.generate", generate)
    ended = call("--dataset", str(tmp_path / "typo" / "spot.parquet"))
    assert (ended.code, made) == (exits.USAGE, [])
    default = tmp_path / "week" / "spot.parquet"
    assert BacktestSettings().dataset == week.HOME / "spot.parquet"
    monkeypatch.setattr(week, "HOME", default.parent)
    assert call(*EXAMPLE, "--dataset", str(default)).code == exits.DONE
    assert made == [default.parent]


def test_a_published_run_is_all_there(
    call: Call, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Every fill, order event and settlement of the books is in the run's own streams."""
    client = redis_server.client
    client.set(ENGINE_FLAG, "1")
    folder = tmp_path / "data"  # with a settlement inside
    sample.generate(folder, start=sample.START.replace(minute=58), minutes=4)
    ended = call(
        *EXAMPLE, "--dataset", str(folder), "--publish", redis_server.url,
        "--config", str(_settings(tmp_path, tmp_path / "result.json")),
    )  # fmt: skip
    assert ended.code == exits.DONE, ended.err
    result = record.load(tmp_path / "result.json")
    [key] = client.keys("backtest:*:exec:fills")
    prefix = key.removesuffix("exec:fills")
    fills = [fields for _, fields in client.xrange(key)]
    assert [(D(f["price"]), D(f["qty"]), f["side"], int(f["ts_ns"])) for f in fills] == [
        (f.px, f.qty, f.side, f.ts) for f in result.fills or ()
    ]
    told = {fields["cl_ord_id"] for _, fields in client.xrange(f"{prefix}exec:orders")}
    assert len(told) == result.run.orders
    paid = [fields for _, fields in client.xrange(f"{prefix}exec:funding")]
    assert paid
    assert [(p["amount"], p["rate"], int(p["ts_ns"])) for p in paid] == [
        (f"{s.amount:.8f}", f"{s.rate:.8f}", s.ts) for s in result.funding or ()
    ]


def _settings(folder: Path, output: Path) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps({"output": str(output), "catalog": str(folder / "catalog")}))
    return path


# Its end.


def test_ctrl_c_leaves_no_result(dataset: Path, tmp_path: Path) -> None:
    """130, one line, no traceback; no half-written file, no earlier result in its place."""
    output, mark = tmp_path / "out" / "result.json", tmp_path / "running"
    output.parent.mkdir()
    output.write_text("earlier")
    (tmp_path / "endless.py").write_text(ENDLESS.format(mark=str(mark)))
    given = config(
        tmp_path / "settings.json",
        dataset=str(dataset),
        catalog=str(tmp_path / "catalog"),
        output=str(output),
        strategy="endless:Endless",
    )
    process = start(*given, cwd=tmp_path)
    eventually(mark.exists, "the run to begin", seconds_max=40)
    process.send_signal(signal.SIGINT)
    ended = Ended(process.wait(30), *process.communicate())
    *progress, said = ended.complaint.splitlines()
    assert (ended.code, said) == (INTERRUPTED, "interrupted")
    assert all(line.startswith("backtest: ") for line in progress)
    assert not [*output.parent.iterdir()]


def test_ctrl_c_while_it_is_loaded(tmp_path: Path) -> None:
    """The imports take seconds: they end by the signal itself, without a traceback."""
    mark = tmp_path / "loading"
    slow = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(60)"
    (tmp_path / "numpy.py").write_text(slow)
    process = start(settings={"PYTHONPATH": str(tmp_path)})
    eventually(mark.exists, "the imports to begin", seconds_max=40)
    process.send_signal(signal.SIGINT)
    ended = Ended(process.wait(30), *process.communicate())
    assert (ended.code, ended.out, ended.err) == (-signal.SIGINT, "", "")


ENDLESS = """
import time
from pathlib import Path
from nautilus_trader.config import StrategyConfig
from nautilus_trader.trading.strategy import Strategy

class EndlessConfig(StrategyConfig, frozen=True):
    instrument_ids: tuple = ()

class Endless(Strategy):
    def on_start(self):
        for instrument_id in self.config.instrument_ids:
            self.subscribe_quote_ticks(instrument_id)

    def on_quote_tick(self, tick):
        Path({mark!r}).touch()
        time.sleep(0.05)
"""
