"""What the dock shows and works on: one observable state.

Views draw it and write what the user chooses, jobs write what they made, layers follow it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import SignalGroupDescriptor

from napari_aeseg._napari.class_names import class_pairs, colors_on, names_on
from napari_aeseg._napari.find_similar import Examples, Similarities, only
from napari_aeseg._napari.layers.colors import class_color
from napari_aeseg._napari.work_requests import (
    AlternativesRequest,
    BorderRequest,
    LearnedClasses,
    ModePictures,
    ModesRequest,
    ObjectRequest,
    StrokesRequest,
    Thumbnails,
    ViewRequest,
    are_same_examples,
    narrow,
)
from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import labels_in, layer_pixels
from napari_aeseg.params import PRESETS, ComparisonParams, SegmentationParams, TrainingParams
from napari_aeseg.regions.cuts.cut import Cut, Mode
from napari_aeseg.regions.cuts.edits import Edit, edits_on
from napari_aeseg.regions.cuts.locked_segments import with_locked
from napari_aeseg.regions.cuts.minimum_size import without_small_pieces_of_pixels
from napari_aeseg.regions.objects.edits import ObjectEdit
from napari_aeseg.regions.shapes import objects_stand_out

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_aeseg._napari.export.tables import Legend
    from napari_aeseg._napari.layers.image_input import ImageInput
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.images.axes import Axes
    from napari_aeseg.progress import Progress
    from napari_aeseg.prototypes import Prototypes
    from napari_aeseg.regions.alternatives import AlternativeSettings
    from napari_aeseg.regions.hierarchy import Hierarchy

    AnyEdit = Edit | ObjectEdit

EDITS_DISCARDED = (
    "Merges or splits by hand do not fit the new patches. Undo brings the earlier segmentation "
    "back."
)
OWN_CLASSES = (
    "The stored classes are of other channels or another model: this image has classes of its own."
)
# Of classes, at least: with the same ones for all, a slider for their number leaves them alone.
_COLORS = 30
FIRST_CUT = Cut(markers_are="classes")  # of a new dock
_MOST_PIXELS = 2**22  # of an image whose objects are looked for before anybody asks
_MOST_MODELS = 8  # of a session that are kept in memory
Start = Literal["new", "base", "current"]
Tool = Literal["add", "delete", "merge", "split", "larger", "smaller", "lock", "similar"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
Display = Literal["fill", "outlines", "off"]
DISPLAYS: tuple[Display, ...] = get_args(Display)


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, for the user and for a script that makes it again."""

    text: str = ""  # for the user
    path: Path | str | None = None  # the file that holds it, or "base"
    inputs: tuple[ImageInput, ...] = ()  # what it was trained on from beginning to end
    device: str = "auto"
    params: TrainingParams | None = None  # None when its training was stopped
    init: Origin | None = None  # where the weights come from that it started from

    def starts_from(self, path: Path) -> bool:
        """Whether a file is needed to train it again."""
        return self.init is not None and (self.init.path == path or self.init.starts_from(path))


@dataclass(frozen=True, eq=False)
class Result:
    """One segmented image."""

    hierarchy: Hierarchy
    model: Model | None  # that encoded it; None for a saved hierarchy whose model is not loaded
    input: ImageInput  # the image as it was encoded
    edits: tuple[AnyEdit, ...] = ()  # by hand, of regions and of objects
    undone: tuple[AnyEdit, ...] = ()  # those that were undone
    markers: Labels | None = None  # the layer with the user's strokes
    locked: np.ndarray | None = None  # labels of the regions that stay as they are, 0 elsewhere
    examples: Examples | None = None  # what is shown looks like them
    path: Path | None = None  # the folder that the hierarchy was opened from
    has_image: bool = True  # False when the layer shows the brightness only
    segments: Labels | None = None  # the layer whose segments the tree starts from
    labels: np.ndarray | None = None  # these segments, as they were
    earlier: Result | None = None  # whose edits could not be carried over to this one

    def has_axes_of(self, other: Result) -> bool:
        """Whether axes and resolution are the same, so that labels lie on the image alike."""
        one, two = self.hierarchy.axes, other.hierarchy.axes
        return (one.letters, one.shape) == (two.letters, two.shape)

    @property
    def strokes(self) -> np.ndarray | None:
        """The user's strokes, shape of the labels; None where nothing was painted."""
        if self.markers is None:
            return None
        return np.asarray(labels_in(self.markers.data, self.hierarchy.axes))

    @property
    def pixels(self) -> np.ndarray | None:
        """The image, if it is open and in memory."""
        data = self.input.data
        return data if self.has_image and isinstance(data, np.ndarray) else None

    @property
    def can_encode(self) -> bool:
        """Whether the network can be run on the image."""
        return self.model is not None and self.has_image


