"""What the manifest says of a dataset, and how a wrong one is refused."""

import pytest

from integrations.binance.dataset import load
from tests.integrations.binance.folders import PERP, SPOT, edit_manifest, refusal


def test_instruments_are_the_manifests_with_exact_decimals(good):
    """The instruments table comes back in its order, numbers as the Decimals written."""
    instruments = load(good).instruments

    assert [i.id for i in instruments][:2] == [SPOT, PERP]
    assert len(instruments) == 6
    perp = instruments[1]
    assert (perp.symbol, perp.leg, perp.base, perp.quote) == ("BTC", "perp", "BTC", "USDT")
    assert (str(perp.tick), str(perp.lot)) == ("0.10", "0.001")
    assert (str(perp.min_notional), str(perp.fee)) == ("100", "0.0005")
    assert (perp.price_decimals, perp.size_decimals) == (2, 3)


def test_time_range_is_the_manifests(good):
    """`start_ns` and `end_ns` are the manifest's start and end in ns UTC."""
    dataset = load(good)

    assert dataset.start_ns == 1_751_356_740 * 10**9
    assert dataset.end_ns == dataset.start_ns + 120 * 10**9


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"text"', "{}", "\udcff"])
def test_manifest_that_is_none(folder, text):
    """Whatever stands in MANIFEST.json, the answer is one error that names the file."""
    (folder / "MANIFEST.json").write_bytes(text.encode(errors="surrogateescape"))

    assert refusal(folder).path == folder / "MANIFEST.json"


@pytest.mark.parametrize("key", ["instruments", "files", "start", "end"])
def test_manifest_without_a_key(folder, key):
    """A missing key is named."""
    edit_manifest(folder, lambda content: content.pop(key))

    assert f"'{key}' is missing" in str(refusal(folder))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tick", 0.01, "tick is 0.01, expected str"),
        ("tick", "0", "tick is '0', expected a number above 0"),
        ("lot", "-1", "lot is '-1', expected a number above 0"),
        ("lot", "NaN", "lot is 'NaN', expected a number above 0"),
        ("fee", "free", "fee is 'free', expected a number from 0"),
        ("min_notional", "Infinity", "min_notional is 'Infinity', expected a number from 0"),
        ("tick", "1E-17", "tick is '1E-17', expected at most 16 decimals"),
        ("leg", "future", "leg is 'future', expected spot or perp"),
        ("id", PERP, "two instruments have the same id"),
        ("symbol", "ETH", "two instruments have the same symbol and leg"),
    ],
)
def test_manifest_with_a_wrong_instrument(folder, key, value, message):
    """A wrong entry of the instruments table is named with what is expected."""
    edit_manifest(folder, lambda content: content["instruments"][0].update({key: value}))

    assert message in str(refusal(folder))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yesterday", "Invalid isoformat"),
        ("2025-07-01T00:00:00", "without a time zone"),
        (1_751_328_000, "start is 1751328000, expected str"),
    ],
)
def test_manifest_with_a_wrong_time(folder, value, message):
    """Start and end are ISO times with a zone."""
    edit_manifest(folder, lambda content: content.update(start=value))

    assert message in str(refusal(folder))


@pytest.mark.parametrize("value", [7, [], "spot.parquet", {"spot.parquet": 7}])
def test_manifest_with_wrong_files(folder, value):
    """Whatever stands for the files is one error that names the manifest."""
    edit_manifest(folder, lambda content: content.update(files=value))

    assert refusal(folder).path == folder / "MANIFEST.json"


def test_manifest_with_a_wrong_row_count(folder):
    """A row count is an integer."""
    edit_manifest(folder, lambda content: content["files"]["perp.parquet"].update(rows="9"))

    assert "rows is '9', expected int" in str(refusal(folder))
