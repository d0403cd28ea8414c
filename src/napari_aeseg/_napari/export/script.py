"""Python code that repeats the current result, without a window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg import __version__
from napari_aeseg._napari.manifest.settings import new_path, prepare_folder
from napari_aeseg.errors import InputError
from napari_aeseg.images.axes import common_voxel_size
from napari_aeseg.io.images import open_file, read_file
from napari_aeseg.params import (
    BASE_MODEL,
    MODEL_SUFFIX,
    ComparisonParams,
    SegmentationParams,
    TrainingParams,
)
from napari_aeseg.samples import SAMPLES

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.layers.image_input import ImageInput
    from napari_aeseg._napari.state import DockState, Origin, Result
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.regions.cuts.cut import Cut

_LARGEST_TO_COMPARE = 500_000_000  # bytes; larger files are not compared with the image


def script_of(state: DockState, folder: Path) -> str:
    """Return a script for the segmented images; pixels without a file are saved to `folder`."""
    writer = _Writer(state, folder)
    example = state.example_of(state.images)
    # The image that the classes are of comes first.
    images = sorted(state.hierarchies, key=lambda image: image is not example)
    results = [state.results[image] for image in images]
    if not results:
        raise InputError("There is no result to repeat: segment an image first.")
    # What was opened needs a model only for the classes that are stored in it.
    fixed = [state.cut.needs_classes and state.classes.fixed_for(r) for r in results]
    models = [r.model for r, f in zip(results, fixed, strict=True) if r.path is None or f]
    if any(model is not models[0] for model in models):
        raise InputError(
            "These images were segmented with different models: press Segment, or choose one."
        )
    origin = state.origin if models and models[0] is state.model else None
    if any(fixed):
        origin = None  # a model that is trained again has no classes: the file brings them
    lines = []
    if models and models[0] is not None:
        lines = [writer.model(origin, models[0]), ""]
    for number, image in enumerate(images, 1):
        lines += writer.image(image, number)
    head = [
        f'"""Made by AE Segment {__version__}, "Copy as script": the same without a window."""',
        "",
        *sorted(writer.imports),
        "",
        *writer.definitions,
    ]
    return "\n".join([*head, *lines]).rstrip() + "\n"


def call(name: str, **arguments: object) -> str:
    """Return the code of a call."""
    inside = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
    return f"{name}({inside})"


def params_code(params: TrainingParams | SegmentationParams | ComparisonParams) -> str:
    """Return the code of parameters: those that differ from the defaults, and the seed.

    Examples
    --------
    >>> from napari_aeseg.params import ComparisonParams
    >>> params_code(ComparisonParams(balance=0.7))
    'aeseg.ComparisonParams(balance=0.7)'
    """
    default = type(params)()
    values = {
        name: getattr(params, name)
        for name in type(params).model_fields
        if getattr(params, name) != getattr(default, name) or name == "seed"
    }
    return call(f"aeseg.{type(params).__name__}", **values)


class _Writer:
    """Collects imports and definitions while the body of the script is written."""

    def __init__(self, state: DockState, folder: Path) -> None:
        self.state = state
        self.folder = folder
        self.imports = {"import napari_aeseg as aeseg"}
        self.definitions: list[str] = []
        self._sources: list[tuple[Any, str]] = []  # data, name of the variable
        self._names: list[str] = []  # of files with labels

    def source(self, image: ImageInput) -> str:
        """Define a variable with the pixels of an image; return its name."""
        for data, name in self._sources:
            if data is image.data:
                return name
        name = f"image_{len(self._sources) + 1}"
        self._sources.append((image.data, name))
        self.definitions.append(f"{name} = {self._reading(image)}  # {image.name}, {image.axes}")
        return name

    def _reading(self, image: ImageInput) -> str:
        if image.sample in SAMPLES and np.array_equal(SAMPLES[image.sample](), image.data):
            self.imports.add("from napari_aeseg.samples import SAMPLES")
            return f"SAMPLES[{image.sample!r}]()"
        level = image.resolution
        if image.path is not None and _opens_as(image.path, image.data, level):
            self.imports.add("from napari_aeseg.io.images import open_file")
            chosen = f", resolution={level}" if level else ""
            return f"open_file({str(image.path)!r}, largest=0{chosen}).array"
        if image.path is not None and not level and _is_file_of(image.path, image.data):
            self.imports.add("from napari_aeseg.io.images import read_file")
            return f"read_file({str(image.path)!r})[0]"
        return self._saved(image.data, image.name)

    def _saved(self, data: Any, name: str) -> str:
        """Save an array that lives in this session only."""
        if not isinstance(data, np.ndarray):
            raise InputError(
                f"{name} is not in memory and was not opened from a file that a script can read: "
                "save it as TIFF and open that."
            )
        prepare_folder(self.folder)
        path = new_path(self.folder, name, ".npy")
        np.save(path, data)
        self.imports.add("import numpy as np")
        return f"np.load({str(path)!r})"

    def model(self, origin: Origin | None, model: Model) -> str:
        """Return the code that makes the model again, or else loads it."""
        code = None if origin is None else self._remade(origin)
        if code is None:
            prepare_folder(self.folder)
            path = new_path(self.folder, "model", MODEL_SUFFIX)
            model.save(path)
            code = f"aeseg.load_model({str(path)!r})"
        return f"model = {code}"

    def _remade(self, origin: Origin) -> str | None:
        """Code for a model by where it comes from; None when that is not known well enough."""
        if origin.params is None or not origin.inputs:
            exists = isinstance(origin.path, Path) and origin.path.is_file()
            is_there = exists or origin.path == BASE_MODEL
            return f"aeseg.load_model({str(origin.path)!r})" if is_there else None
        arguments = [f"[{', '.join(map(self.source, origin.inputs))}]", params_code(origin.params)]
        axes = [image.axes_argument for image in origin.inputs]
        if any(axes):
            arguments.append(f"axes={(axes[0] if len(set(axes)) == 1 else axes)!r}")
        voxels = common_voxel_size([image.axes for image in origin.inputs])
        if voxels is not None:
            arguments.append(f"voxel_size={voxels!r}")
        arguments.append(f"device={origin.device!r}")
        if origin.init is not None:
            init = self._remade(origin.init)
            if init is None:
                return None
            arguments.append(f"init={init}")
        return f"aeseg.train({', '.join(arguments)})"

    def image(self, image: Image, number: int) -> list[str]:
        """Return the lines that segment one image and write its labels."""
        state, cut = self.state, self.state.cut
        example, result = state.example_of(state.images), state.results[image]
        tree, labels = f"tree_{number}", f"labels_{number}"
        prototypes = None
        if cut.needs_classes and state.classes.fixed_for(result) is not None:
            prototypes = "model.prototypes"
        elif (
            cut.needs_classes
            and example is not None
            and state.prototypes_for(image, example, cut) is not None
        ):
            n_classes = min(cut.n_classes, state.results[example].hierarchy.max_classes)
            prototypes = f"tree_1.prototypes({n_classes})"
        cut = state.cut_of(image, cut)
        if cut.mode == "regions":  # the suggested number is written down
            n_regions = cut.regions_in(result.hierarchy)
            cut = replace(cut, threshold=None, n_regions=n_regions)
        return [
            f"{tree} = {self._tree(result)}",
            f"{labels} = {self._cut(cut, tree, result, prototypes)}",
            *self._choices(image, labels),
            self._writing(labels, tree, result),
            "",
        ]

    def _choices(self, image: Image, labels: str) -> list[str]:
        """Code that leaves what looks like the examples, and puts locked regions on top."""
        state, result, lines = self.state, self.state.results[image], []
        similar = state.similar_ids(image, state.cut, state.example_of(state.images) or image)
        if similar is not None:
            self.imports.add("import numpy as np")
            lines.append(f"{labels} = np.where(np.isin({labels}, {similar.tolist()}), {labels}, 0)")
        if result.locked is not None and state.cut.mode == "regions":
            self.imports.add("from napari_aeseg.regions.cuts.locked_segments import with_locked")
            locked = self._saved(result.locked, f"{result.input.name} locked")
            lines.append(f"{labels} = with_locked({labels}, {locked})")
        return lines

    def _writing(self, labels: str, tree: str, result: Result) -> str:
        name = self._file_name(result.input.name)
        if result.hierarchy.is_lazy:
            space = result.hierarchy.axes.space
            return f"aeseg.write_labels({labels}, {f'{name[:-4]}.ome.zarr'!r}, {space!r})"
        self.imports.add("from napari_aeseg.io.labels import write_label_image")
        return f"write_label_image({labels}, {name!r}, {tree}.axes)"

    def _tree(self, result: Result) -> str:
        """Code for a hierarchy: opened where it was opened, else built."""
        params, comparison = result.hierarchy.params, result.hierarchy.comparison
        if result.path is not None:
            tree = f"aeseg.load_hierarchy({str(result.path)!r})"
            return f"{tree}.compared_by({params_code(comparison)})"
        name, axes = self.source(result.input), result.input.axes_argument
        given = ""
        if comparison != type(comparison)():
            given = f", comparison={params_code(comparison)}"
        given += "" if axes is None else f", axes={axes!r}"
        voxels = result.input.axes.voxel_size
        given += "" if voxels is None else f", voxel_size={voxels!r}"
        if result.labels is not None:
            given += f", labels={self._saved(result.labels, f'{result.input.name} segments')}"
        given += f", device={self.state.device!r}"
        return f"aeseg.build_hierarchy({name}, model, {params_code(params)}{given})"

    def _cut(self, cut: Cut, tree: str, result: Result, prototypes: str | None) -> str:
        plain = not cut.edits_used and prototypes is None
        edits = "({},)".format(", ".join(f"aeseg.{edit!r}" for edit in cut.edits_used))
        coarse = "" if cut.refine else ", refine=False"
        options = coarse if cut.min_size is None else f", min_size={cut.min_size}{coarse}"
        if cut.mode == "regions" and plain:
            return f"{tree}.regions(n_regions={cut.n_regions}{options})"
        n_classes = min(cut.n_classes, result.hierarchy.max_classes)
        if cut.mode == "classes":
            argument = f"n_classes={n_classes}" if plain else f"prototypes={prototypes}"
            return f"{tree}.classes({argument}{options})"
        if cut.mode == "markers":
            if result.strokes is None:
                raise InputError(f"{result.input.name} has no strokes to grow segments from.")
            strokes = self._saved(result.strokes, f"{result.input.name} strokes")
            if cut.learns_classes:
                return f"{tree}.classes_from({strokes})"
            return f"{tree}.from_markers({strokes}{coarse})"
        if cut.mode == "objects":
            arguments: dict[str, object] = cut.object_settings.changed
            if cut.class_ids is not None:
                arguments = {"class_ids": cut.class_ids, "n_classes": n_classes, **arguments}
            given = {"edits": edits if cut.edits_used else None, "prototypes": prototypes}
            code = [f"{k}={v!r}" for k, v in arguments.items()]
            code += [f"{name}={value}" for name, value in given.items() if value is not None]
            return f"{tree}.objects({', '.join(code)})"
        cut_code = f"aeseg.Cut(n_regions={cut.n_regions}{options}, edits={edits})"
        return f"{cut_code}.labels({tree})"

    def _file_name(self, name: str) -> str:
        plain = "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip() or "image"
        number = self._names.count(plain)
        self._names.append(plain)
        return f"{plain}{f' {number + 1}' if number else ''}_labels.tif"


def _opens_as(path: Path, data: Any, resolution: int) -> bool:
    """Whether an array that is not in memory can be opened again, without loading it."""
    if isinstance(data, np.ndarray):
        return False
    try:
        array = open_file(path, largest=0, resolution=resolution).array
    except InputError:
        return False
    same = (array.shape, array.dtype) == (data.shape, data.dtype)
    return same and not isinstance(array, np.ndarray)


def _is_file_of(path: Path, data: Any) -> bool:
    """Whether reading the file gives these pixels: other readers may order axes differently."""
    if not path.is_file():
        return False
    if not isinstance(data, np.ndarray) or data.nbytes > _LARGEST_TO_COMPARE:
        return True
    try:
        return np.array_equal(read_file(path)[0], data)
    except InputError:  # a format that only another plugin knows
        return False
