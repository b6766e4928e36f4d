"""Fixtures for the acceptance tests: the generated week."""

import pytest

from integrations.binance import dataset, week
from integrations.binance.dataset import Dataset


@pytest.fixture(scope="session")
def week_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The acceptance week, generated anew: what the folder data/binance holds is not relied on."""
    folder = tmp_path_factory.mktemp("week") / "binance"
    week.generate(folder)
    return dataset.load(folder)
