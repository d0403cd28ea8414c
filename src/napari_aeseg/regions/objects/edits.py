"""Edits of objects by hand: delete, add, merge, split, take a smaller or larger candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image
from skimage.segmentation import watershed

from napari_aeseg.errors import InputError
from napari_aeseg.regions.objects.candidates import CONTRAST, Candidates, basins_of, depth_of

Place = tuple[int, ...]
#: Finds the candidates at a pixel: those of the maps that are shown, or of all maps nearby.
OptionFinder = Callable[[Place, bool], list["Option"]]
Slices = tuple[slice, ...]

# An object that lies in another one with more than this share of its pixels is replaced by it.
_COVERED = 0.5
# A candidate that is added has at most this share of its pixels in objects, at least this score.
_OVERLAP, _LEAST_SCORE = 0.2, 0.02
# Of candidates whose sizes differ by less than this factor, that with the clearest outline counts.
_SAME_SIZE = 1.3
# An outline that is this much flatter (log) than the steepest around a place is noise.
_FLAT = float(np.log(8))


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate that a pixel lies in."""

    candidates: Candidates
    part: int
    score: float
    corner: Place  # of the window in which it was searched
    step: int  # every how many pixels were

    @property
    def size(self) -> int:
        """Pixels of the image."""
        shape = self.candidates.parts.shape
        return int(self.candidates.pixels[self.part]) * self.step ** len(shape)

    @property
    def contrast(self) -> float:
        """How clear its outline is."""
        return float(self.candidates.features[self.part, CONTRAST])

    def overlap(self, labels: np.ndarray) -> float:
        """Share of its pixels that lie in objects."""
        where, inside = self.located(labels.shape)
        return float((labels[where][inside] > 0).mean())

    def located(self, shape: tuple[int, ...]) -> tuple[Slices, np.ndarray]:
        """Where it is in the image, and its mask there, without holes."""
        mask = self.candidates.parts.mask_of(self.part)
        (place,) = ndimage.find_objects(mask, 1)
        mask = ndimage.binary_fill_holes(mask[place])
        starts = [c + s.start * self.step for c, s in zip(self.corner, place, strict=True)]
        for axis, (start, n) in enumerate(zip(starts, shape, strict=True)):
            if self.step > 1:
                mask = np.repeat(mask, self.step, axis)
            mask = mask.take(range(min(mask.shape[axis], n - start)), axis)
        return tuple(slice(a, a + n) for a, n in zip(starts, mask.shape, strict=True)), mask


def best_option(
    place: Place, size: int | None, labels: np.ndarray, options_at: OptionFinder
) -> Option | None:
    """Return the candidate of `TakeObject`; None if there is none."""
    for nearby in (False, True):
        options = options_at(place, nearby)
        if size is None:
            by_score = sorted(options, key=lambda option: -option.score)
            best = next((o for o in by_score if o.overlap(labels) <= _OVERLAP), None)
            if best is not None and best.score > _LEAST_SCORE:
                return best
        elif options:
            best = min(options, key=lambda o: (abs(np.log(o.size / size)), -o.score))
            if nearby or _similar(best, size):
                return best
    return None


def sizes_on_offer(place: Place, options_at: OptionFinder) -> list[int]:
    """Return sizes of the candidates at a place with the clearest outlines, smallest first."""
    for nearby in (False, True):
        options = [o for o in options_at(place, nearby) if o.score > _LEAST_SCORE]
        options.sort(key=lambda option: option.size)
        steepest = max((o.contrast for o in options), default=0)
        clearest = [
            option.size
            for k, option in enumerate(options)
            if option.contrast > steepest - _FLAT
            and all(
                option.contrast >= other.contrast
                for i, other in enumerate(options)
                if abs(i - k) == 1 or _similar(option, other.size)
            )
        ]
        if clearest:
            break
    return sorted(set(clearest))


def _similar(option: Option, size: int) -> bool:
    return max(option.size, size) < _SAME_SIZE * min(option.size, size)


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """The object at a place is removed; where there is none, nothing changes.

    Parameters
    ----------
    place : tuple of int
        A pixel, such as (row, column).
    """

    place: Place

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", _checked_place(self.place))

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"delete_object": [list(self.place)]}

    def apply(
        self, labels: np.ndarray, spacing: tuple[float, ...], options_at: OptionFinder
    ) -> None:
        """Change labels in place; see `with_object_edits`."""
        if labels[self.place]:
            labels[labels == labels[self.place]] = 0


