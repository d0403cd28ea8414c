"""Values of patches on pixels that stay on disk: lazy arrays, and what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.regions.cuts.markers import NO_MARKER, check_ids
from napari_aeseg.regions.patches.graph import contour_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_aeseg.images.axes import Axes
    from napari_aeseg.regions.patches.graph import RegionGraph


# Places that are looked at, and pixels along Y and X there: of flat images, and of volumes.
_PLACES, _FLAT, _DEEP = 3, 1024, 128


def matches_image(
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


class StoredIds(Protocol):
    """Patch ids of an image that are stored as numbers of some other kind."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Pixels of each chunk along each axis."""

    def read(self, part: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers stored in a chunk, and the id that each of them stands for."""

    def __dask_tokenize__(self) -> object:
        """Tell it apart from others."""


class _Reader:
    """Reads a chunk, and looks up what its ids stand for: once per number, then once per pixel."""

    def __init__(self, stored: StoredIds, look_up: Callable[[np.ndarray], np.ndarray]) -> None:
        self.stored = stored
        self.look_up = look_up

    def __call__(self, block_info: Any = None) -> np.ndarray:
        place = block_info[None]["array-location"][: len(self.stored.chunks)]
        numbers, ids = self.stored.read(tuple(slice(*along) for along in place))
        # There is nothing to clip, but then numpy does not look for it first.
        return np.take(self.look_up(ids), numbers, axis=0, mode="clip")

    def __dask_tokenize__(self) -> object:
        from dask.base import normalize_token

        return type(self).__name__, normalize_token((self.stored, self.look_up))


# The reader of every array of ids that is alive, by the array's name.
_READERS: WeakValueDictionary[str, _Reader] = WeakValueDictionary()


def ids_array(stored: StoredIds) -> Any:
    """Return stored ids as a dask array of int32."""
    reader = _Reader(stored, _same)
    ids = _read(reader, np.dtype(np.int32))
    _READERS[ids.name] = reader
    return ids


def looked_up(ids: Any, look_up: Callable[[np.ndarray], np.ndarray], like: np.ndarray) -> Any:
    """Return a dask array of what is looked up for each pixel.

    Parameters
    ----------
    ids : dask array of int32, shape space
        If it is one of `ids_array`, nothing is computed per pixel but the result.
    look_up : callable
        Takes ids, in an array of any shape, and returns what each of them stands for.
    like : ndarray, shape (n, ...)
        An array as `look_up` returns it for a row of ids.
    """
    reader, further = _READERS.get(ids.name), like.shape[1:]
    if reader is not None:
        return _read(_Reader(reader.stored, look_up), like.dtype, further)
    more = {"new_axis": [*range(ids.ndim, ids.ndim + len(further))]} if further else {}
    chunks = (*ids.chunks, *((n,) for n in further))
    meta = np.empty((0,) * len(chunks), like.dtype)
    return ids.map_blocks(look_up, dtype=like.dtype, meta=meta, chunks=chunks, **more)


def _read(reader: _Reader, dtype: np.dtype[Any], further: tuple[int, ...] = ()) -> Any:
    import dask.array as da
    from dask.base import tokenize

    chunks = (*reader.stored.chunks, *((n,) for n in further))
    return da.map_blocks(  # type: ignore[no-untyped-call]
        reader,
        name=f"aeseg-{tokenize(reader)}",
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
    )


def _same(ids: np.ndarray) -> np.ndarray:
    return ids


class _Painter:
    """Looks up the values of patches; kept by the arrays that need it."""

    def __init__(self, patches: Any, values: np.ndarray) -> None:
        self.patches_name = patches.name
        self.values = values
        # Id -1, where there is no patch, finds the first value.
        nothing = np.zeros((1, *values.shape[1:]), values.dtype)
        self._with_none = np.concatenate([nothing, values])

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return np.take(self._with_none, ids + 1, axis=0, mode="clip")

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.patches_name, self.values)

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return "aeseg-painter", self.patches_name, normalize_token(self.values)


class _Named:
    """Stands for patch ids of which only the name is needed."""

    def __init__(self, name: str) -> None:
        self.name = name


def _unpickled(name: str, values: np.ndarray) -> _Painter:
    return _Painter(_Named(name), values)


# The painter of every lazy array that is alive, by the array's name.
_PAINTERS: WeakValueDictionary[str, _Painter] = WeakValueDictionary()


def is_lazy(patches: Any) -> bool:
    """Return whether patch ids are computed where they are looked at."""
    return not isinstance(patches, np.ndarray)


def map_to_pixels_lazily(patches: Any, values: np.ndarray) -> Any:
    """Return a dask array with the value of each pixel's patch, 0 where there is no patch.

    Parameters
    ----------
    patches : dask array of int32, shape space
        -1 where there is no patch.
    values : ndarray, shape (P,) or (P, channels)

    Examples
    --------
    >>> import dask.array as da
    >>> patches = da.from_array(np.array([[0, 1, -1]]))
    >>> labels = map_to_pixels_lazily(patches, np.array([5, 7]))
    >>> labels.compute().tolist(), values_painted(labels, patches).tolist()
    ([[5, 7, 0]], [5, 7])
    """
    painter = _Painter(patches, values)
    painted = looked_up(patches, painter, values)
    _PAINTERS[painted.name] = painter
    return painted


def values_painted(labels: Any, patches: Any) -> np.ndarray | None:
    """Return what value each patch has in an array of `map_to_pixels_lazily`, without computing it.

    None for any other array, and for one painted on other patches.
    """
    painter = _PAINTERS.get(getattr(labels, "name", ""))
    if painter is None or painter.patches_name != patches.name:
        return None
    return painter.values


def labels_by_patch(labels: Any, patches: Any, number: int, what: str) -> np.ndarray:
    """Return the value of each patch, shape (P,), of labels that were cut from a hierarchy.

    Parameters
    ----------
    labels : array
        Painted on these patches, or with the values of the patches.
    patches : dask array
    number : int
        Of patches.
    what : str
        What errors call the labels.

    Raises
    ------
    InputError
        For all other labels: every pixel would have to be computed.
    """
    if isinstance(labels, np.ndarray) and labels.shape == (number,):
        return labels
    found = values_painted(labels, patches)
    if found is None:
        raise InputError(
            f"{what} of an image that was worked on in blocks are known by patch only: give what "
            "this hierarchy's `regions`, `classes` or a Cut of it returned, as it is, or a value "
            f"for each of the {number} patches (`Cut.of_patch`)."
        )
    return found


def marks_lazily(markers: Any, patches: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the marker with most pixels in each patch, and all ids; computed is what is marked.

    Parameters
    ----------
    markers : ndarray or dask array of int, shape space
    patches : dask array of int32, shape space
    number : int
        Of patches.

    Returns
    -------
    marked : ndarray of int32, shape (P,)
        As of `napari_aeseg.regions.cuts.markers.marked_patches`.
    ids : ndarray of int64

    Raises
    ------
    InputError
        If there is no marker, all of them are where there is no patch, or ids are out of range.
    """
    pixels: dict[tuple[int, int], int] = {}
    first: dict[tuple[int, int], int] = {}
    ids: set[int] = set()
    for part in _chunks_of(patches):
        found = np.asarray(markers[part])
        at = np.nonzero(found)
        if not len(at[0]):
            continue
        marker = found[at].astype(np.int64)
        check_ids(marker)
        ids.update(np.unique(marker).tolist())
        patch = np.asarray(patches[part])[at].astype(np.int64)
        place = np.ravel_multi_index(
            tuple(a + s.start for a, s in zip(at, part, strict=True)), patches.shape
        )
        inside = patch >= 0
        keys, start, count = np.unique(
            np.stack([patch[inside], marker[inside]]), axis=1, return_index=True, return_counts=True
        )
        for key, where, n in zip(keys.T.tolist(), place[inside][start], count, strict=True):
            pair = (key[0], key[1])
            pixels[pair] = pixels.get(pair, 0) + int(n)
            first[pair] = min(first.get(pair, int(where)), int(where))
    if not ids:
        raise InputError(NO_MARKER)
    if not pixels:
        raise InputError("All markers are where the image could not be read: mark other parts.")
    marked = np.zeros(number, np.int32)
    for pair in sorted(pixels, key=lambda pair: (pixels[pair], -first[pair])):
        marked[pair[0]] = pair[1]
    return marked, np.array(sorted(ids))


def _chunks_of(patches: Any) -> Iterator[tuple[slice, ...]]:
    from dask.array.core import slices_from_chunks

    yield from slices_from_chunks(patches.chunks)  # type: ignore[no-untyped-call]


def marks_on_top_lazily(
    labels: Any, markers: Any, patches: Any, before: np.ndarray, ids: np.ndarray, became: np.ndarray
) -> Any:
    """Give marked pixels their label, as `napari_aeseg.regions.cuts.markers.marks_on_top` does.

    Parameters
    ----------
    labels, patches : dask array of int32, shape space
    markers : ndarray or dask array of int, shape space
    before : ndarray of int, shape (P,)
    ids, became : ndarray of int
        All markers, sorted, and the label of each.
    """
    import dask.array as da

    placed: Any = da.asarray(markers).rechunk(patches.chunks)  # type: ignore[no-untyped-call]
    return da.map_blocks(  # type: ignore[no-untyped-call]
        _with_marks, labels, placed, patches, before=before, ids=ids, became=became, dtype=np.int32
    )


def _with_marks(
    labels: np.ndarray,
    markers: np.ndarray,
    patches: np.ndarray,
    before: np.ndarray,
    ids: np.ndarray,
    became: np.ndarray,
) -> np.ndarray:
    """One chunk of labels with its marks."""
    differ = (markers != 0) & ((patches < 0) | (markers != before[patches]))
    if not differ.any():
        return labels
    labels = labels.copy()
    labels[differ] = became[np.searchsorted(ids, markers[differ])]
    return labels


def contour_lazily(patches: Any, graph: RegionGraph, strength: np.ndarray) -> Any:
    """Return what `contour_map` returns as a dask array: chunks see one pixel of their neighbours.

    Parameters
    ----------
    patches : dask array of int32, shape space
    graph : RegionGraph
    strength : ndarray of float, shape (E,)
    """
    import dask.array as da

    return da.map_overlap(  # type: ignore[no-untyped-call]
        contour_map,
        patches,
        graph=graph,
        strength=strength,
        depth=1,
        boundary="none",
        dtype=np.float32,
        meta=np.empty((0,) * patches.ndim, np.float32),
    )
