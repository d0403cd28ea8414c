"""What threads work out for the dock: what it depends on, and when two give the same.

`answer` is called in a thread; `title` says what it does.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from napari_aeseg.regions.cuts.cut import Cut, Mode

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg.progress import Progress, StopFlag
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.alternatives import AlternativeMode, AlternativeSettings
    from napari_aeseg.regions.hierarchy import Hierarchy
    from napari_aeseg.regions.refined_chunks import RefinedChunks

_ALTERNATIVES = 6  # in two rows of the dock
_THUMBNAIL = 184  # pixels, twice those of the dock: some screens show two where one is counted


class Request(Protocol):
    """What a thread can work out."""

    title: ClassVar[str]

    def answer(self, stop: StopFlag | None = None) -> Any:
        """Return the answer, or a generator of events that returns it."""

    def gives_same(self, other: Self) -> bool:
        """Whether the answer to both is the same."""


@dataclass(frozen=True, eq=False)
class ObjectRequest:
    """Which objects are to be detected, and in which hierarchy."""

    hierarchy: Hierarchy
    cut: Cut
    prototypes: Prototypes | None
    title: ClassVar = "detecting objects"

    def answer(self, stop: StopFlag | None = None) -> np.ndarray:
        """Return the objects, in memory: the window counts and edits them."""
        return np.asarray(self.cut.labels(self.hierarchy, self.prototypes, stop=stop))

    def sizes_at(self, place: tuple[int, ...]) -> list[int]:
        """Return pixels of what may be an object at a place."""
        cut, hierarchy = self.cut, self.hierarchy
        settings = asdict(cut.object_settings)
        n_classes = cut.classes_in(hierarchy)
        return hierarchy.object_sizes_at(
            place, cut.class_ids, n_classes, self.prototypes, **settings
        )

    def gives_same(self, other: ObjectRequest) -> bool:
        """Whether both find the same objects."""
        mine, theirs = self.cut, other.cut
        if (mine.object_settings, mine.class_ids) != (theirs.object_settings, theirs.class_ids):
            return False
        if mine.edits_used != theirs.edits_used:
            return False
        if mine.class_ids is None:  # objects by brightness depend on the image only
            return self.hierarchy.brightness is other.hierarchy.brightness
        if self.hierarchy is not other.hierarchy or self.prototypes is not other.prototypes:
            return False
        return self.prototypes is not None or mine.n_classes == theirs.n_classes


@dataclass(frozen=True, eq=False)
class StrokesRequest:
    """Classes that are learned from strokes, and the images in which they are looked for."""

    hierarchies: Mapping[Image, Hierarchy]
    strokes: Mapping[Image, np.ndarray]
    prototypes: Prototypes | None = None  # stored classes; None learns them from the strokes
    title: ClassVar = "learning classes"

    def answer(self, stop: StopFlag | None = None) -> LearnedClasses:
        """Learn classes from strokes, and find them."""
        cut, prototypes = Cut("markers", markers_are="classes"), self.prototypes
        for image, strokes in self.strokes.items():
            prototypes = self.hierarchies[image].prototypes_from(strokes, others=prototypes)
        assert prototypes is not None, "a request has strokes or prototypes"  # noqa: S101
        labels = {
            image: cut.labels(hierarchy, prototypes, self.strokes[image], stop)
            if image in self.strokes
            else hierarchy.classes(prototypes=prototypes)
            for image, hierarchy in self.hierarchies.items()
        }
        return LearnedClasses(self, prototypes, labels)

    def gives_same(self, other: StrokesRequest) -> bool:
        """Whether both give the same classes in the same images."""
        if not are_same_examples(self.prototypes, other.prototypes):
            return False
        if self.strokes.keys() != other.strokes.keys():
            return False
        same = {i: id(h) for i, h in self.hierarchies.items()} == {
            i: id(h) for i, h in other.hierarchies.items()
        }
        return same and all(np.array_equal(s, other.strokes[i]) for i, s in self.strokes.items())


@dataclass(frozen=True, eq=False)
class LearnedClasses:
    """What was learned from strokes, and the classes of each image."""

    request: StrokesRequest
    prototypes: Prototypes
    labels: Mapping[Image, Any]


@dataclass(frozen=True, eq=False)
class UncertaintyRequest:
    """How uncertain the classes from strokes are, everywhere in an image."""

    hierarchy: Hierarchy
    prototypes: Prototypes
    title: ClassVar = "finding uncertain places"

    def answer(self, stop: StopFlag | None = None) -> np.ndarray:
        """Return 0 to 1 for each pixel."""
        return self.hierarchy.class_uncertainty(self.prototypes)

    def gives_same(self, other: UncertaintyRequest) -> bool:
        """Whether both give the same values."""
        return self.hierarchy is other.hierarchy and self.prototypes is other.prototypes


@dataclass(frozen=True, eq=False)
class BorderRequest:
    """Labels whose borders are to follow the pixels."""

    hierarchy: Hierarchy
    cut: Cut  # with edits
    prototypes: Prototypes | None
    markers: np.ndarray | None
    coarse: np.ndarray  # the same labels with the borders of patches
    title: ClassVar = "refining borders"

    def gives_same(self, other: BorderRequest | ViewRequest) -> bool:
        """Whether both give the same labels."""
        if isinstance(other, ViewRequest):
            return False
        if self.hierarchy.evidence is not other.hierarchy.evidence:
            return False
        if not np.array_equal(self.coarse, other.coarse):
            return False
        if self.cut.mode != "markers" and self.cut.min_size != other.cut.min_size:
            return False
        one, two = self.markers, other.markers
        return (one is two) or (one is not None and two is not None and np.array_equal(one, two))

    def answer(self, stop: StopFlag | None = None) -> np.ndarray:
        """Return the labels."""
        return narrow(self.cut.labels(self.hierarchy, self.prototypes, self.markers, stop))


@dataclass(frozen=True, eq=False)
class ViewRequest:
    """Labels of an image in blocks whose borders are to follow the pixels where they are seen."""

    hierarchy: Hierarchy
    coarse: Any  # dask array with the borders of patches
    min_size: int | None
    part: tuple[slice, ...] = ()  # what is seen
    refined: RefinedChunks | None = None  # before
    title: ClassVar = "refining borders"

    def gives_same(self, other: BorderRequest | ViewRequest) -> bool:
        """Whether both give the same labels for the same part."""
        return isinstance(other, ViewRequest) and self.continues(other) and self.part == other.part

    def continues(self, other: BorderRequest | ViewRequest) -> bool:
        """Whether chunks of the other request belong to these labels."""
        return (
            isinstance(other, ViewRequest)
            and self.hierarchy.evidence is other.hierarchy.evidence
            and self.coarse.name == other.coarse.name
            and self.min_size == other.min_size
        )

    def answer(self, stop: StopFlag | None = None) -> RefinedChunks:
        """Return chunks, refined if they are seen; some of them once `stop` is set."""
        from napari_aeseg.regions.refined_chunks import RefinedChunks

        chunks = self.refined
        if chunks is None:
            refined = self.hierarchy.refined(self.coarse, self.min_size)
            chunks = RefinedChunks(self.coarse, refined)
        return chunks.and_those_in(self.part, stop)


@dataclass(frozen=True, eq=False)
class AlternativesRequest:
    """Alternatives to what is to be found."""

    hierarchy: Hierarchy
    mode: AlternativeMode
    number: int  # of classes or regions
    image: np.ndarray | None  # to draw them over, if it is in memory
    title: ClassVar = "finding alternatives"

    def answer(self, stop: StopFlag | None = None) -> Generator[Progress, None, Thumbnails]:
        """Find alternatives, and draw them small."""
        from napari_aeseg.regions.alternatives import alternatives_steps
        from napari_aeseg.regions.small_plane import plane_of

        alternatives = yield from alternatives_steps(
            self.hierarchy, _ALTERNATIVES, self.mode, self.number, stop
        )
        plane = plane_of(self.hierarchy, self.image, _THUMBNAIL)
        return Thumbnails(
            self.hierarchy.patches,
            self.mode,
            self.number,
            tuple(a.settings for a in alternatives),
            plane.picture,
            tuple(plane.labels(a.label_of_patch) for a in alternatives),
        )

    def gives_same(self, other: AlternativesRequest) -> bool:
        """Whether both find the same alternatives."""
        same = self.hierarchy is other.hierarchy
        return same and (self.mode, self.number) == (other.mode, other.number)


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Alternatives that were found, drawn small; the first is what was shown then."""

    patches: Any  # of their hierarchy
    mode: AlternativeMode
    number: int  # of classes or regions
    settings: tuple[AlternativeSettings, ...]
    picture: np.ndarray  # of the image, from 0 to 1, shape (Y, X, 3)
    labels: tuple[np.ndarray, ...]  # of each, shape (Y, X)

    def are_of(self, hierarchy: Hierarchy) -> bool:
        """Whether they are of these patches, however these are compared now."""
        return self.patches is hierarchy.patches