@dataclass(frozen=True, slots=True)
class TakeObject:
    """A candidate at a place becomes an object, instead of the object that is there.

    Objects that lie mostly in it are replaced; of others it gets the pixels that are free.

    Parameters
    ----------
    place : tuple of int
        A pixel, such as (row, column).
    size : int, optional
        Pixels: of the candidates at this place, that of the nearest size is taken (see
        `Hierarchy.object_sizes_at`). By default it is the most likely one that overlaps no object,
        and nothing changes where an object is already.
    """

    place: Place
    size: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", _checked_place(self.place))
        size = self.size
        if size is not None and (not _is_whole(size) or size < 1):
            raise InputError(f"size = {size!r}: give a whole number of pixels, 1 or more.")
        object.__setattr__(self, "size", None if size is None else int(size))

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        size = {} if self.size is None else {"size": self.size}
        return {"take_object": [list(self.place)], **size}

    def apply(
        self, labels: np.ndarray, spacing: tuple[float, ...], options_at: OptionFinder
    ) -> None:
        """Change labels in place; see `with_object_edits`."""
        own = int(labels[self.place])
        if own and self.size is None:
            return
        option = best_option(self.place, self.size, labels, options_at)
        if option is None:
            return
        window, inside = option.located(labels.shape)
        own = own or int(labels.max()) + 1
        labels[labels == own] = 0
        here = labels[window]  # a view
        size = np.bincount(labels.ravel())
        covered = np.bincount(here[inside], minlength=len(size)) > _COVERED * size
        covered[0] = False
        here[covered[here]] = 0
        labels[covered[labels]] = 0
        here[inside & (here == 0)] = own


@dataclass(frozen=True, slots=True)
class MergeObjects:
    """The objects at some places become one, with the smallest of their labels.

    Of objects that do not touch, the convex hull is taken, without what other objects have of it.

    Parameters
    ----------
    places : tuple of tuple of int
        Pixels, at least two.
    """

    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", _checked_places(self.places))
        if len(self.places) < 2:
            raise InputError(f"places = {self.places}: name pixels of at least two objects.")

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"merge_objects": [list(place) for place in self.places]}

    def apply(
        self, labels: np.ndarray, spacing: tuple[float, ...], options_at: OptionFinder
    ) -> None:
        """Change labels in place; see `with_object_edits`."""
        ids = sorted({int(labels[place]) for place in self.places} - {0})
        if len(ids) < 2:
            return
        merged = np.isin(labels, ids)
        window = ndimage.find_objects(merged, 1)[0]
        here, inside = labels[window], merged[window]
        if ndimage.label(inside)[1] > 1:
            inside = convex_hull_image(inside) & (inside | (here == 0))
        here[inside] = ids[0]


@dataclass(frozen=True, slots=True)
class SplitObject:
    """The object at a place is parted; its largest part keeps the label.

    Parameters
    ----------
    places : tuple of tuple of int
        Pixels. With one, the object is parted at its deepest neck; if it has none, across its
        longest axis. With more, each that lies in the object of the first is inside a part.
    """

    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", _checked_places(self.places))
        if not self.places:
            raise InputError("places is empty: name a pixel of the object.")

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"split_object": [list(place) for place in self.places]}

    def apply(
        self, labels: np.ndarray, spacing: tuple[float, ...], options_at: OptionFinder
    ) -> None:
        """Change labels in place; see `with_object_edits`."""
        own, last = int(labels[self.places[0]]), int(labels.max())
        if not own:
            return
        (place,) = ndimage.find_objects(labels == own, 1)
        # One pixel more on each side, where the image has it: its edge makes no neck.
        window = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in place)
        inside = labels[window] == own
        corner = [s.start for s in window]
        seeds = [tuple(np.subtract(p, corner)) for p in self.places if labels[p] == own]
        if len(set(seeds)) > 1:
            parts = _parts_around(inside, seeds, spacing)
        else:
            parts = _parts_at_neck(inside, spacing)
        by_size = np.argsort(-np.bincount(parts.ravel())[1:], kind="stable") + 1
        for k, part in enumerate(by_size[1:], 1):
            labels[window][parts == part] = last + k


ObjectEdit = DeleteObject | TakeObject | MergeObjects | SplitObject


