"""Run the legacy program on a dataset; and what every program's result says of its inputs.

The port is run by `integrations/nautilus/run_backtest.py`, which writes the same kind of result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from acceptance import events
from acceptance.record import of_books
from acceptance.shape import Data, Record, text_of
from integrations.binance.dataset import Dataset
from strategies.basis_carry import legacy as program
from strategies.basis_carry.params import BasisCarryParams

BASIS_CARRY = "strategies.basis_carry."
type Mode = Literal["full", "fast"]


def legacy(
    data: Dataset,
    params: BasisCarryParams,
    symbols: Sequence[str] = (),
    start: date | None = None,
    end: date | None = None,
    *,
    mode: Mode = "full",
    progress: events.Progress | None = None,
) -> Record:
    """Run the legacy program over whole UTC days, by default all days and symbols of the dataset.

    Nautilus is not imported. Raises DatasetError for days and symbols the dataset does not have.
    """
    window = events.window(data, symbols, start, end)
    rows = table(window)
    books = program.run(
        window.events(progress),
        rows,
        params=params,
        start_ns=window.start_ns,
        end_ns=window.end_ns,
    )
    return of_books(
        books,
        program="legacy",
        data=fed(window),
        instruments=rows,
        params=texts(params),
        mode=mode,
    )


def table(window: events.Window) -> list[program.Instrument]:
    """Return the instruments as the legacy program wants them."""
    names = program.Instrument._fields
    return [
        program.Instrument(*(getattr(row, name) for name in names)) for row in window.instruments()
    ]


def fed(window: events.Window) -> Data:
    """Return what a program is fed that reads this window."""
    count, last_ts = window.fed()
    return Data(
        sha256=window.data.sha256,
        start_ns=window.start_ns,
        end_ns=window.end_ns,
        symbols=window.symbols,
        events=count,
        last_ts=last_ts,
    )


def named(strategy: str, params: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the name and the parameters that a result states of a strategy, `module:Class`.

    Of basis carry these are all parameters, also those left at their defaults, as the legacy's
    result has them; of another strategy those that were given.
    """
    if strategy.startswith(BASIS_CARRY):
        return "basis_carry", texts(BasisCarryParams.from_mapping(params))
    return strategy, {name: str(value) for name, value in params.items()}


def texts(params: BasisCarryParams) -> dict[str, str]:
    """Return the parameters as text, each number in its one notation."""
    values = {field.name: getattr(params, field.name) for field in fields(params)}
    return {
        name: text_of(Decimal(repr(value)) if isinstance(value, float) else value)
        if isinstance(value, (Decimal, float))
        else str(value).lower()
        for name, value in values.items()
    }
