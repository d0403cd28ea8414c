"""Whether an image is that of a hierarchy of blocks, without reading all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes

# Places that are looked at, and pixels along Y and X there: of flat images, and of volumes.
_PLACES, _FLAT, _DEEP = 3, 1024, 128


def is_image_of(
    image: Any, patches: Any, axes: Axes, intensity: np.ndarray, count: np.ndarray
) -> bool:
    """Return whether patches that lie wholly in a few places have the intensities that are known.

    Parameters
    ----------
    image : array_like
        Of the shape of `axes`; only parts of it are read.
    patches : dask array of int, shape space
    axes : Axes
    intensity : ndarray, shape (P, C)
        Mean of each channel in each patch.
    count : ndarray, shape (P,)
        Pixels of each patch.
    """
    # The last is all of it: there, every patch is whole.
    everything = tuple(slice(0, n) for n in axes.space_shape)
    known = patches, axes, intensity, count
    found = (_compared(image, *known, place) for place in [*_places(axes), everything])
    return next((alike for alike in found if alike is not None), False)


def _places(axes: Axes) -> list[tuple[slice, ...]]:
    """Parts along the diagonal; the middle one first, as images may be empty in their corners."""
    side = _DEEP if "Z" in axes.space else _FLAT
    shape = axes.space_shape
    sides = [min(n, 1 if a == "T" else side) for a, n in zip(axes.space, shape, strict=True)]
    shares = sorted(np.linspace(0, 1, _PLACES), key=lambda share: abs(share - 0.5))
    return [
        tuple(
            slice(int(share * (n - s)), int(share * (n - s)) + s)
            for n, s in zip(shape, sides, strict=True)
        )
        for share in shares
    ]


def _compared(
    image: Any,
    patches: Any,
    axes: Axes,
    intensity: np.ndarray,
    count: np.ndarray,
    place: tuple[slice, ...],
) -> bool | None:
    """Whether a place looks as is known; None where no patch lies in it as a whole."""
    ids = np.asarray(patches[place]).ravel()
    inside = ids >= 0
    seen = np.bincount(ids[inside], minlength=len(count))
    whole = (seen > 0) & (seen == count)
    if not whole.any():
        return None
    along = dict(zip(axes.space, place, strict=True))
    pixels = np.asarray(image[tuple(along.get(a, slice(None)) for a in axes.letters)])
    if "C" in axes.letters:
        pixels = np.moveaxis(pixels, axes.letters.index("C"), 0)
    flat = pixels.reshape(intensity.shape[1], -1).astype(np.float64)[:, inside]
    total = np.stack([np.bincount(ids[inside], channel, len(count)) for channel in flat], 1)
    means = total[whole] / count[whole, np.newaxis]
    return bool(np.allclose(means, intensity[whole], rtol=1e-9, atol=0))
