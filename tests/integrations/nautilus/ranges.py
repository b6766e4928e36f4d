"""All numbers that Nautilus can hold, their exact values, and XADD commands read back."""

from decimal import Context, Decimal
from typing import NamedTuple

from hypothesis import strategies as st
from nautilus_trader.model.objects import FIXED_PRECISION, Price, Quantity

from bridge.core.contract import to_dict
from bridge.core.resp import ReplyParser

# Whole units of Nautilus's largest price and quantity; money reaches as far as a price.
PRICE_MAX = 17_014_118_346_046
QUANTITY_MAX = 34_028_236_692_093

ORACLE = Context(prec=100)


def oracle(raw: int) -> Decimal:
    """Return the value behind a raw number of Nautilus, exactly."""
    return ORACLE.scaleb(Decimal(raw), -FIXED_PRECISION)


def digits_of(text: str) -> int:
    """Return how many digits stand behind the point."""
    return len(text.partition(".")[2])


def raws(precision: int, *, low: int, high: int) -> st.SearchStrategy[int]:
    """Return raw numbers of `precision` from `low` to `high` units, whole range and everyday."""
    scale, step = 10**precision, 10 ** (FIXED_PRECISION - precision)
    whole = st.integers(low * scale, high * scale)
    everyday = st.integers(max(low * scale, -(10**7)), 10**7)
    edges = st.sampled_from([low * scale, high * scale, max(1, low), 2**96 // step, 2**96 - 1])
    edges = edges.filter(lambda units: low * scale <= units <= high * scale)
    return st.one_of(everyday, whole, edges).map(lambda units: units * step)


# Half of them the finest: there the digits are most, and most easily lost.
precisions = st.integers(0, FIXED_PRECISION) | st.just(FIXED_PRECISION)


def prices(precision: int) -> st.SearchStrategy[Price]:
    """Return prices of `precision` over all that is legal."""
    units = raws(precision, low=-PRICE_MAX, high=PRICE_MAX)
    return units.map(lambda raw: Price.from_raw(raw, precision))


def quantities(precision: int, *, low: int = 0) -> st.SearchStrategy[Quantity]:
    """Return quantities of `precision` over all that is legal, from `low` of its units on."""
    units = raws(precision, low=0, high=QUANTITY_MAX)
    step = 10 ** (FIXED_PRECISION - precision)
    return units.map(lambda raw: Quantity.from_raw(max(raw, low * step), precision))


class Written(NamedTuple):
    """One XADD: the stream, its MAXLEN if it carries one, and the entry's fields."""

    key: str
    maxlen: str | None
    fields: dict[str, str]


def written(kind: str, data: bytes) -> list[Written]:
    """Read the XADD commands back from their bytes."""
    found = []
    for command in ReplyParser().feed(data):
        words = [word.decode() for word in command]
        start = words.index("*") + 1
        trim = words[2:start]
        assert words[0] == "XADD"
        assert trim in (["*"], ["MAXLEN", "~", trim[-2] if len(trim) > 1 else "", "*"])
        fields = to_dict(kind, tuple(words[start + 1 :: 2]))
        assert list(fields) == words[start::2]
        found.append(Written(words[1], trim[2] if len(trim) > 1 else None, fields))
    return found
