"""The catalog that a dataset is converted to: once, whole, and found again."""

import fcntl
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs

from bridge.exits import CANNOT_RECORD, Exit
from integrations.binance.dataset import Dataset
from integrations.nautilus import backtest_data, catalog
from tests.integrations.nautilus.backtests import both, dataset, played


@pytest.fixture
def data() -> Dataset:
    """Two quotes."""
    return dataset(both(1))


def converted(data: Dataset, root: Path) -> tuple[Path, list[str]]:
    """Return the catalog of a dataset, and the events that were logged."""
    with capture_logs() as logs:
        path = backtest_data.catalog_of(data, data.instruments, root, lambda done: None)
    return path, [each["event"] for each in logs]


def content(folder: Path) -> dict[Path, bytes]:
    """Return what is in a folder, by path."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_second_run_reuses_the_catalog(data: Dataset, tmp_path: Path) -> None:
    """It says so, and writes nothing."""
    first, said = converted(data, tmp_path)
    assert said == ["catalog.written"]
    times = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert converted(data, tmp_path) == (first, ["catalog.reused"])
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == times


def test_other_content_has_another_catalog(data: Dataset, tmp_path: Path) -> None:
    """Other rows, other instruments, or other terms of one."""
    rows = data.instruments
    others = [
        replace(data, sha256="0" * 64),
        replace(data, instruments=rows[:1]),
        replace(data, instruments=(replace(rows[0], fee=Decimal("0.5")), *rows[1:])),
    ]
    assert len({converted(each, tmp_path)[0] for each in (data, *others)}) == 4


def test_a_killed_conversion_is_not_taken_for_one(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it left behind is thrown away, and the conversion is done again."""
    whole = content(converted(data, tmp_path / "whole")[0])
    with monkeypatch.context() as patch:
        killed = [lambda *given: catalog.write(*given), _kill]
        patch.setattr(backtest_data.catalog, "write", lambda *given: killed.pop(0)(*given))
        with pytest.raises(SystemExit):
            converted(data, tmp_path)
    again, said = converted(data, tmp_path)
    assert said == ["catalog.discarded", "catalog.written"]
    assert content(again) == whole
    assert converted(data, tmp_path)[1] == ["catalog.reused"]


def _kill(*_: object) -> None:
    raise SystemExit


def raise_prices(path: Path) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index("ask_price")
    prices = [int.from_bytes(each, "little") + 10**16 for each in table["ask_price"].to_pylist()]
    column = pa.array([each.to_bytes(16, "little") for each in prices], pa.binary(16))
    pq.write_table(table.set_column(place, table.schema.field(place), column), path)


@pytest.mark.parametrize(
    "damage",
    [
        raise_prices,
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2")),
        lambda path: path.unlink(),
        lambda path: shutil.copy(path, path.with_name("2099-01-01_2099-01-02.parquet")),
        lambda path: shutil.rmtree(path.parents[2]),
        lambda path: (path.parents[3] / backtest_data.FILES).write_text("{"),
    ],
    ids=["prices", "truncated", "flipped", "missing", "added", "empty", "list"],
)
def test_what_was_changed_is_converted_again(
    data: Dataset, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Nothing of it reaches a run, and one line of the log says so."""
    folder, _ = converted(data, tmp_path)
    whole = content(folder)
    damage(next((folder / "data").glob("quote_tick/*/*.parquet")))
    assert content(folder) != whole
    again, said = converted(data, tmp_path)
    assert (again, said) == (folder, ["catalog.discarded", "catalog.written"])
    assert content(folder) == whole
    assert played(data, tmp_path).events == 2


def test_a_failed_conversion_leaves_no_catalog(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on the way is not followed by a run on half of the data."""
    with monkeypatch.context() as patch:
        patch.setattr("integrations.nautilus.catalog.write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            converted(data, tmp_path)
    said = converted(data, tmp_path)[1]
    assert said == ["catalog.discarded", "catalog.written"]


def test_a_disk_that_takes_no_more(data: Dataset, tmp_path: Path) -> None:
    """74 with a sentence; the room that half a catalog took is given back."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(Exit, match=r"cannot be written: .*too large.*; make room") as caught:
            converted(data, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.code == CANNOT_RECORD
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert converted(data, tmp_path)[1] == ["catalog.written"]


def test_two_runs_convert_one_after_the_other(data: Dataset, tmp_path: Path) -> None:
    """A second run waits for the first one's conversion."""
    waiting = Thread(target=converted, args=(data, tmp_path), daemon=True)
    with (tmp_path / ".lock").open("w") as other_process:
        fcntl.flock(other_process, fcntl.LOCK_EX)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    waiting.join()
    assert len([*tmp_path.iterdir()]) == 2
