"""A cut: the settings of one segmentation of a hierarchy, as plain values that can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_share, is_number
from napari_aeseg.progress import StopFlag, raise_if_stopped
from napari_aeseg.regions.cuts.edits import Edit, Merge, Split, edit_of, edited
from napari_aeseg.regions.objects.edits import ObjectEdit, object_edit_of
from napari_aeseg.regions.objects.settings import ObjectSettings, Polarity

if TYPE_CHECKING:
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.hierarchy import Hierarchy

Mode = Literal["regions", "classes", "objects", "markers"]
MODES: tuple[Mode, ...] = get_args(Mode)
#: What becomes of markers: each grows into one segment, or is an example of a class.
MarkersAre = Literal["segments", "classes"]


@dataclass(frozen=True, slots=True)
class Cut:
    """The settings of one segmentation of a hierarchy.

    A mode ignores the values that it does not use, so that switching between modes loses nothing.
    A value that is out of range raises InputError.

    Parameters
    ----------
    mode : {"regions", "classes", "objects", "markers"}
    n_regions, threshold : int and float or None
        Which regions; at most one is given. With neither, each image's own suggestion.
    n_classes : int
        Of the classes, or of those that objects are made of; ignored where prototypes are given.
    class_ids : tuple of int or None
        Classes that objects are made of; None detects objects by brightness.
    markers_are : {"segments", "classes"}
        Whether each marker grows into one segment, or is an example of a class.
    min_size : int or None
        Pixels of the smallest region, object or connected piece of a class.
    diameter, max_size, polarity, sensitivity, exclude_borders, channel : optional
        What objects are looked for; see `napari_aeseg.regions.objects.settings`.
    refine : bool
        Whether borders follow the pixels, not the patches; see `Hierarchy.refined`. Objects always
        follow the pixels.
    edits : tuple
        Changes by hand, in order, of one image. `Merge` and `Split` change the patches' labels of
        regions, classes or markers (see `napari_aeseg.regions.cuts.edits.edited`), the others
        change objects (see `napari_aeseg.regions.objects.edits`).

    Examples
    --------
    >>> import napari_aeseg as aeseg
    >>> image = np.kron([[0, 1], [0, 1]], np.ones((16, 16))) + np.eye(32) / 10
    >>> tree = aeseg.build_hierarchy(image, "base", device="cpu")
    >>> cut = aeseg.Cut("regions", n_regions=3, edits=(aeseg.Merge((0, 15)),))
    >>> bool(np.array_equal(cut.labels(tree), aeseg.Cut.from_record(cut.record(tree)).labels(tree)))
    True
    """

    mode: Mode = "regions"
    n_regions: int | None = None
    threshold: float | None = None
    n_classes: int = 3
    min_size: int | None = None
    class_ids: tuple[int, ...] | None = None
    refine: bool = True
    edits: tuple[Edit | ObjectEdit, ...] = ()
    markers_are: MarkersAre = "segments"
    diameter: float | None = None
    max_size: int | None = None
    polarity: Polarity = "auto"
    sensitivity: float = 0.5
    exclude_borders: bool = False
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode = {self.mode!r}: choose one of {', '.join(MODES)}.")
        if self.markers_are not in get_args(MarkersAre):
            raise InputError(f"markers_are = {self.markers_are!r}: choose segments or classes.")
        if self.n_regions is not None and self.threshold is not None:
            raise InputError("Give n_regions or threshold, not both.")
        for name in ("n_regions", "n_classes"):
            value = getattr(self, name)
            if not (value is None and name != "n_classes") and not _is_count(value):
                raise InputError(f"{name} = {value!r}: give a whole number of 1 or more.")
        threshold, ids, edits = self.threshold, self.class_ids, self.edits
        if threshold is not None:
            check_share("threshold", threshold)
        if ids is not None and not (isinstance(ids, tuple) and ids and all(map(_is_count, ids))):
            raise InputError(f"class_ids = {ids!r}: give a tuple of whole numbers, or None.")
        if not isinstance(self.refine, bool):
            raise InputError(f"refine = {self.refine!r}: give True or False.")
        kinds = Merge | Split | ObjectEdit
        if not isinstance(edits, tuple) or not all(isinstance(e, kinds) for e in edits):
            raise InputError(f"edits = {edits!r}: give a tuple of edits, such as Merge((3, 8)).")
        _ = self.object_settings  # checks them

    @property
    def object_settings(self) -> ObjectSettings:
        """What objects are looked for."""
        return ObjectSettings(**{f.name: getattr(self, f.name) for f in fields(ObjectSettings)})

    @property
    def edits_used(self) -> tuple[Any, ...]:
        """Those of the edits that this mode has a use for."""
        of_objects = self.mode == "objects"
        return tuple(e for e in self.edits if isinstance(e, ObjectEdit) == of_objects)

    @property
    def learns_classes(self) -> bool:
        """Whether classes are learned from markers."""
        return self.mode == "markers" and self.markers_are == "classes"

    @property
    def needs_classes(self) -> bool:
        """Whether the labels depend on what the classes are."""
        return self.mode == "classes" or (self.mode == "objects" and self.class_ids is not None)

    def labels(
        self,
        hierarchy: Hierarchy,
        prototypes: Prototypes | None = None,
        markers: np.ndarray | None = None,
        stop: StopFlag | None = None,
    ) -> np.ndarray:
        """Return the labels of this cut, int32, shape of the space axes.

        Parameters
        ----------
        hierarchy : Hierarchy
            Of the image to label.
        prototypes : Prototypes, optional
            Appearance of the classes; `n_classes` is ignored then. Of markers that are classes,
            what was learned from strokes in several images.
        markers : ndarray of int, shape of the space axes, optional
            For the mode "markers": 0 for unmarked pixels.
        stop : StopFlag, optional
            Checked before the work and after it; raises StoppedError.

        Raises
        ------
        InputError
            If markers are missing or wrong, or a class or the patch of an edit does not exist.
        """
        raise_if_stopped(stop, self.mode)
        learned = self.mode == "classes" and prototypes is not None and prototypes.examples
        if self.learns_classes and markers is not None and not self.edits_used:
            labels = hierarchy.classes_from(markers, prototypes)
        elif self.mode == "objects":
            n_classes = self.classes_in(hierarchy)
            settings = asdict(self.object_settings)
            settings["edits"] = self.edits_used
            labels = hierarchy.objects(self.class_ids, n_classes, prototypes, stop=stop, **settings)
        else:
            before = self._unedited(hierarchy, prototypes, markers)
            after = edited(before, hierarchy.tree, self.edits_used)
            if self.mode == "markers" and markers is not None:
                labels = hierarchy.with_marks(markers, before, after, refine=self.refine)
            elif learned and not hierarchy.is_lazy:
                labels = hierarchy.classes(  # finer than patches
                    prototypes=prototypes, min_size=self.min_size
                )
                if self.edits_used:
                    changed = hierarchy.map_to_pixels(after != before)
                    labels[changed] = hierarchy.map_to_pixels(after)[changed]
            else:
                labels = hierarchy.pixels_of(after, self.refine, self.min_size)
        raise_if_stopped(stop, self.mode)
        return labels

    def of_patch(
        self,
        hierarchy: Hierarchy,
        prototypes: Prototypes | None = None,
        markers: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the label of each patch, shape (P,); parameters and errors as of `labels`.

        For objects, which do not follow patches, InputError is raised.
        """
        before = self._unedited(hierarchy, prototypes, markers)
        return edited(before, hierarchy.tree, self.edits_used)

    def _unedited(
        self, hierarchy: Hierarchy, prototypes: Prototypes | None, markers: np.ndarray | None
    ) -> np.ndarray:
        if self.mode == "regions":
            n_regions = self.regions_in(hierarchy)
            return hierarchy.region_of_patch(n_regions, min_size=self.min_size)
        if self.mode == "classes":
            n_classes = self.classes_in(hierarchy)
            return hierarchy.class_of_patch(n_classes, prototypes, self.min_size)
        if self.mode == "objects":
            raise InputError("Objects do not follow patches: use `labels` of this cut.")
        if markers is None:
            raise InputError("The mode 'markers' needs markers: an array of ids, 0 = unmarked.")
        if self.markers_are == "classes":
            learned = prototypes or hierarchy.prototypes_from(markers)
            return hierarchy.class_of_patch(prototypes=learned)
        return hierarchy.marker_of_patch(markers)

    def classes_in(self, hierarchy: Hierarchy) -> int:
        """Return how many classes this cut asks for; never more than there can be."""
        return min(int(self.n_classes), hierarchy.max_classes)

    def prototypes_of(self, example: Hierarchy) -> Prototypes:
        """Return the classes of this cut in an image, to find the same ones in others."""
        return example.prototypes(self.classes_in(example))

    def regions_in(self, hierarchy: Hierarchy) -> int:
        """Return how many regions this cut leaves; never more than there can be."""
        if self.threshold is not None:
            return hierarchy.n_regions_at(self.threshold, self.min_size)
        number = hierarchy.suggest_n_regions() if self.n_regions is None else int(self.n_regions)
        return min(number, hierarchy.max_regions(self.min_size))

    def threshold_in(self, hierarchy: Hierarchy) -> float:
        """Return the threshold that gives the same regions."""
        if self.threshold is not None:
            return self.threshold
        return hierarchy.threshold_at(self.regions_in(hierarchy), self.min_size)

    def title(self, hierarchy: Hierarchy) -> str:
        """Return a name for a layer with this cut, such as "regions 12"."""
        number: int | None = None
        if self.mode == "regions":
            number = self.regions_in(hierarchy)
            if self.edits_used:
                number = len(np.unique(self.of_patch(hierarchy)))
        elif self.mode != "markers":
            number = self.n_classes if self.mode == "classes" else self.min_size
        words = [self.mode, *([] if number is None else [str(number)])]
        if self.mode == "objects" and self.class_ids is not None:
            words.append(f"in class {' + '.join(map(str, self.class_ids))}")
        return " ".join([*words, *(["edited"] if self.edits_used else [])])

    def _values(self, hierarchy: Hierarchy) -> dict[str, Any]:
        """The settings that this mode depends on, as plain values."""
        values: dict[str, Any] = {"edits": [edit.record for edit in self.edits_used]}
        if self.mode == "objects":
            values |= asdict(self.object_settings)
            values["class_ids"] = self.class_ids and [int(k) for k in self.class_ids]
        else:
            values["refine"] = self.refine
        if self.mode == "markers":
            values["markers_are"] = self.markers_are
        if self.mode == "regions":
            values["n_regions"] = self.regions_in(hierarchy)
        if self.mode in ("regions", "classes"):
            values["min_size"] = self.min_size
        if self.needs_classes:
            values["n_classes"] = int(self.n_classes)
        return values

    def record(self, hierarchy: Hierarchy, image: str = "image") -> dict[str, Any]:
        """Return the values that are needed to make these labels again.

        Markers and prototypes are not among them. Regions are recorded by their number, even where
        a threshold was given.
        """
        return {
            "image": image,
            "axes": hierarchy.axes.letters,
            "mode": self.mode,
            **self._values(hierarchy),
            "params": hierarchy.params.model_dump(mode="json"),
            "model": hierarchy.model_fingerprint,
            "version": version("napari-aeseg"),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Cut:
        """Return the cut that a record describes; other entries are ignored.

        InputError is raised if there is no mode, or a value is out of range.
        """
        if "mode" not in record:
            raise InputError("This is not the record of a cut: it has no 'mode'.")
        plain = ["mode", "n_regions", "threshold", "n_classes", "markers_are"]
        plain += [field.name for field in fields(ObjectSettings)]
        values = {name: record[name] for name in plain if name in record}
        ids = record.get("class_ids")
        return cls(
            **values,
            class_ids=tuple(ids) if isinstance(ids, list) else ids,
            refine=bool(record.get("refine", False)),  # older records are of labels of patches
            edits=tuple(object_edit_of(edit) or edit_of(edit) for edit in record.get("edits", ())),
        )


def _is_count(value: Any) -> bool:
    return is_number(value) and value >= 1 and float(value).is_integer()
