"""Finding objects: parts of an image that look like objects, each with its own threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.measure import label as connected_components

from napari_aeseg.errors import InputError
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.objects.candidates import (
    CONTRAST,
    THIN,
    Candidates,
    basins_of,
    candidates_of,
    coordinate_powers,
    ellipse_fit,
    filled,
    nested_basins,
    radius_of,
)
from napari_aeseg.regions.objects.edits import (
    DeleteObject,
    ObjectEdit,
    Option,
    check_places,
    of_slice,
    places_of,
    sizes_on_offer,
    with_object_edits,
)
from napari_aeseg.regions.objects.score import (
    FROM_BOTH,
    FROM_LOOKS,
    agreement_of,
    score_of,
)
from napari_aeseg.regions.objects.settings import ObjectSettings
from napari_aeseg.regions.objects.walls import cells_between_walls

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.regions.objects.edits import OptionFinder

    #: Which map, and whether objects are bright (1) or dark (-1) in it.
    Source = tuple[int, int]
    #: Sets of candidates with the score of each.
    Scored = list[tuple[Candidates, np.ndarray]]
    OfSource = dict[Source, list[Candidates]]
    OfSamples = dict[Source, list[list[Candidates]]]

# Candidates have at least so many pixels, fewer if `min_size` or `diameter` asks for smaller ones.
_SMALLEST, _FEWEST = 15, 4
# Least score of objects that tell what is typical of the image.
_TYPICAL = 0.4
# An object may lie in better ones with at most this share of its pixels.
_OVERLAP = 0.2
# Candidates of two sets are the same object if they overlap by this much (IoU).
_SAME = 0.5
# One object may be several if these have this share of its pixels (spots inside it have less), and
# this many times its value; each is inside with this share of its own pixels, 2D and 3D.
_FILL, _GAIN, _INSIDE = 0.85, 1.2, {2: 0.8, 3: 0.5}
# Least score of an object at a sensitivity of 0.5: a share of the score of clear objects (their
# weighted 70 % quantile), within these bounds.
_SHARE, _LEAST_SCORE = 0.35, (0.15, 0.35)
# Objects may be this many times smaller or larger than a given diameter; beyond that, their score
# falls with this standard deviation of log(diameter).
_DIAMETER_RANGE, _DIAMETER_SPREAD = 2.0, 0.25
# Outlines of objects are this much steeper (log) than is usual in the image, at a sensitivity of
# 0.5. In noise and shading, gradients are alike everywhere: outlines along the steepest have .6.
_LEAST_CONTRAST = float(np.log(2))
# Misfit at which a part of a given foreground is worth 1/e as one object.
_FOREGROUND_MISFIT = 0.1
# It is split at necks of at most this share of the width of the narrower part; parts of at most
# this share of the pixels of a typical one are specks.
_NECK, _SPECK = 0.6, 0.01
# Objects are looked for in maps whose evidence is at least this share of that of the best.
_AS_CLEAR = 0.5
# Pixels of maps from which on every second one is searched, 2D and 3D; sides of the windows that
# tell map and polarity in maps that are larger than four of them.
_LARGE = {2: 1_500_000, 3: 3_000_000}
_WINDOW = {2: 256, 3: 64}
_DEFAULTS = ObjectSettings()


@dataclass(frozen=True, slots=True)
class _Found:
    """Objects before edits, and what they were found with."""

    settings: ObjectSettings
    foreground: Any
    given: Sequence[Source] | None
    sources: tuple[Source, ...]
    labels: np.ndarray

    def is_for(self, settings: ObjectSettings, foreground: Any, given: Any) -> bool:
        """Whether the same would be found again."""
        same = (settings, given) == (self.settings, self.given)
        return same and np.array_equal(foreground, self.foreground)


class ObjectSearch:
    """Finds objects such as nuclei, cells or particles, at pixel resolution and without labels.

    Candidates are parts of each map, bright or dark: connected parts above some level, and basins
    of what is above a threshold (see `candidates.candidates_of`). Each has a score: how much
    it looks like an object, and agrees in size and contrast with the others (see `score`).
    Of the candidates that overlap, the best are taken. Map and polarity are those in which the
    scores are best in total, so that a few very bright things cannot hide the others.

    Where cells fill the image and touch at walls, these are the objects (see `walls`).

    Candidates are kept: other settings are answered quickly.

    Parameters
    ----------
    maps : ndarray or sequence of ndarray
        The brightness, from `maps.brightness_of`, and other maps of the same shape in which
        objects are seen; two or three space axes.
    spacing : sequence of float, optional
        Sides of a pixel, in any unit; by default all are equal.
    channels : sequence of ndarray
        Further maps, which are searched only where `ObjectSettings.channel` asks for one.

    Examples
    --------
    >>> y, x = np.indices((64, 64))
    >>> touching = np.minimum(np.hypot(y - 32, x - 22), np.hypot(y - 32, x - 42)) < 11
    >>> labels = ObjectSearch(touching.astype(np.float32)).find()
    >>> int(labels.max()), bool(((labels > 0) == touching).mean() > 0.97)
    (2, True)
    """

    def __init__(
        self,
        maps: np.ndarray | Sequence[np.ndarray],
        spacing: Sequence[float] | None = None,
        channels: Sequence[np.ndarray] = (),
    ) -> None:
        maps = [maps] if isinstance(maps, np.ndarray) else list(maps)
        self._n_channels = len(channels)
        maps += channels
        self.shape = maps[0].shape
        sides = [1.0] * len(self.shape) if spacing is None else list(spacing)
        # A single slice is an image: how deep its objects are cannot be seen.
        self._single = [a for a, n in enumerate(self.shape) if n == 1][: len(self.shape) - 2]
        sides = [side for axis, side in enumerate(sides) if axis not in self._single]
        self._maps = [image.squeeze(tuple(self._single)) for image in maps]
        self._spacing = tuple(side / min(sides) for side in sides)
        # Of each smallest size and step between pixels: candidates of sources, and of samples.
        self._searched: dict[tuple[int, int], tuple[OfSource, OfSamples]] = {}
        self._coarse: dict[tuple[int, int], np.ndarray] = {}  # maps at every n-th pixel
        self._walled: dict[tuple[Source, int], np.ndarray | None] = {}
        # The newest scores, evidence and objects, and the settings that they are of.
        self._scored_for: tuple[float | None, ...] | None = None
        self._scored: dict[Source, Scored] = {}
        self._contrast: dict[Source, float] = {}
        self._evidence: dict[Source, float] = {}
        self._chosen: tuple[Any, np.ndarray] | None = None
        self._found: _Found | None = None

    def find(
        self,
        settings: ObjectSettings = _DEFAULTS,
        foreground: np.ndarray | None = None,
        stop: StopFlag | None = None,
        sources: Sequence[Source] | None = None,
        edits: Sequence[ObjectEdit] = (),
    ) -> np.ndarray:
        """Find objects: 0 for background, 1 .. n for objects, each connected along pixel faces.

        With a `foreground`, a mask of the space, they are its connected components, split at clear
        necks; with a diameter too, they are what is seen in the image, clipped to the foreground.
        `sources` are those to take; by default `best_sources` of the `evidence`. At last, objects
        are edited (see `edits`).
        """
        _check(self.shape, foreground)
        found = self._found_for(settings, foreground, stop, sources)
        labels = found.labels.copy()
        if edits:
            for edit in edits:
                check_places(edit, self.shape)
            for axis in reversed(self._single):
                edits = [of_slice(edit, axis)[1] for edit in edits]
            options_at = self._option_finder(found, stop)
            labels = with_object_edits(labels, edits, self._spacing, options_at)
        return labels.reshape(self.shape)

    def sizes_at(
        self,
        place: tuple[int, ...],
        settings: ObjectSettings = _DEFAULTS,
        foreground: np.ndarray | None = None,
        stop: StopFlag | None = None,
        sources: Sequence[Source] | None = None,
    ) -> list[int]:
        """Return pixels of the candidates that a place lies in, clearly different ones."""
        edit: ObjectEdit = DeleteObject(place)
        check_places(edit, self.shape)
        for axis in reversed(self._single):
            edit = of_slice(edit, axis)[1]
        found = self._found_for(settings, foreground, stop, sources)
        return sizes_on_offer(places_of(edit)[0], self._option_finder(found, stop))

    def _found_for(
        self,
        settings: ObjectSettings,
        foreground: np.ndarray | None,
        stop: StopFlag | None,
        sources: Sequence[Source] | None,
    ) -> _Found:
        """Objects before edits, from the last search where it was the same."""
        last = self._found
        if last is not None and last.is_for(settings, foreground, sources):
            return last
        given = sources
        if foreground is not None and settings.diameter is None:
            sources, mask = (), foreground.reshape(self._maps[0].shape)
            labels = whole_parts(mask, settings.min_size, self._spacing, stop)
        elif foreground is None and (cells := self._cells(settings, stop)) is not None:
            source, labels = cells
            sources = [source]
        else:
            sources = sources or self._sources(settings)
            if given is None and len(sources) > 1:
                sources = best_sources(self.evidence(settings, stop), settings)
            sources = [s for s in sources if self._stands_out(s, settings, stop)]
            labels = self._best_of(sources, settings, stop)
            if foreground is not None:
                labels = _mostly_inside(labels, foreground.reshape(labels.shape))
        # Only now: else small objects would be taken at a lower level, to be large enough.
        if settings.min_size is not None:
            labels = _selected(labels, np.bincount(labels.ravel())[1:] >= settings.min_size)
        if settings.exclude_borders:
            labels = _selected(labels, ~_touches_edge(labels))
        self._found = _Found(settings, foreground, given, tuple(sources), labels)
        return self._found

    def _option_finder(self, found: _Found, stop: StopFlag | None) -> OptionFinder:
        """Finds candidates at a place, for edits of what was found."""

        def options_at(place: tuple[int, ...], nearby: bool) -> list[Option]:
            if nearby:
                return self._options_nearby(place, found.settings, stop)
            step = self._step(found.settings)
            scored = [
                of_set for s in found.sources for of_set in self._scores(s, found.settings, stop)
            ]
            return _options(scored, place, (0,) * len(place), step)

        return options_at

    def _options_nearby(
        self, place: tuple[int, ...], settings: ObjectSettings, stop: StopFlag | None
    ) -> list[Option]:
        """Candidates at a place that are seen in the surroundings of it alone, in any map."""
        side = _WINDOW[len(place)]
        window = tuple(
            slice(start := max(0, min(at - side // 2, n - side)), start + side)
            for at, n in zip(place, self._maps[0].shape, strict=True)
        )
        corner = tuple(s.start for s in window)
        smallest = _smallest(settings)
        options = []
        for source in self._sources(settings):
            view = self._view(source, 1, window)
            for candidates in candidates_of(view, smallest, self._spacing, stop):
                score = score_of(candidates.features, FROM_LOOKS[len(self._spacing)])
                score = _limited(score, candidates, settings, 1)
                options += _options([(candidates, score)], place, corner, 1)
        return options

    def _sources(self, settings: ObjectSettings) -> list[Source]:
        """The maps to search, with the polarities that are looked for."""
        signs = {"bright": (1,), "dark": (-1,)}.get(settings.polarity, (1, -1))
        first, channel = len(self._maps) - self._n_channels, settings.channel
        if channel is None:
            maps = range(first)
        elif channel <= max(self._n_channels, 1):  # that of a grey image is its brightness
            maps = range(at := first + channel - 1 if self._n_channels else 0, at + 1)
        else:
            raise InputError(f"channel = {channel}: this image has {max(self._n_channels, 1)}.")
        return [(which, sign) for which in maps for sign in signs]

    def evidence(
        self, settings: ObjectSettings = _DEFAULTS, stop: StopFlag | None = None
    ) -> dict[Source, float]:
        """Return how much like objects those of each source look, all together."""
        self._forget_scores(settings)
        sources, step = self._sources(settings), self._step(settings)
        for source in sources:
            if source not in self._evidence:
                samples = self._samples_of(source, settings, step, stop)
                samples = samples or [self._candidates_of(source, settings, step, stop)]
                self._evidence[source] = sum(
                    self._typical(sample, settings, step, stop).evidence for sample in samples
                )
        return {source: self._evidence[source] for source in sources}

    def _best_of(
        self, sources: Sequence[Source], settings: ObjectSettings, stop: StopFlag | None
    ) -> np.ndarray:
        """The best candidates of some sources that do not overlap."""
        self._forget_scores(settings)
        chosen_for = (tuple(sources), settings.sensitivity)
        if self._chosen is not None and self._chosen[0] == chosen_for:
            return self._chosen[1]
        step = self._step(settings)
        scored = [of_set for s in sources for of_set in self._scores(s, settings, stop)]
        raise_if_stopped(stop, "objects")
        least = least_score(scored, settings.sensitivity)
        shape = tuple(-(-n // step) for n in self._maps[0].shape)
        labels = self._at_full_size(filled(without_overlaps(scored, least, shape)[0]), step)
        self._chosen = chosen_for, labels
        return labels

    def _at_full_size(self, labels: np.ndarray, step: int) -> np.ndarray:
        for axis, n in enumerate(self._maps[0].shape):
            labels = labels if step == 1 else np.repeat(labels, step, axis).take(range(n), axis)
        return labels

    def _cells(
        self, settings: ObjectSettings, stop: StopFlag | None
    ) -> tuple[Source, np.ndarray] | None:
        """Cells that fill the image between walls, and their source, where it shows such cells."""
        step = self._step(settings)
        for source in self._sources(settings):
            if (source, step) not in self._walled:
                view = self._view(source, step)
                self._walled[source, step] = cells_between_walls(view, self._spacing, stop)
            if (cells := self._walled[source, step]) is None:
                continue
            size = np.bincount(cells.ravel())[1:] * step**cells.ndim
            keep = (size >= _SMALLEST) & (size <= (settings.max_size or np.inf))
            radius = radius_of(size * np.prod(self._spacing), cells.ndim)
            usual = 2 * _quantile(radius, size.astype(float), 0.5)
            if 1 / _DIAMETER_RANGE <= (settings.diameter or usual) / usual <= _DIAMETER_RANGE:
                return source, self._at_full_size(_selected(cells, keep), step)
        return None

    def _stands_out(self, source: Source, settings: ObjectSettings, stop: StopFlag | None) -> bool:
        """Whether clear objects have steeper outlines than the image has everywhere."""
        self._scores(source, settings, stop)
        return self._contrast[source] > _LEAST_CONTRAST * 2 * (1 - settings.sensitivity)

    def _scores(self, source: Source, settings: ObjectSettings, stop: StopFlag | None) -> Scored:
        """Candidates of a source with their scores, looks and agreement together."""
        self._forget_scores(settings)
        if source not in self._scored:
            step = self._step(settings)
            of_parts = self._candidates_of(source, settings, step, stop)
            typical = self._typical(of_parts, settings, step, stop)
            scored = []
            for candidates in of_parts:
                features = candidates.features
                agreement = agreement_of(
                    candidates.radius, features[:, CONTRAST], typical.radius, typical.contrast
                )
                score = score_of(
                    np.concatenate([features, agreement], axis=1), FROM_BOTH[len(self._spacing)]
                )
                scored.append((candidates, _limited(score, candidates, settings, step)))
            self._scored[source], self._contrast[source] = scored, typical.contrast
        return self._scored[source]

    def _forget_scores(self, settings: ObjectSettings) -> None:
        """Discard scores, evidence and choice for other settings; some do not change them."""
        scored_for = (
            settings.diameter,
            settings.max_size,
            _smallest(settings),
            self._step(settings),
        )
        if scored_for != self._scored_for:
            self._scored_for, self._scored, self._evidence = scored_for, {}, {}
            self._chosen = None

    def _typical(
        self, of_parts: list[Candidates], settings: ObjectSettings, step: int, stop: StopFlag | None
    ) -> Typical:
        """What is typical of the objects that are clear by their looks."""
        scored = []
        for candidates in of_parts:
            score = score_of(candidates.features, FROM_LOOKS[len(self._spacing)])
            scored.append((candidates, _limited(score, candidates, settings, step)))
        raise_if_stopped(stop, "objects")
        return typical_object(scored, settings, step)

    def _step(self, settings: ObjectSettings) -> int:
        """Every how many pixels are searched: 2 in large images, unless small objects are meant."""
        small = min(settings.min_size or np.inf, (settings.diameter or np.inf) ** 2)
        ndim = self._maps[0].ndim
        large = self._maps[0].size > _LARGE[ndim]
        return 2 if large and small >= 2**ndim * _SMALLEST else 1

    def _view(self, source: Source, step: int, window: tuple[slice, ...] = ()) -> np.ndarray:
        """A map, or a window of it, in which the objects of a source are bright."""
        which, sign = source
        if step == 1:
            return self._maps[which][window].astype(np.float32) * np.float32(sign)
        if (which, step) not in self._coarse:
            self._coarse[which, step] = _binned(self._maps[which].astype(np.float32), step)
        return self._coarse[which, step][window] * np.float32(sign)

    def _samples_of(
        self, source: Source, settings: ObjectSettings, step: int, stop: StopFlag | None
    ) -> list[list[Candidates]]:
        """Candidates in some windows of a large map, which tell whether it is the one to search."""
        samples = self._searched_with(settings, step)[1]
        if source not in samples:
            view, side = self._view(source, step), _WINDOW[self._maps[0].ndim]
            windows = _windows(view, side) if view.size > 4 * side**view.ndim else []
            smallest, spacing = _smallest(settings), self._spacing
            samples[source] = [
                candidates_of(view[window], smallest, spacing, stop) for window in windows
            ]
        return samples[source]

    def _searched_with(self, settings: ObjectSettings, step: int) -> tuple[OfSource, OfSamples]:
        """What was searched with the same limits; that with the last two limits is kept."""
        limits = (_smallest(settings), step)
        if limits not in self._searched:
            for oldest in list(self._searched)[:-1]:
                del self._searched[oldest]
            self._searched[limits] = ({}, {})
        return self._searched[limits]

    def _candidates_of(
        self, source: Source, settings: ObjectSettings, step: int, stop: StopFlag | None
    ) -> list[Candidates]:
        """Candidates of one source, from the last search where that had the same limits."""
        candidates = self._searched_with(settings, step)[0]
        if source not in candidates:
            view = self._view(source, step)
            candidates[source] = candidates_of(view, _smallest(settings), self._spacing, stop)
        return candidates[source]


class ObjectSearchInTime:
    """An `ObjectSearch` for each frame; an object keeps its label while it overlaps itself."""

    def __init__(
        self,
        maps: np.ndarray | Sequence[np.ndarray],
        axis: int,
        spacing: Sequence[float] | None = None,
        channels: Sequence[np.ndarray] = (),
    ) -> None:
        maps = [maps] if isinstance(maps, np.ndarray) else maps
        self._axis, self.shape = axis, maps[0].shape
        self._searches = [
            ObjectSearch(
                [np.take(image, i, axis) for image in maps],
                spacing,
                [np.take(channel, i, axis) for channel in channels],
            )
            for i in range(self.shape[axis])
        ]

    def find(
        self,
        settings: ObjectSettings = _DEFAULTS,
        foreground: np.ndarray | None = None,
        stop: StopFlag | None = None,
        edits: Sequence[ObjectEdit] = (),
    ) -> np.ndarray:
        """Find objects as `ObjectSearch.find` does, in all frames those of the same sources."""
        of_frames: dict[int, list[ObjectEdit]] = {}
        for edit in edits:
            check_places(edit, self.shape)
            frame, inside = of_slice(edit, self._axis)
            of_frames.setdefault(frame, []).append(inside)
        sources = self._sources(settings, foreground, stop)
        frames = []
        for i, search in enumerate(self._searches):
            raise_if_stopped(stop, "objects")
            mask = None if foreground is None else np.take(foreground, i, self._axis)
            frames.append(search.find(settings, mask, stop, sources, of_frames.get(i, ())))
        return np.stack(link_frames(frames), axis=self._axis)

    def sizes_at(
        self,
        place: tuple[int, ...],
        settings: ObjectSettings = _DEFAULTS,
        foreground: np.ndarray | None = None,
        stop: StopFlag | None = None,
    ) -> list[int]:
        """Return pixels of the candidates that a place lies in, in its frame."""
        edit: ObjectEdit = DeleteObject(place)
        check_places(edit, self.shape)
        frame, inside = of_slice(edit, self._axis)
        mask = None if foreground is None else np.take(foreground, frame, self._axis)
        sources = self._sources(settings, foreground, stop)
        return self._searches[frame].sizes_at(places_of(inside)[0], settings, mask, stop, sources)

    def _sources(
        self, settings: ObjectSettings, foreground: np.ndarray | None, stop: StopFlag | None
    ) -> list[Source] | None:
        """Those that are best in all frames together; None leaves them to each frame."""
        if foreground is not None or len(self._searches) == 1:
            return None
        of_frames = [search.evidence(settings, stop) for search in self._searches]
        total = {source: sum(e[source] for e in of_frames) for source in of_frames[0]}
        return best_sources(total, settings)


def link_frames(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return labels of frames, 0 for background, such that an object has the same in all of them.

    An object is that of the frame before if each is what the other overlaps most. Else, as after a
    division or where it appears, it is a new one.
    """
    linked: list[np.ndarray] = []
    last = 0
    for labels in frames:
        number = int(labels.max(initial=0))
        new_label = np.zeros(number + 1, np.int32)
        if linked:
            current, before = _mutual_overlaps(labels, linked[-1])
            new_label[current] = before
        appeared = np.flatnonzero(new_label[1:] == 0) + 1
        new_label[appeared] = np.arange(last + 1, last + 1 + len(appeared))
        last += len(appeared)
        linked.append(new_label[labels])
    return linked