@dataclass(frozen=True, eq=False)
class ClassStyle:
    """Names and colours of classes, and their prototypes where classes are fixed."""

    names: tuple[str, ...] = ()  # of classes 1, 2, ...; the others have default names
    colors: tuple[str, ...] = ()  # as "#rrggbb"; the others have default colours
    prototypes: Prototypes | None = None  # of the classes, if they are fixed
    model: Model | None = None  # that the prototypes are of

    def names_of(self, n_classes: int) -> tuple[str, ...]:
        """Return the names of classes 1 to `n_classes`."""
        defaults = (f"class {i + 1}" for i in range(len(self.names), n_classes))
        return (*self.names, *defaults)[:n_classes]

    def colors_of(self, n_classes: int) -> tuple[str, ...]:
        """Return the colours of classes 1 to `n_classes`, as "#rrggbb"."""
        defaults = (class_color(i + 1) for i in range(len(self.colors), n_classes))
        return (*self.colors, *defaults)[:n_classes]

    def named(self, prototypes: Prototypes) -> Prototypes:
        """Return prototypes with these names and colours."""
        number = len(prototypes.centres)
        return replace(prototypes, names=self.names_of(number), colors=self.colors_of(number))

    def fixed_for(self, result: Result) -> Prototypes | None:
        """Return the prototypes if they fit: with another model or other channels they cannot."""
        model = result.model
        if self.prototypes is None or self.model is None or model is None:
            return None
        same = model is self.model or model.fingerprint == self.model.fingerprint
        return self.prototypes if same and _describe(self.prototypes, result.hierarchy) else None


@dataclass(frozen=True, eq=False)
class KeptLayer:
    """A layer that the user kept, and what its table is measured on."""

    layer: Labels
    image: Image
    result: Result
    classes: np.ndarray | None
    on_disk: Any = None  # labels of an image in blocks, whose layer cannot be painted on


