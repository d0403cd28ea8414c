"""Images of any dtype as checked float32 arrays, most of their intensities between 0 and 1."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, channels_first
from napari_aeseg.images.checks import check_not_masked, image_axes, plain_array
from napari_aeseg.images.illumination import illumination
from napari_aeseg.images.parallel import cores, in_threads, together

# Percentiles that are mapped to 0 and 1: robust against a few hot pixels.
_LOW, _HIGH = 0.5, 99.5
# Sums over channels and reconstructions of larger values overflow float32.
_LARGEST = 2.0**100
# The inverse of a narrower range overflows float32.
_NARROW = 1e-30
# A range of fewer steps of double precision cannot show an image.
_FEWEST_STEPS = 256
# Pixels that are scaled together: they stay in the processor's cache.
_TOGETHER = 131_072


@dataclass(frozen=True, slots=True)
class IntensityRange:
    """Per channel, the intensities that become 0 and 1, in the units of the image."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, pixels: np.ndarray) -> IntensityRange:
        """Measure the 0.5th and 99.5th percentile of each channel of (C, *space) pixels."""
        flat = pixels.reshape(len(pixels), -1)
        # A million pixels give a percentile well within the noise of the scaling.
        sample = flat[:, :: max(1, flat.shape[1] // 1_000_000)]
        low, high = np.transpose(
            together(*(partial(np.percentile, channel, (_LOW, _HIGH)) for channel in sample))
        )
        # Rare bright spots on a flat ground: the percentiles coincide, the extremes do not.
        if (is_flat := high <= low).any():
            low = np.where(is_flat, flat.min(axis=1), low)
            high = np.where(is_flat, flat.max(axis=1), high)
        return cls(tuple(low.tolist()), tuple(high.tolist()))

    def apply(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Scale (C, *space) pixels to float32, `low` to 0 and `high` to 1.

        A constant channel becomes 0. Values beyond the range are compressed smoothly into
        (-1, 2), so that one hot pixel cannot drown the rest. `out` may be `pixels` itself.
        """
        out = np.empty(pixels.shape, np.float32) if out is None else out
        rows = max(1, _TOGETHER * pixels.shape[1] // max(pixels[0].size, 1))

        def fill(part: tuple[int, int]) -> None:
            c, start = part
            scaled = _scaled(pixels[c, start : start + rows], self.low[c], self.high[c])
            into = out[c, start : start + rows]
            np.clip(scaled, 0, 1, out=into)
            # About 1 %: tanh of all takes long.
            beyond = np.flatnonzero((scaled < 0) | (scaled > 1))
            further = scaled.ravel()[beyond]
            into.ravel()[beyond] += np.tanh(further - np.clip(further, 0, 1))

        parts = product(range(len(pixels)), range(0, pixels.shape[1], rows))
        deque(in_threads(fill, parts, cores() if out.size > _TOGETHER else 1), maxlen=0)
        return out

    def undo(self, scaled: np.ndarray) -> np.ndarray:
        """Bring scaled (C, *space) pixels back to the units of the image, as float32."""
        shape = (-1, *[1] * (scaled.ndim - 1))
        low, high = (np.reshape(v, shape) for v in (self.low, self.high))
        most = np.finfo(np.float32).max  # numbers beyond it would become infinite
        return np.clip(low + scaled * (high - low), -most, most).astype(np.float32)


def _scaled(channel: np.ndarray, low: float, high: float) -> np.ndarray:
    """Bring `low` to 0 and `high` to 1; all to 0 if they are the same."""
    with np.errstate(over="ignore"):  # infinite values are clipped below
        if 0 < high - low < _NARROW:
            return (channel.astype(np.float64) - low) / (high - low)
        # Python numbers do not turn float32 into float64.
        return (channel - low) * (1 / (high - low) if high > low else 0.0)


@dataclass(frozen=True, slots=True)
class Image:
    """A checked image, ready for the network."""

    pixels: np.ndarray  # float32, shape (C, *space), most values in [0, 1]
    axes: Axes
    intensity: IntensityRange  # intensities that became 0 and 1
    name: str  # in error messages and in the record of a training
    # Illumination that the image was divided by before, shape space.
    light: np.ndarray | None = None

    @property
    def space_shape(self) -> tuple[int, ...]:
        """Pixels along each axis but C, in the order T, Z, Y, X."""
        return self.pixels.shape[1:]

    @property
    def is_constant(self) -> bool:
        """True when every channel has one value only."""
        return self.intensity.low == self.intensity.high


def as_array(image: Any, name: str) -> np.ndarray:
    """Return an image as an array, read or computed if need be; no copy if it is one.

    Raises InputError if it has masked pixels, or cannot be read.
    """
    try:
        image = plain_array(image, name)
        array = image.compute() if hasattr(image, "compute") else image
        check_not_masked(array, name)
        return np.asarray(array)
    except InputError:
        raise
    except Exception as error:  # storage may raise anything
        raise InputError(f"{name} cannot be read ({error}).") from error


def float_pixels(array: np.ndarray, name: str) -> np.ndarray:
    """Return a copy of an array of any real dtype as float32, or as float64 if it is wider.

    Raises InputError if it is complex, not numeric, or has NaN, infinite or immense values.
    """
    if array.dtype.kind not in "buif":
        problem = (
            "complex: pass its magnitude (np.abs) or its phase"
            if array.dtype.kind == "c"
            else f"of dtype {array.dtype}: pass numbers"
        )
        raise InputError(f"{name} is {problem}.")
    # float32 holds 24 bits: enough for every camera; wide integers and doubles keep float64.
    is_wide = array.dtype.itemsize > (4 if array.dtype.kind == "f" else 2)
    with np.errstate(over="ignore"):  # of numbers wider than float64, which are refused below
        pixels = array.astype(np.float64 if is_wide else np.float32, order="C")
    if array.dtype.kind != "f":
        return np.asarray(pixels)
    widest = array if array.dtype.itemsize > pixels.dtype.itemsize else pixels
    bad = int(pixels.size - np.count_nonzero(np.isfinite(widest)))
    if bad:
        raise InputError(
            f"{name} has {bad} NaN or infinite value(s) among {pixels.size}; replace them first, "
            "for example with np.nan_to_num(image), or crop them away."
        )
    if max(pixels.max(), -pixels.min()) > _LARGEST:
        raise InputError(
            f"{name} has values beyond {_LARGEST:.1e}, too large for float32: divide it first, for "
            "example by its largest value, or replace values that are invalid."
        )
    return np.asarray(pixels)


def check_precision(dtype: Any, intensity: IntensityRange, name: str) -> None:
    """Raise InputError for 64-bit integers that are nearly the same in double precision."""
    low, high = min(intensity.low), max(intensity.high)
    step = float(np.spacing(max(abs(low), abs(high))))
    is_wide = np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize == 8
    if is_wide and step > 1 and high - low < _FEWEST_STEPS * step:
        raise InputError(
            f"{name} has values of about {high:.6g} that differ too little for double precision: "
            "subtract the smallest first (image - image.min())."
        )


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A checked image in its own intensities."""

    pixels: np.ndarray  # float32 or float64, shape (C, *space)
    axes: Axes
    name: str
    dtype: np.dtype[Any]  # of the image before it became float

    def intensity(self) -> IntensityRange:
        """Measure the range of intensities."""
        intensity = IntensityRange.of(self.pixels)
        check_precision(self.dtype, intensity, self.name)
        return intensity

    def scaled(self, intensity: IntensityRange, light: np.ndarray | None = None) -> Image:
        """Scale intensities, in place if they are float32; `light` was divided out before."""
        if len(intensity.low) != len(self.pixels):
            raise InputError(
                f"{self.name} has {len(self.pixels)} channel(s), read as {self.axes}; "
                f"{len(intensity.low)} are expected."
            )
        into = self.pixels if self.pixels.dtype == np.float32 else None
        pixels = intensity.apply(self.pixels, into)
        return Image(pixels, self.axes, intensity, self.name, light)


def load_image(image: Any, axes: str | Axes | None = None, name: str = "image") -> LoadedImage:
    """Check an image and load it as float; parameters and errors as of `read_image`."""
    reading = image_axes(image, axes, name)
    array = as_array(image, name)
    pixels = float_pixels(channels_first(array, reading), name)
    return LoadedImage(pixels, reading, name, array.dtype)


def read_image(
    image: Any,
    axes: str | Axes | None = None,
    intensity: IntensityRange | None = None,
    name: str = "image",
    flatten_illumination: bool = True,
) -> Image:
    """Check an image once, correct its illumination and scale its intensities.

    The image is a numpy, dask or zarr array of any real dtype, and is never written to. If
    `intensity` is given, it is used instead of the percentiles of the image, and the illumination
    is not corrected. Raises InputError if the image is empty, complex, not numeric, or has masked,
    NaN, infinite or immense values, cannot be read, or if the axes do not fit.
    """
    loaded = load_image(image, axes, name)
    if intensity is not None:
        return loaded.scaled(intensity)
    light = illumination(loaded.pixels) if flatten_illumination else None
    if light is not None:
        pixels = loaded.pixels
        pixels /= light  # in place: a second copy of a large image may not fit into memory
    return loaded.scaled(loaded.intensity(), light)
