"""A small generated dataset: `good` to read, `folder` a copy to spoil; the acceptance week."""

import shutil
from contextlib import redirect_stderr
from datetime import UTC, datetime
from io import StringIO

import pytest

from integrations.binance import progress, week
from integrations.binance.dataset import load
from integrations.binance.sample import generate

START = datetime(2025, 7, 1, 7, 59, tzinfo=UTC)


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "sample"
    generate(folder, start=START, minutes=2, seed=7)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "sample")


@pytest.fixture(scope="session")
def generated_week(tmp_path_factory):
    """The folder of the acceptance week, made in the place of a sample, and what that said."""
    folder = tmp_path_factory.mktemp("week") / "week"
    generate(folder, minutes=1)
    said = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said):
        patch.setattr(progress, "AFTER_SECONDS", 0.0)
        patch.setattr(progress, "EVERY_SECONDS_IN_LOGS", 0.0)
        rows = week.generate(folder)
    return folder, rows, said.getvalue().splitlines()


@pytest.fixture(scope="session")
def july(generated_week):
    """The acceptance week."""
    return load(generated_week[0])
