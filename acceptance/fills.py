"""Fills from wherever they are: a result file, a CSV, or a stream in Redis."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from acceptance import fills_csv, fills_redis, record
from acceptance.fills_csv import FillsError
from acceptance.fills_redis import Tell
from acceptance.shape import Fill, Instrument


class Source(NamedTuple):
    """Fills by time, and the instruments where the place knows them."""

    fills: Sequence[Fill]
    instruments: Sequence[Instrument] = ()


def read(place: str, tell: Tell) -> Source:
    """Return the fills at `place`: a Redis URL (`redis://host/0?prefix=shadow:`), a file that ends
    in .csv, or a result file.

    Raises FillsError, RecordError.
    """
    if "://" in place:
        return Source(fills_redis.read(fills_redis.address(place), tell=tell))
    path = Path(place)
    if path.suffix.lower() == ".csv":
        return Source(fills_csv.read(path))
    found = record.load(path)
    if found.fills is None:
        raise FillsError(f"{path}: has no fills; run it with --mode full")
    return Source(found.fills, found.instruments or ())
