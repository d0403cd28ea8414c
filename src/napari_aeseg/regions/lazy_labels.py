"""Labels of images whose patch ids stay on disk: dask arrays that look up values of patches.

A look-up happens where pixels are computed. The values by patch are read back from the arrays
without computing a pixel, so that labels can be measured and edited.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import Axes, channels_first
from napari_aeseg.regions.cuts.markers import marks_on_top
from napari_aeseg.regions.patches.graph import RegionGraph, contour_map

# Pixels along Y and X of a part that is compared: of flat images, and of volumes.
_FLAT, _DEEP = 1024, 128


def matches_image(
    image: Any, patches: Any, axes: Axes, intensity: np.ndarray, count: np.ndarray
) -> bool:
    """Return whether patches that lie wholly in a few parts of an image have these intensities.

    Only parts of the image are read. `intensity` is the mean of each channel in each patch, shape
    (P, C), `count` the pixels of each patch, shape (P,).
    """
    # The last part is the whole image: there, every patch is whole.
    whole = tuple(slice(0, n) for n in axes.space_shape)
    parts = [*_sample_parts(axes), whole]
    answers = (_part_matches(image, patches, axes, intensity, count, part) for part in parts)
    return next((answer for answer in answers if answer is not None), False)


def _sample_parts(axes: Axes) -> list[tuple[slice, ...]]:
    """Parts along the diagonal; the middle one first, as images may be empty in their corners."""
    side = _DEEP if "Z" in axes.space else _FLAT
    shape = axes.space_shape
    sides = [min(n, 1 if a == "T" else side) for a, n in zip(axes.space, shape, strict=True)]
    return [
        tuple(
            slice(int(share * (n - s)), int(share * (n - s)) + s)
            for n, s in zip(shape, sides, strict=True)
        )
        for share in (0.5, 0.0, 1.0)
    ]


def _part_matches(
    image: Any,
    patches: Any,
    axes: Axes,
    intensity: np.ndarray,
    count: np.ndarray,
    part: tuple[slice, ...],
) -> bool | None:
    """Whether a part of the image matches; None where no patch lies in it as a whole."""
    ids = np.asarray(patches[part]).ravel()
    inside = ids >= 0
    pixels_here = np.bincount(ids[inside], minlength=len(count))
    whole = (pixels_here > 0) & (pixels_here == count)
    if not whole.any():
        return None
    along = dict(zip(axes.space, part, strict=True))
    pixels = np.asarray(image[tuple(along.get(a, slice(None)) for a in axes.letters)])
    channels = axes.to_image_order(channels_first(pixels, axes))
    flat = channels.reshape(len(channels), -1).astype(np.float64)[:, inside]
    total = np.stack([np.bincount(ids[inside], channel, len(count)) for channel in flat], 1)
    means = total[whole] / count[whole, np.newaxis]
    # Pixels are added in another order here: means differ by rounding.
    return bool(np.allclose(means, intensity[whole], rtol=1e-9, atol=0))


class _PatchValues:
    """Looks up the values of patches; the arrays that need it refer to it."""

    def __init__(self, patches: Any, values: np.ndarray) -> None:
        self.patches_name = patches.name
        # Id -1, where there is no patch, finds the first value, which is 0.
        zero = np.zeros((1, *values.shape[1:]), values.dtype)
        self._from_minus_one = np.concatenate([zero, values])

    @property
    def values(self) -> np.ndarray:
        return self._from_minus_one[1:]

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return np.take(self._from_minus_one, ids + 1, axis=0, mode="clip")

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return "aeseg-patch-values", self.patches_name, normalize_token(self.values)


# The values of each array of `map_to_pixels_lazily` that is in use, by the array's name: a dask
# array has no place for them.
_VALUES: WeakValueDictionary[str, _PatchValues] = WeakValueDictionary()
_LOOK_UPS: WeakValueDictionary[str, _PatchValues] = WeakValueDictionary()


def is_lazy(patches: Any) -> bool:
    """Return whether patch ids are a lazy array, not in memory."""
    return not isinstance(patches, np.ndarray)


def map_to_pixels_lazily(patches: Any, values: np.ndarray) -> Any:
    """Return a dask array with the value, (P,) or (P, C), of each pixel's patch; 0 for id -1."""
    from dask.base import tokenize

    look_up = _PatchValues(patches, values)
    # Equal arrays have one name: if each had its own, the first to go would take it along.
    look_up = _LOOK_UPS.setdefault(tokenize(look_up), look_up)
    further = values.shape[1:]
    chunks = (*patches.chunks, *((n,) for n in further))
    labels = patches.map_blocks(
        look_up,
        dtype=values.dtype,
        meta=np.empty((0,) * len(chunks), values.dtype),  # dask would call `look_up` to guess it
        chunks=chunks,
        new_axis=[*range(patches.ndim, len(chunks))] or None,
    )
    _VALUES[labels.name] = look_up
    return labels


def with_values_of(labels: Any, changed: Any) -> Any:
    """Return changed labels of `map_to_pixels_lazily`: their values by patch are the same."""
    _VALUES[changed.name] = _VALUES[labels.name]
    return changed


def values_by_patch(labels: Any, patches: Any) -> np.ndarray | None:
    """Return the value of each patch in an array of `map_to_pixels_lazily`; no pixel is computed.

    None for any other array, and for one of other patches.
    """
    look_up = _VALUES.get(getattr(labels, "name", ""))
    if look_up is None or look_up.patches_name != patches.name:
        return None
    return look_up.values


def labels_by_patch(labels: Any, patches: Any, number: int, name: str) -> np.ndarray:
    """Return the value of each patch, shape (P,), of labels that were cut from a hierarchy.

    Labels are mapped to pixels from these patches, or are the values of the patches. All others
    raise InputError, with `name`: every pixel would have to be computed.
    """
    if isinstance(labels, np.ndarray) and labels.shape == (number,):
        return labels
    values = values_by_patch(labels, patches)
    if values is None:
        raise InputError(
            f"{name} of an image in blocks are measured by patch: give unchanged labels of "
            f"`regions` or `classes`, or {number} values, one for each patch (`Cut.of_patch`)."
        )
    return values


def marks_on_top_lazily(labels: Any, markers: Any, patches: Any, **values: np.ndarray) -> Any:
    """Return `napari_aeseg.regions.cuts.markers.marks_on_top` as a dask array."""
    import dask.array as da

    placed: Any = da.asarray(markers).rechunk(patches.chunks)
    return da.map_blocks(marks_on_top, labels, placed, patches, **values, dtype=np.int32)


def contour_lazily(patches: Any, graph: RegionGraph, strength: np.ndarray) -> Any:
    """Return `contour_map` as a dask array: chunks see one pixel of their neighbours."""
    import dask.array as da

    return da.map_overlap(
        contour_map,
        patches,
        graph=graph,
        strength=strength,
        depth=1,
        boundary="none",
        dtype=np.float32,
        meta=np.empty((0,) * patches.ndim, np.float32),
    )
