"""The generated dataset: the same everywhere, whole or absent."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from integrations.binance import progress, sample
from integrations.binance.dataset import load
from integrations.binance.layout import FILES
from integrations.binance.sample import MARKETS, generate, main

ROOT = Path(__file__).parents[3]
START = datetime(2025, 7, 1, 7, 59, tzinfo=UTC)
PINNED = {
    "spot.parquet": "fd74095e573b3d23817937b5f88b6bd2b10934330abbd1402b82daa77404bbb1",
    "perp.parquet": "3c117ad8ee9899a85c92357b3a6ce366b0a89d01d16ceb7cef466f574d6f41ce",
    "spot_trades.parquet": "1e415296916da2d14a5cbc69831d054e3e9405089d03d61b1bc139bbd099364d",
    "perp_trades.parquet": "e2d17f1cf4ae27769a4f6ab6ed2b0e6e1e05c12d40d4b01aa817cdcd96c2dcb4",
    "funding.parquet": "a3c9afa6b0720a9f796f04e6ca56226c8554e68016e7731ddc0a7f11c4a8a4d3",
}


def manifest(folder: Path) -> dict:
    return json.loads((folder / "MANIFEST.json").read_text())


def hashes(folder: Path) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in manifest(folder)["files"].items()}


def test_two_runs_have_the_same_content(tmp_path):
    """The arguments determine the content."""
    for name in ("one", "two"):
        generate(tmp_path / name, start=START, minutes=2, seed=7)

    assert manifest(tmp_path / "one") == manifest(tmp_path / "two")


def test_content_is_pinned(tmp_path):
    """Another machine, NumPy or pyarrow makes this very content; a change needs a new VERSION."""
    generate(tmp_path / "sample", start=START, minutes=2, seed=7)

    assert (sample.VERSION, hashes(tmp_path / "sample")) == (1, PINNED)


def test_another_seed_makes_another_market(tmp_path):
    """The seed changes every file; in the funding file the marks."""
    for seed in (1, 2):
        generate(tmp_path / str(seed), start=START, minutes=2, seed=seed)

    one, two = hashes(tmp_path / "1"), hashes(tmp_path / "2")
    assert all(one[name] != two[name] for name in FILES)


def test_a_longer_dataset_begins_with_the_shorter_one(tmp_path):
    """More minutes append rows and change none."""
    for minutes in (2, 5):
        generate(tmp_path / str(minutes), start=START, minutes=minutes, seed=7)

    for name in FILES:
        short = pq.read_table(tmp_path / "2" / name)
        assert pq.read_table(tmp_path / "5" / name).slice(0, short.num_rows).equals(short)


def test_manifest_names_what_made_it(tmp_path):
    """Generator, version, seed and range are on record."""
    generate(tmp_path / "sample", start=START, minutes=2, seed=7)

    content = manifest(tmp_path / "sample")
    assert content["generator"] == "integrations.binance.sample"
    assert (content["generator_version"], content["seed"]) == (1, 7)
    assert content["start"] == "2025-07-01T07:59:00+00:00"
    assert content["end"] == "2025-07-01T08:01:00+00:00"


def test_row_counts_are_returned(tmp_path):
    """`generate` says how many rows each file has."""
    rows = generate(tmp_path / "sample", start=START, minutes=2)

    assert rows == {name: pq.read_metadata(tmp_path / "sample" / name).num_rows for name in FILES}


def test_the_start_may_be_in_any_time_zone(tmp_path):
    """The same instant in another zone is the same dataset."""
    east = START.astimezone(timezone(timedelta(hours=2)))
    generate(tmp_path / "utc", start=START, minutes=1)
    generate(tmp_path / "east", start=east, minutes=1)

    assert manifest(tmp_path / "utc") == manifest(tmp_path / "east")


def test_calc_time_is_the_published_delay_behind(tmp_path):
    """`calc_time` keeps the venue's jitter: 2 ms at this settlement."""
    generate(tmp_path / "sample", start=START, minutes=2)

    rows = pq.read_table(tmp_path / "sample" / "funding.parquet").to_pylist()
    assert [row["calc_time"] - row["ts"] for row in rows] == [2_000_000] * 3


