"""Which instrument a venue's symbol is: from a file of the user's, else the built-in table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from integrations.binance.manifest import Instrument, instrument_of_row
from integrations.binance.sample_market import MARKETS

LEGS: Final = {"spot": "spot", "futures": "perp"}
EXAMPLE: Final = (
    '[{"id": "DOGEUSDT.BINANCE_SPOT", "symbol": "DOGE", "leg": "spot", "tick": "0.00001", '
    '"lot": "1", "min_notional": "1", "fee": "0.001", "base": "DOGE", "quote": "USDT"}]'
)


class InstrumentError(ValueError):
    """A table of instruments that is broken, or that lacks a symbol."""


def read_instruments(path: Path | None) -> list[Instrument]:
    """Return the rows of a JSON file, a list or a dataset's MANIFEST.json, then the built-in ones.

    Raises InstrumentError.
    """
    builtin = [instrument for instrument, _ in MARKETS]
    if path is None:
        return builtin
    try:
        content = json.loads(path.read_bytes())
        rows = content["instruments"] if isinstance(content, dict) else content
        return [instrument_of_row(row) for row in rows] + builtin
    except KeyError as error:
        raise InstrumentError(f"{path}: a row lacks {error}; write it like {EXAMPLE}") from None
    except (OSError, TypeError, ValueError) as error:
        raise InstrumentError(f"{path}: {error}; write it like {EXAMPLE}") from None


def find_instrument(instruments: Sequence[Instrument], symbol: str, market: str) -> Instrument:
    """Return the first instrument of a market with this symbol, `base + quote` or that of its id.

    Raises InstrumentError: ticks and lots are never guessed from data.
    """
    for each in instruments:
        names = (f"{each.base}{each.quote}", each.id.rpartition(".")[0])
        if each.leg == LEGS[market] and symbol.upper() in (name.upper() for name in names):
            return each
    raise InstrumentError(
        f"{symbol}: no instrument of the {market} market is known; write its tick and lot into a "
        f"file like {EXAMPLE} (leg is spot or perp) and name it with --instruments FILE.json"
    )
