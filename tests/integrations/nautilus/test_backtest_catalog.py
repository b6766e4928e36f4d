"""The catalog that a dataset is converted to: once, whole, and found again."""

import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from threading import Thread

import pytest
from structlog.testing import capture_logs

from integrations.binance.dataset import Dataset
from integrations.nautilus import backtest_data
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


def test_a_killed_conversion_is_not_taken_for_one(data: Dataset, tmp_path: Path) -> None:
    """What it left behind is thrown away, and the conversion is done again."""
    whole, _ = converted(data, tmp_path)
    shutil.move(whole, tmp_path / f".{whole.name}")
    next((tmp_path / f".{whole.name}").rglob("*quote*/*/*.parquet")).write_bytes(b"half")
    again, said = converted(data, tmp_path)
    assert (again, said) == (whole, ["catalog.written"])
    assert played(data, tmp_path).events == 2


def test_a_failed_conversion_leaves_no_catalog(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on the way is not followed by a run on half of the data."""
    with monkeypatch.context() as patch:
        patch.setattr("integrations.nautilus.catalog.write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            converted(data, tmp_path)
    assert converted(data, tmp_path)[1] == ["catalog.written"]


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[None]:
    """Another run converts while the test runs."""
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_two_runs_convert_one_after_the_other(
    data: Dataset, tmp_path: Path, other_process: None
) -> None:
    """A second run waits for the first one's conversion."""
    waiting = Thread(target=converted, args=(data, tmp_path), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