def _mutual_overlaps(labels: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of two frames that overlap each other most, the first of equals."""
    current, earlier, pixels = _overlaps(labels, before)
    pairs = np.stack([current, earlier])[:, np.argsort(-pixels, kind="stable")]
    first = [np.isin(np.arange(len(pixels)), np.unique(row, return_index=True)[1]) for row in pairs]
    return tuple(pairs[:, first[0] & first[1]])


def _check(space: tuple[int, ...], foreground: np.ndarray | None) -> None:
    if foreground is not None and (foreground.shape != space or foreground.dtype != bool):
        raise InputError(
            f"foreground is {foreground.dtype} of shape {foreground.shape}: give a bool mask of "
            f"shape {space}."
        )


def object_search(
    maps: list[np.ndarray], channels: Sequence[np.ndarray], axes: Axes
) -> ObjectSearch | ObjectSearchInTime:
    """Return the search in an image with these axes."""
    # Sides of pixels matter where slices are farther apart; images are taken as they are.
    spacing = axes.spacing if "Z" in axes.space else None
    if "T" not in axes.space:
        return ObjectSearch(maps, spacing, channels)
    time = axes.space.index("T")
    in_frame = None if spacing is None else spacing[:time] + spacing[time + 1 :]
    return ObjectSearchInTime(maps, time, in_frame, channels)


@dataclass(frozen=True, slots=True)
class Typical:
    """The typical object of one source, and the evidence for this source."""

    radius: float
    contrast: float
    evidence: float


def best_sources(evidence: dict[Source, float], settings: ObjectSettings) -> list[Source]:
    """Return the sources with the most evidence: of one polarity, or the best of both.

    Objects are looked for in all maps in which they are seen nearly as well as in the best.
    """
    if settings.polarity == "both":
        signs: tuple[int, ...] = (1, -1)
    else:
        signs = (max(evidence, key=evidence.__getitem__)[1],)
    sources = []
    for sign in signs:
        of_sign = {source: e for source, e in evidence.items() if source[1] == sign}
        sources += [s for s, e in of_sign.items() if e >= _AS_CLEAR * max(of_sign.values())]
    return sources


def _binned(view: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of pixels; those at the far edges are smaller."""
    for axis, n in enumerate(view.shape):
        starts = np.arange(0, n, step)
        sizes = np.diff(np.append(starts, n)).astype(np.float32)
        sizes = sizes.reshape([-1 if a == axis else 1 for a in range(view.ndim)])
        view = np.add.reduceat(view, starts, axis) / sizes
    return view


def _windows(view: np.ndarray, side: int) -> list[tuple[slice, ...]]:
    """Four windows of a map, from that with most contrast to that with the median contrast."""
    corners = product(*(range(0, max(1, n - side + 1), side) for n in view.shape))
    windows = [tuple(slice(c, c + side) for c in corner) for corner in corners]
    windows.sort(key=lambda window: -float(view[window].std()))
    ranks = [round(share * (len(windows) - 1)) for share in (0, 0.1, 0.25, 0.5)]
    return [windows[rank] for rank in sorted(set(ranks))]


def _smallest(settings: ObjectSettings) -> int:
    """Pixels of the smallest candidates: a third of a given diameter is possible."""
    third = np.pi / 4 * ((settings.diameter or np.inf) / 3) ** 2
    return int(min(settings.min_size or _SMALLEST, _SMALLEST, max(third, _FEWEST)))


def _options(
    scored: Scored, place: tuple[int, ...], corner: tuple[int, ...], step: int
) -> list[Option]:
    """Candidates that a place lies in and that may be objects; `corner` is of their window."""
    options = []
    at = tuple((i - c) // step for i, c in zip(place, corner, strict=True))
    for candidates, score in scored:
        pixel = int(np.ravel_multi_index(at, candidates.parts.shape))
        options += [
            Option(candidates, part, float(score[part]), corner, step)
            for part in candidates.parts.around(pixel)
            if score[part] > 0
        ]
    return options


def _limited(
    score: np.ndarray, candidates: Candidates, settings: ObjectSettings, step: int
) -> np.ndarray:
    """Scores, 0 for candidates that are too large or have a wrong diameter."""
    possible = candidates.possible
    if settings.max_size is not None:
        most = settings.max_size / step ** len(candidates.parts.shape)
        possible = possible & (candidates.pixels <= most)
    if settings.diameter is not None:
        deviation = np.log(np.maximum(2 * step * candidates.radius, 1e-3) / settings.diameter)
        beyond = np.maximum(np.abs(deviation) - np.log(_DIAMETER_RANGE), 0)
        score = score * np.exp(-((beyond / _DIAMETER_SPREAD) ** 2) / 2)
    return np.where(possible, score, 0)


def typical_object(scored: Scored, settings: ObjectSettings, step: int = 1) -> Typical:
    """Return what is typical of the best candidates, weighted by the square of their scores."""
    if not scored:
        return Typical(1.0, 0.0, 0.0)
    best = max(float(score.max()) for _, score in scored)
    least = _TYPICAL if best > _TYPICAL else 0.7 * best
    shape = scored[0][0].parts.shape
    _, chosen = without_overlaps(scored, least, shape, agreed=len(shape) == 3)
    if not chosen:
        return Typical(1.0, 0.0, 0.0)
    score = np.array([scored[k][1][part] for k, part in chosen])
    radius = np.array([scored[k][0].radius[part] for k, part in chosen])
    contrast = np.array([scored[k][0].features[part, CONTRAST] for k, part in chosen])
    usual = _quantile(radius, score**2, 0.5)
    return Typical(
        usual if settings.diameter is None else settings.diameter / 2 / step,
        _quantile(contrast, score**2, 0.5),
        float(np.maximum(score - _TYPICAL, 0).sum()),
    )


def least_score(scored: Scored, sensitivity: float) -> float:
    """Return the score that objects must exceed."""
    of_sets = []
    for candidates, score in scored:
        outermost = candidates.parts.best_parts(np.maximum(score - 0.1, 0))
        of_sets.append(score[np.unique(outermost[outermost > 0])])
    of_all = np.concatenate(of_sets) if of_sets else np.zeros(0)
    clear = _quantile(of_all, of_all**2, 0.7) if of_all.any() else 0.0
    return float(np.clip(_SHARE * clear, *_LEAST_SCORE)) * 2 * (1 - sensitivity)


def without_overlaps(
    scored: Scored, least: float, shape: tuple[int, ...], agreed: bool = True
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return the best candidates above a score that do not overlap: labels; the set and part.

    The best of each set are those of the largest total score above `least`. Of all sets together,
    those that most sets agree on are taken one by one, or else those of the best score. Then one is
    given up for several that fill it, all of one set, and have a larger total.
    """
    selected: list[_Selection] = []
    images = []
    for k, (candidates, score) in enumerate(scored):
        chosen, labels = candidates.parts.best_cut(np.maximum(score - least, 0))
        images.append((len(selected), labels))
        places = ndimage.find_objects(labels)
        selected += [
            _Selection(k, part, value, labels, i, pixels, place)
            for i, (part, value, pixels, place) in enumerate(
                zip(
                    chosen.tolist(),
                    (score[chosen] - least).tolist(),
                    candidates.pixels[chosen].tolist(),
                    places,
                    strict=True,
                ),
                1,
            )
        ]
    worth = _agreed(selected, images, least) if agreed else [f.value for f in selected]
    rank = {id(f): -value for f, value in zip(selected, worth, strict=True)}
    result = np.zeros(shape, np.int32)
    taken = _painted(result, sorted(selected, key=lambda f: rank[id(f)]))
    divided = list(_better_parts(result, taken, selected, images))
    if divided:
        whole = {id(taken[k]) for k, _ in divided}
        taken = [f for f in taken if id(f) not in whole]
        taken += [selected[i] for _, parts in divided for i in parts]
        result[:] = 0
        taken = _painted(result, sorted(taken, key=lambda f: rank[id(f)]))
    return result, [(f.set, f.part) for f in taken]


@dataclass(frozen=True, slots=True, eq=False)
class _Selection:
    """A candidate that is among the best of its set."""

    set: int
    part: int
    value: float
    labels: np.ndarray
    label: int
    pixels: float
    place: tuple[slice, ...]


def _agreed(
    selected: list[_Selection], images: list[tuple[int, np.ndarray]], least: float
) -> np.ndarray:
    """How far the sets agree on each: total score of the objects there times the overlap with them.

    An outline that is found at one threshold alone is often that of noise. Sets count by the total
    score of their objects: a threshold at which there are few says little about the others.
    In 2D, an overlap counts from an IoU of 0.5, and the sum is multiplied by the own score.
    """
    value = np.array([f.value for f in selected])
    size = np.array([f.pixels for f in selected])
    of_set = np.array([f.set for f in selected], int)
    score = value + least
    score *= np.bincount(of_set, score)[of_set]
    total = score.copy()
    is_flat = all(labels.ndim == 2 for _, labels in images)
    for (i, one), (j, other) in combinations(images, 2):
        a, b, shared = _overlaps(one, other)
        a, b = a - 1 + i, b - 1 + j
        overlap = shared / (size[a] + size[b] - shared)
        if is_flat:
            overlap[overlap < _SAME] = 0
        for of, by in ((a, b), (b, a)):
            best = np.zeros(len(selected))
            np.maximum.at(best, of, overlap * score[by])
            total += best
    return total * value if is_flat else total


def _painted(result: np.ndarray, candidates: list[_Selection]) -> list[_Selection]:
    """Paint candidates into labels, the first on top; return those that do not overlap."""
    taken = []
    for candidate in candidates:
        inside = candidate.labels[candidate.place] == candidate.label
        behind = result[candidate.place]
        overlap = np.count_nonzero(behind[inside])
        if overlap > _OVERLAP * candidate.pixels:
            continue
        taken.append(candidate)
        if overlap:
            inside = _largest_component(inside & (behind == 0))
        behind[inside] = len(taken)
    return taken


def _better_parts(
    result: np.ndarray,
    taken: list[_Selection],
    candidates: list[_Selection],
    images: list[tuple[int, np.ndarray]],
) -> Iterator[tuple[int, list[int]]]:
    """Which taken candidates have several inside them of a larger total, and which these are."""
    best = np.array([f.value for f in taken])
    parts: list[list[int]] = [[] for _ in taken]
    value = np.array([f.value for f in candidates])
    size = np.array([f.pixels for f in candidates])
    size_of_whole = np.bincount(result.ravel())[1:]
    for first, labels in images:
        whole, part, shared = _overlaps(result, labels)
        whole, part = whole - 1, part - 1 + first
        mostly = shared > _INSIDE[labels.ndim] * size[part]
        whole, part, shared = whole[mostly], part[mostly], shared[mostly]
        total = np.bincount(whole, value[part], len(taken))
        fill = np.bincount(whole, shared, len(taken)) > _FILL * size_of_whole
        several = np.bincount(whole, minlength=len(taken)) > 1
        for k in np.flatnonzero(several & fill & (total > _GAIN * best)).tolist():
            best[k], parts[k] = total[k], part[whole == k].tolist()
    yield from ((k, chosen) for k, chosen in enumerate(parts) if chosen)


def _overlaps(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of labels that overlap, of two images, and how many pixels they share."""
    number = int(other.max(initial=0)) + 1
    pair = (one * np.int64(number) + other).ravel()
    start = np.flatnonzero(np.diff(pair, prepend=-1))  # runs of one pair, many times fewer
    length = np.diff(start, append=pair.size)
    both = (one.ravel()[start] > 0) & (other.ravel()[start] > 0)
    pairs, of_run = np.unique(pair[start[both]], return_inverse=True)
    shared = np.bincount(of_run, length[both], len(pairs)).astype(np.int64)
    return pairs // number, pairs % number, shared


def _largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask that is connected along pixel faces."""
    components, number = ndimage.label(mask)
    if number < 2:
        return mask
    return components == np.bincount(components.ravel())[1:].argmax() + 1


def _touches_edge(labels: np.ndarray) -> np.ndarray:
    """Which labels 1 .. n touch the edge of the image; thin volumes have none above and below."""
    touches = np.zeros(int(labels.max(initial=0)) + 1, bool)
    for axis, n in enumerate(labels.shape):
        if labels.ndim == 2 or n >= THIN:
            touches[np.take(labels, [0, -1], axis)] = True
    return touches[1:]


def _quantile(values: np.ndarray, weight: np.ndarray, quantile: float) -> float:
    """Weighted quantile."""
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    rank = min(int(np.searchsorted(share, quantile)), len(order) - 1)
    return float(values[order[rank]])


def _selected(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Labels for which `keep` holds, numbered anew."""
    new_label = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)])
    return new_label.astype(np.int32)[labels]


