"""A small generated dataset: `good` to read, `folder` a copy to spoil."""

import shutil
from datetime import UTC, datetime

import pytest

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
