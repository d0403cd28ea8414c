"""This project in the bench: one default configuration for all sets, and its ablations.

A method is made once for the images of a set, which is where a model is trained (without labels),
and then asked per image: ``method(kind, image, n)`` returns label arrays, one per setting, as the
peers do. It returns none for a kind that it is not for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import napari_aeseg as aeseg
import peers
from napari_aeseg.images.intensity import read_image
from napari_aeseg.regions.cuts.objects import brightness_of
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.statistics import PatchStatistics, geometry
from napari_aeseg.regions.patches.superpixels import make_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Method = Callable[[str, NDArray, int], list[NDArray]]

#: Where the merge trees are cut for partitions: one threshold for the set, or one per image.
THRESHOLDS = np.linspace(0.02, 0.98, 49)
#: The two controls of a user, three positions each.
BALANCES, SCALES = (0.25, 0.5, 0.75), (1, 3, 16)


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


class NinePositions(Ours):
    """Every position of the two controls; OIS is what a user who tries them all can reach."""

    def __call__(self, kind: str, image: NDArray, n: int) -> list[NDArray]:
        if kind != "classes":
            return []
        hierarchy = self.hierarchy(image)
        return [
            hierarchy.reweighted(balance=balance, scale=scale).classes(n_classes=n)
            for balance in BALANCES
            for scale in SCALES
        ]


class BareAutoencoder(Ours):
    """Ablation: the same trained autoencoder, k-means on its features, nothing else."""

    def __call__(self, kind: str, image: NDArray, n: int) -> list[NDArray]:
        features = np.moveaxis(self.model.features(image, axes=axes_of(image)), 0, -1)
        if kind == "classes":
            return [peers.kmeans(features, n)]
        features = peers.with_coordinates(features)
        if kind == "textures":
            return [peers.kmeans(features, n)]
        if kind == "partitions":
            return [peers.kmeans(features, n) for n in peers.CLUSTER_COUNTS]
        return []


class HandMade(Ours):
    """Ablation: patches, statistics and merging of this project, on features made by hand.

    What the default gains over this is due to the learned features.
    """

    def __init__(self, features: Callable[[NDArray], NDArray]) -> None:
        self.features = features

    def hierarchy(self, image: NDArray) -> Hierarchy:
        params, comparison = aeseg.SegmentationParams(), aeseg.ComparisonParams()
        read = read_image(image, axes_of(image))
        patches = make_patches(read.pixels, params.patch_size, params.patches)
        statistics = pooled(self.features(image), patches, read.pixels)
        graph, brightness = region_graph(patches), brightness_of(read.pixels)
        return Hierarchy(patches, statistics, graph, read.axes, params, comparison, brightness)

    def __call__(self, kind: str, image: NDArray, n: int) -> list[NDArray]:
        # Objects are found in the image itself, whatever the features
        return [] if kind.startswith("objects") else super().__call__(kind, image, n)

    @classmethod
    def of(cls, features: Callable[[NDArray], NDArray]) -> Callable[[Sequence[NDArray]], HandMade]:
        """The ablation as a method to make for a set, whose images it does not learn from."""
        return lambda _images: cls(features)


def pooled(features: NDArray, patches: NDArray, pixels: NDArray) -> PatchStatistics:
    """Moments per patch of (*space, F) features beside those of the (C, *space) image itself.

    The place where other features than the encoder's enter. The image is level 0, as it is for
    the encoder, all others are level 1.
    """
    count, centroid = geometry(patches)
    columns = np.concatenate([np.moveaxis(pixels, 0, -1), features], axis=-1, dtype=np.float64)
    # Features of any range come out in the units that the encoder's have
    columns[..., len(pixels) :] = peers.standardised(features).reshape(features.shape)
    columns = columns.reshape(patches.size, -1).T
    ids = patches.ravel()
    mean, second = (
        np.stack([np.bincount(ids, column**power) / count for column in columns], axis=1)
        for power in (1, 2)
    )
    level = np.repeat([0, 1], [len(pixels), features.shape[-1]])
    return PatchStatistics(
        count,
        mean.astype(np.float32),
        second.astype(np.float32),
        level,
        centroid,
        mean[:, : len(pixels)],
    )


METHODS: dict[str, Callable[[Sequence[NDArray]], Method]] = {
    "napari-aeseg": Ours,
    "napari-aeseg, base model": Base,
    "napari-aeseg, nine positions": NinePositions,
    "ablation: autoencoder + k-means": BareAutoencoder,
    "ablation: filter bank, merged": HandMade.of(peers.filter_bank),
    "ablation: Gabor bank, merged": HandMade.of(peers.gabor_bank),
}
