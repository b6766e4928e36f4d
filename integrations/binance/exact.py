"""Arrow arrays -> integers, exactly: units of a last decimal, nanoseconds. What is not is told."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from integrations.binance.dataset import Integers, Mask, scale
from integrations.binance.manifest import DECIMALS_MAX
from integrations.binance.source_files import DIGITS_MAX, SIZES

NS_BY_DIGITS: Final[Mapping[int, int]] = {13: 1_000_000, 16: 1_000, 19: 1}
PRICE_MAX: Final = 17_014_118_346_046  # Nautilus's own, and the next: what is above is written
QUANTITY_MAX: Final = 34_028_236_692_093  # without complaint, and ends the process that reads it


def exact_units(array: pa.Array, decimals: int, *, signed: bool = True) -> tuple[Integers, Mask]:
    """Return numbers in units of `10**-decimals`, and where they are exact and fit 64 bits.

    Takes float64 (by the rule of `dataset.scale`), decimals, integers and text; no nulls. Without
    `signed` none is negative, and the units are to be viewed as uint64.
    """
    if pa.types.is_int64(array.type) and signed and not decimals:
        return array.to_numpy(), np.ones(len(array), dtype=np.bool_)
    if pa.types.is_floating(array.type):
        units, exact = scale(array.to_numpy(zero_copy_only=False), np.full(len(array), decimals))
        return units, exact if signed else exact & (units >= 0)
    try:
        return _of_decimals(array, decimals, signed)
    except pa.ArrowInvalid:  # one of them is no number, or of too many digits
        if len(array) == 1:
            return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.bool_)
    middle = len(array) // 2
    left, left_exact = exact_units(array.slice(0, middle), decimals, signed=signed)
    right, right_exact = exact_units(array.slice(middle), decimals, signed=signed)
    return np.concatenate([left, right]), np.concatenate([left_exact, right_exact])


def _of_decimals(array: pa.Array, decimals: int, signed: bool) -> tuple[Integers, Mask]:
    if not pa.types.is_decimal(array.type):
        array = array.cast(pa.decimal128(DIGITS_MAX, DECIMALS_MAX))
    target = pa.decimal128(DIGITS_MAX, decimals)
    cut = array.cast(options=pc.CastOptions(target, allow_decimal_truncate=True))
    exact = pc.equal(cut.cast(array.type), array).to_numpy(zero_copy_only=False)
    words = np.frombuffer(cut.buffers()[1], dtype="<i8").reshape(-1, 2)
    low, high = words[cut.offset : cut.offset + len(cut)].T
    return low.copy(), exact & (high == (low >> 63 if signed else 0))


def largest(field: str) -> int:
    """Return the largest number that Nautilus holds of a field: a size, else a price."""
    return QUANTITY_MAX if field.partition(".")[0] in SIZES else PRICE_MAX


def in_range(units: Integers | NDArray[np.uint64], most: int, decimals: int) -> Mask:
    """Tell which numbers, in units of `10**-decimals`, are between `-most` and `most`."""
    bounds = np.iinfo(units.dtype)
    limit = most * 10**decimals
    low, high = max(-limit, bounds.min), min(limit, bounds.max)
    mask: Mask = (units >= low) & (units <= high)
    return mask


def nanoseconds(array: pa.Array, digits: int) -> tuple[Integers, Mask]:
    """Return times in ns UTC, and where integers have as many digits as expected."""
    if pa.types.is_timestamp(array.type):
        times: Integers = array.cast(pa.timestamp("ns", array.type.tz)).view(pa.int64()).to_numpy()
        return times, np.ones(len(times), dtype=np.bool_)
    values, fits = exact_units(array, 0)
    fits &= (values >= 10 ** (digits - 1)) & (values <= min(10**digits - 1, 2**63 - 1))
    return np.where(fits, values, 0) * NS_BY_DIGITS[digits], fits