def with_object_edits(
    labels: np.ndarray,
    edits: Iterable[ObjectEdit],
    spacing: tuple[float, ...],
    options_at: OptionFinder,
) -> np.ndarray:
    """Apply edits to the labels of objects, one after the other; return new labels.

    Edits name pixels, not labels, so that they can be replayed on other objects of the same image;
    one that has nothing to change there is skipped. Labels of other objects stay as they are, so
    that there can be gaps between them; new objects get the largest label and one more.
    """
    result = np.array(labels)  # a copy: edits are applied in place
    for edit in edits:
        check_places(edit, labels.shape)
        edit.apply(result, spacing, options_at)
    return result


def check_places(edit: ObjectEdit, shape: tuple[int, ...]) -> None:
    """Raise InputError if an edit names a place outside the image."""
    for place in places_of(edit):
        fits = len(place) == len(shape)
        if not fits or not all(i < n for i, n in zip(place, shape, strict=True)):
            raise InputError(f"place = {place}: give a pixel of an image of shape {shape}.")


def places_of(edit: ObjectEdit) -> tuple[Place, ...]:
    """Return all pixels that an edit names."""
    return (edit.place,) if isinstance(edit, DeleteObject | TakeObject) else edit.places


def of_slice(edit: ObjectEdit, axis: int) -> tuple[int, ObjectEdit]:
    """Return which slice along an axis an edit is in, and the edit in this slice."""
    at = {place[axis] for place in places_of(edit)}
    if len(at) > 1:
        raise InputError(f"Places in frames {sorted(at)}: objects are edited in one frame.")
    inside = tuple(place[:axis] + place[axis + 1 :] for place in places_of(edit))
    if isinstance(edit, DeleteObject | TakeObject):
        return at.pop(), replace(edit, place=inside[0])
    return at.pop(), replace(edit, places=inside)


def object_edit_of(record: Any) -> ObjectEdit | None:
    """Return the edit that a record describes; None of records of other kinds."""
    match record:
        case {"delete_object": [place]}:
            return DeleteObject(place)
        case {"take_object": [place]}:
            return TakeObject(place, record.get("size"))
        case {"merge_objects": [*places]}:
            return MergeObjects(tuple(places))
        case {"split_object": [*places]}:
            return SplitObject(tuple(places))
    return None


def _parts_around(
    inside: np.ndarray, seeds: Sequence[Place], spacing: tuple[float, ...]
) -> np.ndarray:
    """Parts 1 .. n of a mask, each around a seed, with borders at the necks between them."""
    markers = np.zeros(inside.shape, np.int32)
    for k, seed in enumerate(seeds, 1):
        markers[seed] = k
    return watershed(-depth_of(inside, spacing), markers, mask=inside)


def _parts_at_neck(inside: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Two parts of a mask: what its deepest neck joins; without a neck, halves of its length."""
    components, number = ndimage.label(inside)
    if number > 1:
        return components
    basins, merges = basins_of(inside, spacing)
    if not merges:
        at = np.argwhere(inside) * np.array(spacing)
        at = at - at.mean(axis=0)
        along = at @ np.linalg.svd(at, full_matrices=False)[2][0]
        parts = np.zeros(inside.shape, np.int32)
        parts[inside] = np.where(along > np.median(along), 2, 1)
        return parts
    number = len(merges) + 1
    part_of_node = np.ones(number + len(merges), np.int32)
    part_of_node[merges[-1][1]] = 2
    for k in range(len(merges) - 2, -1, -1):
        part_of_node[list(merges[k])] = part_of_node[number + k]
    return np.where(inside, part_of_node[basins - 1], 0)


def _checked_places(places: object) -> tuple[Place, ...]:
    if not isinstance(places, tuple | list):
        raise InputError(f"places = {places!r}: give a tuple of pixels, such as ((3, 8), (3, 20)).")
    return tuple(_checked_place(place) for place in places)


def _checked_place(place: object) -> Place:
    whole = isinstance(place, tuple | list) and len(place) > 0 and all(map(_is_whole, place))
    place = tuple(map(int, place)) if whole and isinstance(place, tuple | list) else place
    if not isinstance(place, tuple) or not whole or min(place) < 0:
        raise InputError(f"place = {place!r}: give whole numbers of 0 or more, such as (3, 8).")
    return place


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