@dataclass(eq=False)
class DockState:
    """Everything that the dock shows; ``events.<field>`` tells when a field changes.

    Mappings and the values in them are replaced, never changed in place.
    """

    images: tuple[Image, ...] = ()  # to learn from and to segment
    open_images: tuple[Image, ...] = ()  # all that can be chosen
    shown: Image | None = None  # the one in sight, of several
    axes: str | None = None  # as typed; None has them read from each image
    resolution: int = 0  # of multiscale images; 0 is the finest
    open_labels: tuple[Labels, ...] = ()  # all Labels layers
    starting_segments: Labels | None = None  # that they start from next time; None is patches
    device: str = "auto"
    devices: tuple[str, ...] = ("auto", "cpu")
    training: TrainingParams = field(default_factory=TrainingParams)  # of the next model
    start_from: Start = "new"
    watch: bool = False  # whether a layer shows the reconstruction while training goes on
    segmentation: SegmentationParams = field(default_factory=SegmentationParams)  # next time
    comparison: ComparisonParams = field(default_factory=ComparisonParams)  # results follow it
    cut: Cut = FIRST_CUT  # what previews show, without edits by hand
    display: Display = "fill"  # how previews are drawn
    tool: Tool | None = None  # what clicks on a preview do
    similarity: float = 0.7  # the least of segments that are shown as similar to examples
    classes: ClassStyle = field(default_factory=ClassStyle)
    model: Model | None = None
    models: Mapping[Model, Origin] = field(default_factory=dict)  # of this session, this one too
    autosaved: tuple[Path, ...] = ()  # the newest model files that were saved by themselves
    results: Mapping[Image, Result] = field(default_factory=dict)  # the segmented images
    example: Image | None = None  # whose classes the others have; None is the first of them
    # The newest objects of each image.
    objects: Mapping[Image, tuple[ObjectRequest, np.ndarray]] = field(default_factory=dict)
    learned: LearnedClasses | None = None  # the newest classes from strokes
    # The newest labels of each image with borders that follow the pixels.
    refined: Mapping[Image, tuple[BorderRequest | ViewRequest, Any]] = field(default_factory=dict)
    alternatives: Thumbnails | None = None  # of the first image
    mode_pictures: ModePictures | None = None  # of the first image
    mode_is_open: bool = False  # whether objects may be shown if they stand out
    previews: Mapping[Image, Labels] = field(default_factory=dict)
    drafts: Mapping[Image, Path] = field(default_factory=dict)  # of earlier work, on offer
    # Layers whose tables are measured again when they are painted on.
    kept: Mapping[Labels, KeptLayer] = field(default_factory=dict)
    table_columns: tuple[str, ...] | None = None  # of the selected layer; None without a table
    legend: Legend | None = None  # of the layer that was coloured last
    diagnostics: frozenset[str] = frozenset()  # those that have a layer
    busy: str = ""  # what is being worked on; "" when nothing is
    progress: Progress | None = None  # the newest event of the running job
    autosave: Path | None = None  # the file that the running training is saved to
    message: str = ""  # a line for the user
    report: str = ""  # on the last folder
    # Reconstruction error of each pixel, once it was computed; without an event.
    errors: WeakKeyDictionary[ImageInput, np.ndarray] = field(default_factory=WeakKeyDictionary)

    similarities: Similarities = field(default_factory=Similarities)  # without an event

    # Hierarchy, number of classes, and their prototypes; without an event.
    _prototypes_of_example: tuple[Any, int, Any] = (None, 0, None)
    # How labels and pixels lay on each segmented image last, for each way in which its axes were
    # read; without an event.
    places: dict[Image, dict[Axes, tuple[dict[str, Any], ...]]] = field(default_factory=dict)

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators={
            **dict.fromkeys(("model", "classes", "learned", "progress"), operator.is_),
            # Setting a form anew clears what does not fit in it, also if the value is the same.
            **dict.fromkeys(("training", "segmentation"), operator.is_),
            "message": lambda new, old: False,  # shown anew, also when it is the same
        },
        signal_aliases=dict.fromkeys(
            ("errors", "places", "similarities", "_prototypes_of_example")
        ),
    )

    def on(self, *names: str, draw: Callable[[], object]) -> None:
        """Call `draw` whenever one of some fields has changed, and once now."""
        for name in names:
            self.events[name].connect(draw)
        draw()

    # Choices of the user

    @property
    def preset(self) -> str | None:
        """Name of the preset that `training` agrees with, but for the seed; else None."""
        seed = self.training.seed
        presets = {name: TrainingParams.preset(name).updated(seed=seed) for name in PRESETS}
        return next((name for name, p in presets.items() if p == self.training), None)

    @preset.setter
    def preset(self, name: str) -> None:
        self.training = TrainingParams.preset(name).updated(seed=self.training.seed)

    def change_cut(self, **changes: Any) -> None:
        """Change fields of the cut."""
        self.cut = replace(self.cut, **changes)

    def choose_mode(self, image: Image) -> None:
        """Show objects where they stand out and nobody has changed a control."""
        is_open, self.mode_is_open = self.mode_is_open and self.cut == FIRST_CUT, False
        labels, brightness = self.objects[image][1], self.results[image].hierarchy.brightness
        if is_open and brightness is not None and objects_stand_out(labels, brightness):
            self.change_cut(mode="objects")
            self.message = "Objects stand out here, so they are shown. Regions are a click away."

    def change_comparison(self, **changes: Any) -> None:
        """Change how patches are compared."""
        self.comparison = self.comparison.updated(**changes)

    def use_alternative(self, settings: AlternativeSettings) -> None:
        """Set the controls to an alternative; the number stays, also where it was suggested."""
        if settings.mode == "regions":
            self.change_cut(n_regions=settings.n_regions, threshold=None)
        self.comparison = settings.comparison

    @property
    def n_classes(self) -> int:
        """Number of classes that have a name: of the fixed ones, else of the cut."""
        prototypes = self.classes.prototypes
        return self.cut.n_classes if prototypes is None else len(prototypes.centres)

    @property
    def segment_layers(self) -> list[Labels]:
        """Labels layers that trees can start from: all but previews and strokes."""
        strokes = [result.markers for result in self.results.values()]
        ours = [*self.previews.values(), *strokes]
        return [layer for layer in self.open_labels if layer not in ours]

    # Model and results

    @property
    def origin(self) -> Origin:
        """Where the current model comes from."""
        return Origin() if self.model is None else self.models.get(self.model, Origin())

    def assign_model(self, model: Model | None, origin: Origin) -> None:
        """Use a model from now on, and the classes that it brings along."""
        models = dict(self.models) if model is None else {**self.models, model: origin}
        self.models, self.model = dict(list(models.items())[-_MOST_MODELS:]), model
        if any(result.model is None for result in self.results.values()):
            self.results = {
                image: replace(result, model=result.model or model_of(result.hierarchy, model))
                for image, result in self.results.items()
            }
        prototypes = None if model is None else model.prototypes
        if prototypes is not None:
            self.classes = ClassStyle(prototypes.names, prototypes.colors, prototypes, model)
        elif self.classes.prototypes is not None:
            self.classes = replace(self.classes, prototypes=None)

    def is_outdated(self, image: Image) -> bool:
        """Whether segmenting an image again would use another model, other patches or pixels."""
        result = self.results[image]
        return (
            (self.model is not None and result.model is not self.model)
            or result.hierarchy.params != self.segmentation
            or (result.has_image and result.segments is not self.starting_segments)
            or not result.input.has_data_of(image)
            or result.input.axes.shape != np.shape(layer_pixels(image, self.resolution))
            or (self.axes is not None and result.hierarchy.axes.letters != self.axes.upper())
        )

    @property
    def hierarchies(self) -> dict[Image, Hierarchy]:
        """The hierarchy of each chosen image that is segmented."""
        results = self.results
        return {image: results[image].hierarchy for image in self.images if image in results}

    def example_of(self, images: Sequence[Image]) -> Image | None:
        """Return the one of some images whose classes the others have; None if none is segmented.

        The first, unless the user took over the classes of another one.
        """
        segmented = [image for image in images if image in self.results]
        return self.example if self.example in segmented else next(iter(segmented), None)

    @property
    def first_image(self) -> Image | None:
        """The chosen image in sight if it is segmented, else the first that is."""
        segmented = [image for image in self.images if image in self.results]
        return self.shown if self.shown in segmented else next(iter(segmented), None)

    @property
    def first_result(self) -> Result | None:
        """The result of the first chosen image that is segmented."""
        image = self.first_image
        return None if image is None else self.results[image]

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The hierarchy of the first chosen image that is segmented."""
        result = self.first_result
        return None if result is None else result.hierarchy

    @property
    def max_regions(self) -> int:
        """The largest number of regions that any chosen image can have; 1 without images."""
        return max((h.n_patches for h in self.hierarchies.values()), default=1)

    def add_result(self, image: Image, result: Result) -> bool:
        """Take over a new hierarchy; return False if edits by hand had to be discarded."""
        before, kept = self.results.get(image), True
        if before is not None:
            edits, undone, kept = _edits_on(result.hierarchy, before)
            earlier = before.earlier if kept else before
            by_hand: dict[str, Any] = {"edits": edits, "undone": undone, "earlier": earlier}
            if result.has_axes_of(before):
                names = ("markers", "locked", "examples")
                by_hand |= {name: getattr(before, name) for name in names}
            result = replace(result, **by_hand)
            self._keep_names(image, before.hierarchy, result.hierarchy)
        self.results = {**self.results, image: result}
        return kept

    def compare_anew(self, pairs: Mapping[Image, tuple[Hierarchy, Hierarchy]]) -> None:
        """Replace hierarchies, those of them that are shown still, by the same patches compared."""
        results = dict(self.results)
        for image, (before, after) in pairs.items():
            if image in results and results[image].hierarchy is before:
                self._keep_names(image, before, after)
                results[image] = replace(results[image], hierarchy=after)
        self.results = results

    def _keep_names(self, image: Image, before: Hierarchy, after: Hierarchy) -> None:
        """Have names and colours of classes stay on what they were given to."""
        number = min(self.cut.n_classes, before.max_classes, after.max_classes)
        classes = self.classes
        is_example = image is self.example_of(self.images) and classes.prototypes is None
        if is_example and (classes.names or classes.colors):
            pairs = class_pairs(before, after, number)
            names, colors = classes.names_of(number), classes.colors_of(number)
            names, colors = names_on(pairs, names), colors_on(pairs, colors)
            self.classes = replace(
                classes,
                names=names + classes.names[number:],
                colors=colors + classes.colors[number:],
            )

    def change_result(self, image: Image, **changes: Any) -> None:
        """Change fields of one image's result."""
        self.results = {**self.results, image: replace(self.results[image], **changes)}

    def drop_results(self, images: Any) -> None:
        """Discard what belongs to some images; their layers stay."""
        self.results = {i: result for i, result in self.results.items() if i not in images}
        self.objects = {i: objects for i, objects in self.objects.items() if i not in images}
        self.refined = {i: refined for i, refined in self.refined.items() if i not in images}

    # Alternatives

    @property
    def alternatives_request(self) -> AlternativesRequest | None:
        """Alternatives to what the first image shows; None where there cannot be any."""
        result, cut = self.first_result, self.cut
        if result is None or cut.mode not in ("classes", "regions"):
            return None
        if cut.mode == "classes" and self.classes.fixed_for(result) is not None:
            return None  # fixed classes say how patches are compared
        count = cut.classes_in if cut.mode == "classes" else cut.regions_in
        number = count(result.hierarchy)
        return AlternativesRequest(result.hierarchy, cut.mode, number, result.pixels)

    @property
    def alternatives_fit(self) -> bool:
        """Whether what is shown is one of the alternatives, or will be in a moment."""
        thumbnails, request = self.alternatives, self.alternatives_request
        if thumbnails is None or request is None or not thumbnails.are_of(request.hierarchy):
            return False
        if (thumbnails.mode, thumbnails.number) != (request.mode, request.number):
            return False
        return any(settings.comparison == self.comparison for settings in thumbnails.settings)

    @property
    def modes_request(self) -> ModesRequest | None:
        """What each mode shows of the first image; None where nothing is segmented."""
        image, result = self.first_image, self.first_result
        if image is None or result is None:
            return None
        request, objects = self.objects.get(image, (None, None))
        if request is not None and request.hierarchy.brightness is not result.hierarchy.brightness:
            objects = None  # of earlier pixels
        cut = self.cut_of(image, replace(self.cut, mode="regions"))
        fixed = self.classes.fixed_for(result)
        return ModesRequest(result.hierarchy, cut, fixed, objects, result.pixels)

    @property
    def objects_to_picture(self) -> ObjectRequest | None:
        """Objects of the first image, if nobody looks for them and they are not too much work."""
        image, request = self.first_image, self.modes_request
        if image is None or request is None or request.objects is not None:
            return None
        if self.cut.mode == "objects":  # they are being detected for the preview
            return None
        hierarchy = request.hierarchy
        if (
            hierarchy.is_lazy
            or hierarchy.brightness is None
            or hierarchy.patches.size > _MOST_PIXELS
        ):
            return None
        return self.object_request(image, self.cut)

    # Labels of a cut

    def cut_of(self, image: Image, cut: Cut) -> Cut:
        """Return the cut with what was edited by hand in this image."""
        result = self.results.get(image)
        is_edited = cut.mode in ("regions", "objects")
        edits = result.edits if result is not None and is_edited else ()
        return replace(cut, edits=edits)

    def labels(self, image: Image, cut: Cut, example: Image) -> np.ndarray:
        """Return the labels of a cut; classes have their ids from the example image."""
        labels, request = self.cut_labels(image, cut, example)
        labels = labels if request is None else request.answer()
        return self._chosen(image, cut, example, labels)

    def _chosen(self, image: Image, cut: Cut, example: Image, labels: np.ndarray) -> np.ndarray:
        """What looks like the examples, if there are any, with locked regions on top."""
        locked = self.results[image].locked if cut.mode == "regions" else None
        similar = self.similar_ids(image, cut, example)
        labels = labels if similar is None else only(labels, similar)
        return labels if locked is None else with_locked(labels, locked)

    def similar_ids(self, image: Image, cut: Cut, example: Image) -> np.ndarray | None:
        """Return the labels that look like the examples of an image; None without examples."""
        result = self.results[image]
        if result.examples is None or result.examples.mode != cut.mode:
            return None
        labels = self.patch_labels(image, cut, example)
        return self.similarities.similar(
            image, result.hierarchy, labels, result.examples, self.similarity
        )

    def cut_labels(
        self, image: Image, cut: Cut, example: Image
    ) -> tuple[np.ndarray, BorderRequest | None]:
        """Return `layer_labels` of an image in memory with all regions, and none of them locked."""
        coarse = self.patch_labels(image, cut, example)
        hierarchy = self.results[image].hierarchy
        is_final = cut.mode == "objects" or cut.learns_classes or hierarchy.evidence is None
        is_final |= hierarchy.is_lazy  # what is looked at would be refined while the window waits
        is_final = is_final or self._learned_labels(image, cut) is not None
        if is_final or not cut.refine:
            return coarse, None
        strokes = self._strokes(image) if cut.mode == "markers" else None
        if cut.mode == "markers" and strokes is None:
            return coarse, None
        prototypes = self.prototypes_for(image, example, cut) if cut.mode == "classes" else None
        request = BorderRequest(hierarchy, self.cut_of(image, cut), prototypes, strokes, coarse)
        refined = self.refined.get(image)
        if refined is not None and refined[0].gives_same(request):
            return refined[1], None
        return coarse, request

    def patch_labels(self, image: Image, cut: Cut, example: Image) -> np.ndarray:
        """Return labels with the borders of patches; those of objects follow the pixels."""
        result = self.results[image]
        if cut.mode == "objects":
            objects = self.objects_of(image, cut)
            if objects is None:
                raise InputError("Objects are still being detected: wait until they are shown.")
            return narrow(objects)
        learned = self._learned_labels(image, cut)
        if learned is not None:
            if cut.mode == "classes" and not result.hierarchy.is_lazy:
                learned = without_small_pieces_of_pixels(learned, cut.min_size or 1)
            return narrow(learned)
        if cut.mode == "markers":
            strokes = None if cut.learns_classes else self._strokes(image)
            if strokes is None:  # nothing painted yet
                return np.zeros(result.hierarchy.patches.shape, np.uint16)
            return narrow(replace(cut, refine=False).labels(result.hierarchy, markers=strokes))
        return result.hierarchy.map_to_pixels(self._label_of_patch(image, cut, example))

    def number_shown(self, image: Image) -> int:
        """How many labels the preview of an image has, after edits by hand and locks."""
        cut, example = self.cut, self.example_of(self.images) or image
        if cut.mode == "objects" or (
            cut.mode == "regions" and self.results[image].locked is not None
        ):
            labels, _ = self.layer_labels(image, cut, example)
        else:
            labels = self._label_of_patch(image, cut, example)
        return int(np.count_nonzero(np.bincount(labels.ravel())[1:]))

    def summary(self, image: Image) -> str:
        """Return what is found in an image, such as "12 regions", without a number if unknown."""
        mode = self.cut.mode
        if mode == "markers" or (mode == "objects" and self.objects_of(image, self.cut) is None):
            return "Segmented"
        number = self.number_shown(image)
        one = "class" if mode == "classes" else mode.removesuffix("s")
        return f"{number} {one if number == 1 else mode}"

    def _strokes(self, image: Image) -> np.ndarray | None:
        """What was painted to grow segments from, a copy; None while there is nothing."""
        strokes = self.results[image].strokes
        return None if strokes is None or not np.any(strokes) else np.array(strokes)

    def layer_labels(
        self, image: Image, cut: Cut, example: Image
    ) -> tuple[Any, BorderRequest | ViewRequest | None]:
        """Return labels that are made at once, and what is missing until they are `labels`.

        Those of a large image are a list of dask arrays, the finest first.

        In the finest, chunks that were refined before have borders that follow the pixels.
        """
        hierarchy = self.results[image].hierarchy
        if not hierarchy.coarse or cut.mode in ("objects", "markers"):
            labels, missing = self.cut_labels(image, cut, example)
            return self._chosen(image, cut, example, labels), missing
        levels = hierarchy.map_to_pyramid(self._label_of_patch(image, cut, example))
        # The surroundings of a chunk of a volume are too many pixels for a view.
        if not cut.refine or hierarchy.evidence is None or "Z" in hierarchy.axes.space:
            return levels, None
        request = ViewRequest(hierarchy, levels[0], cut.min_size)
        before = self.refined.get(image)
        if before is None or not request.continues(before[0]):
            return levels, request
        return [before[1].array, *levels[1:]], replace(request, refined=before[1])

    def _label_of_patch(self, image: Image, cut: Cut, example: Image) -> np.ndarray:
        prototypes = self.prototypes_for(image, example, cut) if cut.mode == "classes" else None
        hierarchy = self.results[image].hierarchy
        return narrow(self.cut_of(image, cut).of_patch(hierarchy, prototypes))

    def prototypes_for(self, image: Image, example: Image, cut: Cut) -> Prototypes | None:
        """Return the fixed classes or those of an example; None where the image has its own."""
        fixed = self.classes.fixed_for(self.results[image])
        if fixed is not None or image is example:
            return fixed
        source, hierarchy = self.results[example].hierarchy, self.results[image].hierarchy
        if source.model_fingerprint != hierarchy.model_fingerprint:
            return None
        known, number, prototypes = self._prototypes_of_example
        if known is not source or number != cut.n_classes:
            prototypes = cut.prototypes_of(source)
            self._prototypes_of_example = (source, cut.n_classes, prototypes)
        return prototypes if _describe(prototypes, hierarchy) else None

    def strokes_request(self, images: Sequence[Image], cut: Cut) -> StrokesRequest | None:
        """Return what classes from strokes depend on; None where a cut has none of them."""
        results = {image: self.results[image] for image in images}
        fixed = self.classes.prototypes
        if cut.mode == "classes" and fixed is not None and fixed.examples is not None:
            fitting = {i: r.hierarchy for i, r in results.items() if self.classes.fixed_for(r)}
            return StrokesRequest(fitting, {}, fixed) if fitting else None
        if not cut.learns_classes:
            return None
        painted = {image: result.strokes for image, result in results.items()}
        strokes = {i: np.array(s) for i, s in painted.items() if s is not None and s.any()}
        if not strokes:
            return None
        first = results[next(iter(strokes))].hierarchy
        kind = first.model_fingerprint, first.axes.channels
        alike = {
            image: result.hierarchy
            for image, result in results.items()
            if (result.hierarchy.model_fingerprint, result.hierarchy.axes.channels) == kind
        }
        return StrokesRequest(alike, {i: s for i, s in strokes.items() if i in alike})

    @property
    def learned_prototypes(self) -> Prototypes | None:
        """Classes that were learned from strokes, those of the preview or stored ones."""
        if self.cut.learns_classes:
            return None if self.learned is None else self.learned.prototypes
        fixed = self.classes.prototypes
        return None if fixed is None or fixed.examples is None else fixed

    def class_colors(self, cut: Cut) -> tuple[str, ...] | None:
        """Return the colours of labels where these are classes; None where they are not."""
        if cut.mode != "classes" and not cut.learns_classes:
            return None
        learned = 0 if self.learned is None else len(self.learned.prototypes.centres)
        return self.classes.colors_of(max(self.n_classes, cut.n_classes, _COLORS, learned))

    def _learned_labels(self, image: Image, cut: Cut) -> Any:
        """The newest classes from strokes of an image; None where the cut shows none."""
        if self.learned is None or image not in self.learned.labels:
            return None
        wanted = self.classes.prototypes if cut.mode == "classes" else None
        if not (cut.learns_classes or cut.mode == "classes"):
            return None
        labels = self.learned.labels[image]
        is_same = labels.shape == self.results[image].hierarchy.patches.shape
        is_same &= are_same_examples(self.learned.request.prototypes, wanted)
        return labels if is_same else None

    def object_request(self, image: Image, cut: Cut) -> ObjectRequest:
        """Return what the objects of a cut depend on."""
        prototypes = None
        if cut.class_ids is not None:
            prototypes = self.prototypes_for(image, self.example_of(self.images) or image, cut)
        cut = self.cut_of(image, replace(cut, mode="objects"))
        return ObjectRequest(self.results[image].hierarchy, cut, prototypes)

    def objects_of(self, image: Image, cut: Cut) -> np.ndarray | None:
        """Return the objects of a cut; None while they are not known."""
        if image not in self.results or image not in self.objects:
            return None
        request, labels = self.objects[image]
        return labels if request.gives_same(self.object_request(image, cut)) else None

    def foreground_class(self, image: Image, cut: Cut) -> int:
        """Return the class with the largest share in objects; the brightest if none is known."""
        classes = self.patch_labels(image, replace(cut, mode="classes", class_ids=None), image)
        objects = self.objects_of(image, replace(cut, mode="objects", class_ids=None))
        if objects is None or not objects.any():
            table = self.results[image].hierarchy.table(classes).filter(regex="^index|^mean_")
            means = table.set_index("index").mean(axis=1)
            return int(means.index[int(means.argmax())])
        size = np.bincount(classes.ravel())
        inside = np.bincount(classes[objects > 0], minlength=len(size))
        return int(np.argmax(inside / np.maximum(size, 1)))