def _mostly_inside(labels: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Objects that have at least half of their pixels in a foreground, clipped to it."""
    shared = np.bincount(labels.ravel(), foreground.ravel())
    keep = shared[1:] >= np.bincount(labels.ravel())[1:] / 2
    parts = connected_components(np.where(foreground, _selected(labels, keep), 0), connectivity=1)
    return _selected(parts, np.bincount(parts.ravel())[1:] >= _SMALLEST)


def whole_parts(
    foreground: np.ndarray,
    smallest: int | None,
    spacing: tuple[float, ...],
    stop: StopFlag | None,
) -> np.ndarray:
    """Return the connected parts of a foreground, split at clear necks.

    Of fewer pixels than `smallest`, by default a hundredth of a typical one, they are specks.
    """
    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    parts = connected_components(split_at_necks(foreground, spacing, stop), connectivity=1)
    size = np.bincount(parts.ravel())[1:]
    if not size.size:  # single pixels alone
        return np.zeros(foreground.shape, np.int32)
    least = max(_SMALLEST, _SPECK * _quantile(size, size.astype(float), 0.5))
    return _selected(parts, size >= (smallest or least))


def split_at_necks(
    mask: np.ndarray, spacing: tuple[float, ...], stop: StopFlag | None = None
) -> np.ndarray:
    """Split a mask at clear necks where the parts are clearly more elliptic than the whole."""
    whole = filled(ndimage.label(mask)[0]) > 0  # a hole makes no neck
    parts, _ = nested_basins(*basins_of(whole, spacing, stop, _NECK))
    moments = np.stack([parts.sums(i) for i in coordinate_powers(mask.shape, spacing)], axis=1)
    misfit, _ = ellipse_fit(moments, spacing)
    value = moments[:, 0] * np.exp(-((misfit / _FOREGROUND_MISFIT) ** 2)) + 1e-9
    return np.where(mask, parts.best_cut(value)[1], 0)
