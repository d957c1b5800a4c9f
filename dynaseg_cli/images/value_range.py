"""Mapping of deep images to 8 bits: which values become black and white, for integers and floats alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ValueRange, range_text
from .deep import StoredImage

LOW_SHARE, HIGH_SHARE = 0.001, 0.999
"""The percentiles that `auto` maps to black and white.

Dead and hot pixels, glints and dust rarely exceed a thousandth of the pixels at each end; anything larger stays
visible. In an image of fewer than a thousand pixels these are the minimum and maximum.
"""
SAMPLED = 1 << 20
"""Sample size for percentiles of values deeper than 16 bits, spread evenly over the image: 1,000 lie beyond each."""
ABSURD = 1e30
"""Floats of this magnitude or more mean "no data": programs without NaN write values such as -3.4e38."""
SENTINELS = (-9999.0, -99999.0, -999999.0, -32767.0)
"""Values that programs write for "no data".

Such a value is taken for "no data" only if it is the minimum of the image. It would be black anyway, so no pixel is
lost, and the other values get the full range of greys.
"""
FEW_GREYS = 3
"""An image is nearly uniform if its 0.1 and 99.9 percentiles differ by fewer grey levels."""
CHUNK = 1 << 18
"""Values processed at a time."""


@dataclass(frozen=True)
class UsedRange:
    """The mapping that was applied to an image."""

    option: str
    """The option as given: auto, full or LOW,HIGH."""
    low: float
    """This value and those below are black."""
    high: float
    """This value and those above are white."""
    nodata: float | None = None
    """The finite value that means "no data", if any; such pixels are black."""

    def as_entry(self) -> dict[str, Any]:
        """The entry in the statistics."""
        entry = {"option": self.option, "low": self.low, "high": self.high}
        return entry if self.nodata is None else {**entry, "nodata": self.nodata}


def to_8_bits(deep: StoredImage, option: ValueRange) -> tuple[NDArray[np.uint8], UsedRange, str | None]:
    """Map the values of an image to 0..255.

    Greys are linear between the two ends of the range. A colour image has one range for all channels, which keeps its
    hues. "No data" is black and does not count, nor do wholly transparent pixels and those that `counts` leaves out.
    "No data" is: NaN, infinities, floats of magnitude `ABSURD`, the minimum of a signed type, the value that a GeoTIFF
    declares, and `SENTINELS`.

    Parameters
    ----------
    option : "auto", the window that the file asks for, or else from the percentile `LOW_SHARE` to `HIGH_SHARE`, or from
        the minimum to the maximum if those are equal; "full", the range of the type, or the minimum to the maximum for
        floating point; or the two numbers.

    Returns
    -------
    (H, W, 3) uint8, not yet composited or turned; the range; and a warning if the image is (nearly) uniform.
    """
    numbers = _Numbers(deep)
    low, high = numbers.range(option)
    used = UsedRange(range_text(option), _plain(low, deep), _plain(high, deep), numbers.nodata)
    rgb = np.empty((*deep.values.shape[:2], 3), np.uint8)
    counts = np.zeros(256, np.int64)
    for rows in _bands(deep):
        values = deep.values[rows]
        valid = numbers.valid(values)
        grey = _stretched(values, low, high)
        if deep.white_is_zero:
            grey = 255 - grey
        grey[~valid] = 0
        counts += np.bincount(grey[_seen(valid, deep, rows)], minlength=256)
        rgb[rows] = grey if grey.ndim == 3 else grey[..., None]
    return rgb, used, _uniformity(counts, used, numbers, windowed=option == "auto" and deep.window is not None)


def range_of(deep: StoredImage, option: ValueRange) -> tuple[float, float]:
    """The numbers that `to_8_bits` would make black and white."""
    return _Numbers(deep).range(option)


def valid_numbers(deep: StoredImage) -> Callable[[NDArray[Any]], NDArray[np.bool_]]:
    """A function from values of an image to the mask of those that are data: see `to_8_bits`."""
    return _Numbers(deep).valid


def data_mask(stored: StoredImage) -> NDArray[np.bool_]:
    """Which values of an image are data, in the shape of its values: neither "no data" nor wholly transparent.

    "No data" is what it is to `to_8_bits`; of 8 bits, only the value that a GeoTIFF declares.
    """
    numbers = _Numbers(stored)
    mask = np.empty(stored.values.shape, np.bool_)
    for rows in _bands(stored):
        mask[rows] = _seen(numbers.valid(stored.values[rows]), stored, rows)
    return mask


class _Numbers:
    """The values of an image without those for "no data"."""

    def __init__(self, deep: StoredImage) -> None:
        self._deep = deep
        dtype = deep.values.dtype
        self._limit = ABSURD if dtype.kind == "f" and dtype.itemsize > 2 else math.inf
        self._missing = [] if deep.nodata is None or not _holds(dtype, deep.nodata) else [deep.nodata]
        declared = len(self._missing)
        if dtype.kind == "i" and dtype.itemsize > 1:
            self._missing.append(np.iinfo(dtype).min)
        self.least, self.greatest = self._ends()
        if not self.any:  # all values are that large, so they are data
            self._limit = math.inf
            self.least, self.greatest = self._ends()
        if dtype.kind != "u" and self.least in SENTINELS and self.least < self.greatest:
            self._missing.insert(declared, self.least)
            self.least, self.greatest = self._ends()
        self.nodata = next((_plain(value, deep) for value in self._missing if self._occurs(value)), None)

    @property
    def any(self) -> bool:
        return self.least <= self.greatest

    def valid(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Mask of the values that are data."""
        found = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, np.bool_)
        if self._limit < math.inf:
            with np.errstate(invalid="ignore"):
                found &= np.abs(values) < self._limit
        for missing in self._missing:
            found &= values != values.dtype.type(missing)
        return found

    def range(self, option: ValueRange) -> tuple[float, float]:
        """The values to map to black and white."""
        if not isinstance(option, str):
            return option
        if option == "full" and self._deep.full is not None:
            return self._deep.full
        if not self.any:
            return 0.0, 0.0
        if option == "full":
            return self.least, self.greatest
        if self._deep.window is not None:
            return self._deep.window
        low, high = self._percentiles()
        return (low, high) if low < high else (self.least, self.greatest)

    def _ends(self) -> tuple[float, float]:
        least, greatest = math.inf, -math.inf
        for values in self._found():
            least, greatest = min(least, values.min().item()), max(greatest, values.max().item())
        return least, greatest

    def _found(self) -> Iterator[NDArray[Any]]:
        """The data values, in bands of rows."""
        for rows in _bands(self._deep):
            values = self._deep.values[rows]
            found = values[_seen(self.valid(values), self._deep, rows)]
            if found.size:
                yield found

    def _percentiles(self) -> tuple[float, float]:
        values = self._deep.values
        if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
            base = np.iinfo(values.dtype).min
            counts = np.zeros(1 << 16, np.int64)
            for found in self._found():
                counts += np.bincount(found.astype(np.int32) - base, minlength=1 << 16)
            reached = np.cumsum(counts)
            low, high = (int(np.searchsorted(reached, rank, "right")) + base for rank in _ranks(int(reached[-1])))
            return low, high
        height, width = values.shape[:2]
        step = max(1, math.ceil(values.size / SAMPLED))
        while step > 1 and math.gcd(step, width) > 1:  # or the sample would hit the same columns in every row
            step += 1
        places = np.arange(0, height * width, step)
        rows, columns = np.divmod(places, width)
        sample = values[rows, columns]
        valid = self.valid(sample)
        considered = self._deep.considered(rows, columns)
        if considered is not None:
            valid &= considered if valid.ndim == 1 else considered[:, None]
        found = sample[valid]
        if not found.size:
            return self.least, self.greatest
        first, last = _ranks(found.size)
        ordered = np.partition(found, (first, last))
        return ordered[first].item(), ordered[last].item()

    def _occurs(self, number: float) -> bool:
        """Whether a finite value occurs in the image."""
        values, counts = self._deep.values, self._deep.counts
        same = (
            (values[rows] if counts is None else values[rows][counts[rows]]) == values.dtype.type(number)
            for rows in _bands(self._deep)
        )
        return math.isfinite(number) and any(found.any() for found in same)


