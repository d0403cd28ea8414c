"""This project in the bench: one default configuration for all sets.

A method is made once for the images of a set, which is where a model is trained (without labels),
and then asked per image: ``method(kind, image, n)`` returns label arrays, one per setting, as the
peers do.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

import napari_aeseg as aeseg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_aeseg.regions.hierarchy import Hierarchy

    Method = Callable[[str, NDArray, int], list[NDArray]]
    Maker = Callable[[Sequence[NDArray]], Method]

#: Where the merge trees are cut for partitions: one threshold for the set, or one per image.
THRESHOLDS = np.linspace(0.02, 0.98, 49)
#: Alternatives to choose from.
OFFERED = 6


def axes_of(image: NDArray) -> str:
    """Axes of the bench's images; said, so that nothing hangs on how they are inferred."""
    return "YXC" if image.shape[-1] == 3 else "ZYX"[-image.ndim :]


def segmented(hierarchy: Hierarchy, kind: str, n: int) -> list[NDArray]:
    """What a kind of set asks for, from a hierarchy."""
    if kind == "classes":
        return [hierarchy.classes(n_classes=n)]
    if kind == "textures":
        return [hierarchy.regions(n_regions=n)]
    if kind == "partitions":
        return [hierarchy.regions(threshold=t) for t in THRESHOLDS]
    return [hierarchy.objects()]


def computed_again(hierarchy: Hierarchy, **changes: object) -> Hierarchy:
    """The same patches with changed fields; nothing that was computed from the old is kept."""
    caches = {f.name: None for f in fields(hierarchy) if f.init and f.name.startswith("_")}
    return replace(hierarchy, **caches, **changes)


class Ours:
    """The default configuration with one model, whatever the set."""

    def __init__(self, model: aeseg.Model) -> None:
        self.model = model

    def hierarchy(self, image: NDArray) -> Hierarchy:
        return aeseg.build_hierarchy(image, self.model, axes=axes_of(image))

    def __call__(self, kind: str, image: NDArray, n: int) -> list[NDArray]:
        return segmented(self.hierarchy(image), kind, n)


class Alternatives(Ours):
    """The classes that are offered to choose from; the best for each image is what counts."""

    def __call__(self, kind: str, image: NDArray, n: int) -> list[NDArray]:
        offered = self.hierarchy(image).alternatives(OFFERED, mode="classes", n_classes=n)
        labels = [alternative.labels for alternative in offered]
        return labels + labels[:1] * (OFFERED - len(labels))  # as many for every image


def trained(images: Sequence[NDArray]) -> Ours:
    """With a model trained on the very images."""
    return Ours(aeseg.train(list(images), axes=axes_of(images[0])))


def loaded(path: str) -> Maker:
    """With a model file, or with "base", the model that ships with the package."""
    return lambda _images: Ours(aeseg.load_model(path))


METHODS: dict[str, Maker] = {
    "napari-aeseg": trained,
    "napari-aeseg, base model": loaded("base"),
}
#: For classes only.
ALTERNATIVES = "napari-aeseg, base, six alternatives"


def methods_of(kind: str) -> dict[str, Maker]:
    """The methods for a kind of set."""
    if kind != "classes":
        return METHODS
    return METHODS | {ALTERNATIVES: lambda _images: Alternatives(aeseg.load_model("base"))}
