"""This project in the bench: one default configuration for all sets.

A method is made once for the images of a set, which is where a model is trained (without labels),
and then asked per image: ``method(kind, image, n)`` returns label arrays, one per setting, as the
peers do. It returns none for a kind that it is not for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import napari_aeseg as aeseg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_aeseg.regions.hierarchy import Hierarchy

    Method = Callable[[str, NDArray, int], list[NDArray]]

#: Where the merge trees are cut for partitions: one threshold for the set, or one per image.
THRESHOLDS = np.linspace(0.02, 0.98, 49)


def axes_of(image: NDArray) -> str:
    """Axes of the bench's images; said, so that nothing hangs on how they are inferred."""
    return "YXC" if image.shape[-1] == 3 else "ZYX"[-image.ndim :]


_last: tuple[int, aeseg.Model] | None = None


def trained(images: Sequence[NDArray]) -> aeseg.Model:
    """The default model of a set; kept until the next set, as several methods use the same."""
    global _last
    key = hash(tuple(image.tobytes() for image in images))
    if _last is None or _last[0] != key:
        _last = key, aeseg.train(list(images), axes=axes_of(images[0]))
    return _last[1]


class Ours:
    """The default configuration, whatever the set."""

    def __init__(self, images: Sequence[NDArray]) -> None:
        self.model = trained(images)

    def hierarchy(self, image: NDArray) -> Hierarchy:
        return aeseg.build_hierarchy(image, self.model, axes=axes_of(image))

    def __call__(self, kind: str, image: NDArray, n: int) -> list[NDArray]:
        hierarchy = self.hierarchy(image)
        if kind == "classes":
            return [hierarchy.classes(n_classes=n)]
        if kind == "textures":
            return [hierarchy.regions(n_regions=n)]
        if kind == "partitions":
            return [hierarchy.regions(threshold=t) for t in THRESHOLDS]
        return [hierarchy.objects()]


class Base(Ours):
    """The model that ships with the package, trained on none of the images."""

    def __init__(self, _images: Sequence[NDArray]) -> None:
        self.model = aeseg.load_model("base")


METHODS: dict[str, Callable[[Sequence[NDArray]], Method]] = {
    "napari-aeseg": Ours,
    "napari-aeseg, base model": Base,
}