def _ranks(count: int) -> tuple[int, int]:
    return math.floor(LOW_SHARE * (count - 1)), math.ceil(HIGH_SHARE * (count - 1))


def _holds(dtype: np.dtype[Any], number: float) -> bool:
    """Whether a value can be represented in a type."""
    if dtype.kind == "f":
        return not math.isnan(number) and (math.isinf(number) or abs(number) <= float(np.finfo(dtype).max) * (1 + 1e-7))
    limits = np.iinfo(dtype)
    return math.isfinite(number) and number == int(number) and limits.min <= int(number) <= limits.max


def _bands(deep: StoredImage) -> Iterator[slice]:
    height = len(deep.values)
    rows = max(1, CHUNK // math.prod(deep.values.shape[1:]))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _seen(valid: NDArray[np.bool_], deep: StoredImage, rows: slice) -> NDArray[np.bool_]:
    considered = deep.considered(rows)
    if considered is None:
        return valid
    return valid & (considered[..., None] if valid.ndim == 3 else considered)


def _stretched(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Grey levels, arbitrary for "no data". If the range is a single value, it becomes mid-grey."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        limits = np.iinfo(values.dtype)
        every = np.arange(limits.min, limits.max + 1)
        grey = _stretched(every.astype(np.float64), low, high)
        return grey[values.astype(np.int32) - limits.min]
    with np.errstate(over="ignore", invalid="ignore"):
        # Halved, as high - low may overflow.
        numbers = values.astype(np.float64)
        share = (numbers / 2 - low / 2) / (high / 2 - low / 2) if high > low else (np.sign(numbers - low) + 1) / 2
        return np.rint(np.nan_to_num(np.clip(share, 0, 1)) * 255).astype(np.uint8)


def _plain(number: float, deep: StoredImage) -> float:
    return int(number) if deep.values.dtype.kind in "iu" and float(number).is_integer() else float(number)


def _uniformity(counts: NDArray[np.int64], used: UsedRange, numbers: _Numbers, *, windowed: bool) -> str | None:
    """A warning if the image is (nearly) uniform, from its histogram of grey levels."""
    total = int(counts.sum())
    if not total:
        return "it has no data: every pixel is marked as no data, or is transparent"
    if numbers.least == numbers.greatest:
        where = "" if numbers.nodata is None else f", beside {numbers.nodata:g} for no data"
        return f"all its numbers are {numbers.least:g}{where}"
    reached = np.cumsum(counts)
    low, high = (int(np.searchsorted(reached, rank, "right")) for rank in _ranks(total))
    if high - low >= FEW_GREYS:
        return None
    what = f"its numbers lie in {numbers.least:g}..{numbers.greatest:g}"
    if windowed:
        return f"nearly all of it is of one grey: {what}, and its own window is {used.low:g}..{used.high:g}"
    if used.option == "auto":
        return f"nearly all of it is of one grey: {what}, and 99.8 % of them close together"
    return f"nearly all of it is of one grey with range {used.option}: {what} (range auto goes by them)"