@dataclass(frozen=True, eq=False)
class ModesRequest:
    """What each mode shows of an image."""

    hierarchy: Hierarchy
    cut: Cut  # with edits of regions; its mode does not matter
    prototypes: Prototypes | None  # of the classes, if they are fixed
    objects: np.ndarray | None  # the newest that are known
    image: np.ndarray | None  # to draw them over, if it is in memory
    title: ClassVar = "drawing each mode"

    def answer(self, stop: StopFlag | None = None) -> ModePictures:
        """Draw what each mode shows small."""
        from napari_aeseg.regions.small_plane import plane_of, small_labels

        hierarchy, objects = self.hierarchy, self.objects
        plane = plane_of(hierarchy, self.image, _THUMBNAIL)
        regions = replace(self.cut, mode="regions")
        classes = replace(self.cut, mode="classes", edits=())
        labels: dict[Mode, np.ndarray] = {
            "regions": plane.labels(regions.of_patch(hierarchy)),
            "classes": plane.labels(classes.of_patch(hierarchy, self.prototypes)),
        }
        if objects is not None:
            labels["objects"] = small_labels(objects, hierarchy.axes.space, _THUMBNAIL)
        return ModePictures(self, plane.picture, labels)

    def gives_same(self, other: ModesRequest) -> bool:
        """Whether both give the same pictures."""
        fields = "hierarchy", "prototypes", "objects"
        is_same = all(getattr(self, field) is getattr(other, field) for field in fields)
        return is_same and replace(self.cut, mode="regions") == replace(other.cut, mode="regions")


@dataclass(frozen=True, eq=False)
class ModePictures:
    """What each mode shows of an image, small."""

    request: ModesRequest
    picture: np.ndarray  # of the image, from 0 to 1, shape (Y, X, 3)
    labels: Mapping[Mode, np.ndarray]  # of the modes that have any, shape (Y, X)


def are_same_examples(one: Prototypes | None, other: Prototypes | None) -> bool:
    """Whether both stand for the same strokes, whatever their names and colours are."""
    return (one and one.examples) is (other and other.examples)


def narrow(labels: np.ndarray) -> np.ndarray:
    """Labels in 16 bits if possible: napari draws them in little more than half the time."""
    return labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels
