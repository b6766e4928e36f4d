"""acceptance/fills.py: fills from wherever they are."""

from dataclasses import replace
from pathlib import Path

import pytest

from acceptance import fills, record
from acceptance.fills_csv import FillsError
from acceptance.record import RecordError
from tests.acceptance.fills_rig import bare, base, publish, write_csv
from tests.servers import RedisServer

BASE = base()
FILLS = BASE.fills or ()


def test_fills_are_read_from_wherever_they_are(tmp_path: Path, redis_server: RedisServer) -> None:
    """A result file, a CSV and a Redis are told apart by their name."""
    record.save(BASE, tmp_path / "result.json")
    write_csv(tmp_path / "fills.CSV", FILLS)
    publish(redis_server.client, FILLS, "shadow:")

    of_result = fills.read(str(tmp_path / "result.json"), str)
    of_csv = fills.read(str(tmp_path / "fills.CSV"), str)
    of_redis = fills.read(f"{redis_server.url}?prefix=shadow:", str)

    assert of_result == (FILLS, BASE.instruments)
    assert of_csv == of_redis == (bare(*FILLS), ())


def test_a_result_without_fills_is_refused(tmp_path: Path) -> None:
    """A fast result has none, and a file that is no result is named."""
    record.save(replace(BASE, mode="fast", fills=None, orders=None), tmp_path / "fast.json")

    with pytest.raises(FillsError, match="has no fills; run it with --mode full"):
        fills.read(str(tmp_path / "fast.json"), str)
    with pytest.raises(RecordError, match=r"none\.json"):
        fills.read(str(tmp_path / "none.json"), str)
