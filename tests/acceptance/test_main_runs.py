"""python -m acceptance run, from-csv, from-redis: results made from a dataset, end to end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance import record
from acceptance.__main__ import main
from tests.acceptance.fills_rig import add, entry, publish, small, write_csv
from tests.bridge.processes import ROOT
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the tests on a dataset."""
    return tmp_path_factory.mktemp("acceptance")


@pytest.fixture(scope="module")
def on(folder: Path) -> list[str]:
    """Return what names a small dataset and its parameters."""
    return small(folder)


@pytest.fixture(scope="module")
def legacy(folder: Path, on: list[str]) -> Path:
    """The result of the legacy program on the small dataset."""
    path = folder / "legacy.json"
    assert main(["run", "legacy", *on, "--output", str(path)]) == 0
    return path


def test_run_legacy_names_what_it_wrote(
    folder: Path, on: list[str], legacy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line has the file's hash, and the same arguments give the same hash."""
    again = folder / "again.json"

    assert main(["run", "legacy", *on, "--output", str(again)]) == 0

    made = record.load(legacy)
    assert capsys.readouterr().out.endswith(f"sha256 {record.sha256(made)}\n")
    assert again.read_bytes() == legacy.read_bytes()
    assert len(made.fills or ()) > 20 and made.funding


def test_a_run_without_a_fill_cannot_be_judged(
    folder: Path, on: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever ran it is told, by the exit code too: a CSV of no fills, and a window of no trade."""
    empty = write_csv(folder / "empty.csv", [])
    out = str(folder / "empty.json")

    assert main(["from-csv", str(empty), *on, "--output", out]) == 2
    assert main(["run", "legacy", *on[:2], "--output", out]) == 2
    assert capsys.readouterr().err == "cannot judge this run: nothing was traded\n" * 2
    assert main(["from-csv", str(empty), "--output", out]) == 2
    assert "name the days of the run by --start and --end" in capsys.readouterr().err


def test_fills_of_a_csv_pass_as_the_run_they_are_of(
    folder: Path, on: list[str], legacy: Path
) -> None:
    """Dump the fills, build a result from them and the dataset, compare: the strict tier passes."""
    fills = write_csv(folder / "fills.csv", record.load(legacy).fills or ())
    ours = folder / "ours.json"

    assert main(["from-csv", str(fills), *on, "--output", str(ours)]) == 0

    assert record.load(ours).program == "csv"
    words = ["compare", str(ours), str(legacy), "--output", str(folder / "out")]
    assert main(words) == 0


def test_fills_of_a_stream_pass_as_the_run_they_are_of(
    folder: Path, on: list[str], legacy: Path, redis_server: RedisServer
) -> None:
    """The same out of a Redis, with the orders that were refused counted there."""
    publish(redis_server.client, record.load(legacy).fills or (), "backtest:x:")
    redis_server.client.xadd("backtest:x:exec:orders", {"status": "filled", "ts_ns": "1"})
    ours = folder / "redis.json"
    words = [redis_server.url, "--prefix", "backtest:x:", *on, "--program", "ours"]

    assert main(["from-redis", *words, "--output", str(ours)]) == 0

    made = record.load(ours)
    assert (made.program, made.run.denied, made.run.rejected) == ("ours", 0, 0)
    words = ["compare", str(ours), str(legacy), "--output", str(folder / "out")]
    assert main([*words, "--tier", "contract"]) == 0


def test_one_strategy_is_chosen_among_several(
    folder: Path, legacy: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two in one stream end with 2; --strategy-id and --account take what one did in its own."""
    fills = record.load(legacy).fills or ()
    publish(redis_server.client, fills[:4], account="A")
    for number, fill in enumerate(fills[4:6], 5):
        other = entry(fill, number, strategy_id="OTHER-001", account="B")
        add(redis_server.client, other)
    words = ["from-redis", redis_server.url, "--output", str(folder / "one.json")]

    assert main(words) == 2
    assert "CARRY-001 OTHER-001" in capsys.readouterr().err
    for more in (["--strategy-id", "OTHER-001"], ["--strategy-id", "OTHER-001", "--account", "B"]):
        assert main([*words, *more]) == 0
        assert record.load(folder / "one.json").run.fills == 2
    assert main([*words, *more[:2], "--account", "A"]) == 2
    assert "no fill has account A; there are: B" in capsys.readouterr().err


def test_without_a_dataset_the_days_of_the_fills_are_the_run(folder: Path, legacy: Path) -> None:
    """The result covers the full days of its fills, or those that are named."""
    fills = write_csv(folder / "fills.csv", record.load(legacy).fills or ())
    ours = folder / "bare.json"
    midnight = 1_751_328_000_000_000_000
    day = 86_400_000_000_000

    for more, days in (([], (0, 1)), (["--start", "2025-06-30", "--end", "2025-07-02"], (-1, 2))):
        assert main(["from-csv", str(fills), "--output", str(ours), *more]) == 0
        data = record.load(ours).data
        assert (data.start_ns, data.end_ns) == (midnight + days[0] * day, midnight + days[1] * day)


def test_a_published_backtest_comes_back_as_its_own_result(
    folder: Path,
    on: list[str],
    legacy: Path,
    redis_server: RedisServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`run nautilus` takes the arguments of run_backtest.py. What it writes passes against the
    legacy's result; what it publishes makes what it writes: every fill, settlement and point."""
    redis_server.client.set("features:nautilus_engine", "1")
    written, ours = folder / "nautilus.json", folder / "published.json"
    (folder / "settings.json").write_text(json.dumps({"catalog": str(folder / "catalog")}))
    words = [*on, "--config", str(folder / "settings.json"), "--publish", redis_server.url]
    command = [sys.executable, "-m", "acceptance", "run", "nautilus", "--output", str(written)]

    subprocess.run([*command, *words], cwd=ROOT, check=True, timeout=40)

    assert main(["compare", str(written), str(legacy), "--output", str(folder / "out")]) == 0
    assert capsys.readouterr().out.startswith("pass: gates of the strict tier")
    (stream,) = redis_server.client.keys("backtest:*:exec:fills")
    place = [redis_server.url, "--prefix", stream.removesuffix("exec:fills")]
    assert main(["from-redis", *place, *on, "--output", str(ours)]) == 0
    nautilus, built = record.load(written), record.load(ours)
    assert len(built.fills or ()) > 20 and built.funding
    for part in ("orders", "funding", "equity", "days", "totals", "metrics", "data", "instruments"):
        assert getattr(built, part) == getattr(nautilus, part), part
    assert (built.run.denied, built.run.rejected) == (0, 0)