def test_a_settlement_at_the_start_is_inside_and_one_at_the_end_is_not(tmp_path):
    """The range is half-open."""
    midnight = datetime(2025, 7, 1, tzinfo=UTC)
    first = generate(tmp_path / "first", start=midnight, minutes=1)
    before = generate(tmp_path / "before", start=midnight - timedelta(minutes=1), minutes=1)

    assert (first["funding.parquet"], before["funding.parquet"]) == (3, 0)


def test_a_new_dataset_replaces_the_generated_one(tmp_path):
    """Generating again into the same folder leaves the new dataset and nothing else."""
    generate(tmp_path / "sample", minutes=1, seed=1)
    generate(tmp_path / "sample", minutes=1, seed=2)

    assert manifest(tmp_path / "sample")["seed"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_generation_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    """A write that fails half-way leaves no half dataset, and the earlier one untouched."""
    generate(tmp_path / "old", minutes=1, seed=1)
    real = pq.write_table

    def fail_late(table, where):
        if where.name == "funding.parquet":
            raise OSError("disk full")
        real(table, where)

    monkeypatch.setattr(pq, "write_table", fail_late)
    for name in ("old", "new"):
        with pytest.raises(OSError, match="disk full"):
            generate(tmp_path / name, minutes=1, seed=2)

    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    load(tmp_path / "old")
    assert manifest(tmp_path / "old")["seed"] == 1


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    """Only an empty folder or a generated dataset is replaced."""
    (tmp_path / "precious.txt").write_text("mine")
    (tmp_path / "MANIFEST.json").write_text('{"generator": "another"}')

    with pytest.raises(ValueError, match="not a generated dataset"):
        generate(tmp_path, minutes=1)

    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path):
    """A folder that someone made beforehand will do."""
    generate(tmp_path, minutes=1)

    load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minutes": 0}, "minutes is 0, expected 1 to 1440"),
        ({"minutes": 1441}, "minutes is 1441, expected 1 to 1440"),
        ({"seed": -1}, "seed is -1"),
        ({"start": START.replace(tzinfo=None)}, "has no time zone"),
        ({"start": START.replace(month=6)}, "funding rates are known from 2025-07-01"),
        ({"start": START.replace(day=8)}, "to 2025-07-07T16:00"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    """Each bad argument is named with what is possible, and nothing is written."""
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "sample", **{"start": START, "minutes": 2, **arguments})

    assert not (tmp_path / "sample").exists()


def test_a_slow_generation_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    """A line per instrument goes to stderr, were it slow."""
    monkeypatch.setattr(progress, "AFTER_SECONDS", 0.0)
    monkeypatch.setattr(progress, "EVERY_SECONDS_IN_LOGS", 0.0)

    generate(tmp_path / "sample", minutes=1)

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(MARKETS)
    assert lines[-1] == "sample dataset: SOL 100%"


def test_the_default_folder_is_the_demos(tmp_path, monkeypatch):
    """data/demo; the acceptance week is in data/binance."""
    monkeypatch.chdir(tmp_path)

    assert main(["--minutes", "1"]) == 0

    assert [path.name for path in (tmp_path / "data").iterdir()] == ["demo"]


def test_the_command_generates_and_counts(tmp_path, capsys):
    """The command writes the dataset its arguments describe and prints the rows."""
    folder = tmp_path / "sample"
    arguments = [str(folder), "--start", "2025-07-01T07:59Z", "--minutes", "2", "--seed", "7"]

    assert main(arguments) == 0

    assert hashes(folder) == PINNED
    assert "funding.parquet 3" in capsys.readouterr().out


def test_the_command_refuses_bad_arguments_with_2(tmp_path, capsys):
    """A bad argument is exit code 2 and one line on stderr."""
    assert main([str(tmp_path / "sample"), "--minutes", "0"]) == 2

    assert capsys.readouterr().err.startswith("minutes is 0")


def test_the_command_that_cannot_write_ends_with_74(tmp_path, capsys):
    """Where no folder can be made the exit code is 74."""
    (tmp_path / "file").write_text("")

    assert main([str(tmp_path / "file" / "sample"), "--minutes", "1"]) == 74

    assert "cannot write the dataset" in capsys.readouterr().err


def test_nothing_here_imports_nautilus():
    """Generator and reader run where nautilus_trader is not installed."""
    code = (
        "import sys, integrations.binance.sample, integrations.binance.dataset;"
        "sys.exit(any(name.startswith('nautilus') for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
