"""The command line of `python -m integrations.binance`."""

import pytest

from integrations.binance.__main__ import main


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["ingest", "--source", ".", "--catalog", "x"],
        ["ingest", "--source", "no such folder", "--catalog", "x", "--symbols", "BTCUSDT"],
        ["verify", "--source", ".", "--symbols", "BTCUSDT", "--market", "options"],
    ],
)
def test_usage(words, capsys):
    """Something is missing, is not there, or is unknown."""
    with pytest.raises(SystemExit) as caught:
        main(words)

    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_sample_never_replaces_what_is_not_one(tmp_path, capsys):
    """A folder with something else in it: 2, and it stays as it is."""
    (tmp_path / "mine.txt").write_text("mine")

    assert main(["sample", str(tmp_path)]) == 2
    assert "is not a generated dataset" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