def model_of(hierarchy: Hierarchy, model: Model | None) -> Model | None:
    """Return the model if the hierarchy is of it, else None."""
    if model is None or not model.has_fingerprint(
        hierarchy.model_fingerprint, hierarchy.axes.channels
    ):
        return None
    return model


def _describe(prototypes: Prototypes, hierarchy: Hierarchy) -> bool:
    """Whether the classes of some prototypes can be looked for in a hierarchy."""
    return prototypes.centres.shape[1] == hierarchy.descriptor.raw.shape[1]


def _edits_on(
    hierarchy: Hierarchy, before: Result
) -> tuple[tuple[AnyEdit, ...], tuple[AnyEdit, ...], bool]:
    """Return edits and undone edits for another hierarchy of an image, and whether all are kept."""
    old = before.hierarchy
    if not before.edits and not before.undone:
        return (), (), True
    # Those on disk are not read.
    if old.coarse or hierarchy.coarse or old.patches.shape != hierarchy.patches.shape:
        return (), (), not before.edits
    if np.array_equal(old.patches, hierarchy.patches):
        return before.edits, before.undone, True
    edits, lost = carried_over(hierarchy.patches, before.edits, old.patches)
    undone, _ = carried_over(hierarchy.patches, before.undone, old.patches)
    return edits, undone, not lost


def edits_of(edits: tuple[AnyEdit, ...], mode: Mode) -> list[AnyEdit]:
    """Return those of some edits that are of a mode."""
    return list(Cut(mode, edits=edits).edits_used)


def carried_over(
    patches: np.ndarray, edits: tuple[AnyEdit, ...], made_on: np.ndarray
) -> tuple[tuple[AnyEdit, ...], bool]:
    """Return edits on other patches, and whether some are lost; those of objects name pixels."""
    of_objects = [edit for edit in edits if isinstance(edit, ObjectEdit)]
    of_patches = [edit for edit in edits if not isinstance(edit, ObjectEdit)]
    moved, lost = edits_on(patches, of_patches, made_on)
    return (*moved, *of_objects), bool(lost)
