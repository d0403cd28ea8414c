"""Classes: regions grouped by appearance, wherever they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.prototypes import Prototypes
from napari_aeseg.regions.patches.statistics import region_means
from napari_aeseg.regions.tree.ward import ward_tree_of_all

if TYPE_CHECKING:
    from napari_aeseg.regions.compare.descriptor import Descriptor
    from napari_aeseg.regions.tree.merge_tree import MergeTree

# Regions that are compared with each other: enough for fine detail, few enough for all pairs.
BASE_REGIONS = 300


def prototypes_of(
    descriptor: Descriptor, labels: np.ndarray, weight: np.ndarray, within: np.ndarray | None
) -> Prototypes:
    """Return the prototypes of classes 1 .. K, of which every one occurs; `labels` is (P,).

    `within` maps positions to those in which classes are compared, (E, E), where it is another
    space.
    """
    centres = region_means(descriptor.raw, labels - 1, weight).astype(np.float64)
    whitening = np.asarray(descriptor.whitening, np.float64)
    whitening = whitening if within is None else whitening @ within
    return Prototypes(centres, whitening, float(descriptor.scale))


def class_tree(
    tree: MergeTree, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, MergeTree]:
    """Merge regions by appearance alone, neighbours or not.

    Two steps: the merge tree is cut into a few hundred regions, then these are merged by Ward's
    criterion with every pair taken for neighbours. Returned are the region 0 .. B-1 of each patch
    and the tree over the B regions. `positions` are (P, D), `weight` pixel counts (P,).
    """
    base = tree.cut(min(BASE_REGIONS, tree.leaves)) - 1
    size = np.bincount(base, weight)
    return base, ward_tree_of_all(region_means(positions, base, weight), size)


def nested_classes(
    tree: MergeTree, n_classes: int, weight: np.ndarray, brightness: np.ndarray
) -> np.ndarray:
    """Return the class of each leaf, (B,), so that a class keeps its number as they become more.

    Class 1 is darker than class 2. Each further class is the smaller part of one before that is
    split, whose number the larger part keeps. `weight` are the pixels of each leaf.
    """
    classes = np.ones(tree.leaves, np.int32)
    for number in range(2, n_classes + 1):
        part = tree.cut(number) == number
        rest = (classes == classes[part][0]) & ~part
        if number == 2:
            new = max(part, rest, key=lambda at: weight[at] @ brightness[at] / weight[at].sum())
        else:
            new = min(part, rest, key=lambda at: weight[at].sum())
        classes[new] = number
    return classes


def check_prototypes(prototypes: object, descriptor: Descriptor) -> None:
    """Raise InputError if these are no prototypes, or not for such descriptors."""
    if not isinstance(prototypes, Prototypes):
        raise InputError(
            f"prototypes is a {type(prototypes).__name__}: take it from `prototypes()` of the "
            "hierarchy that has the classes."
        )
    if descriptor.raw.shape[1] != prototypes.centres.shape[1]:
        raise InputError(
            f"The prototypes describe patches by {prototypes.centres.shape[1]} numbers, this "
            f"hierarchy by {descriptor.raw.shape[1]}: use images of the same model, levels and "
            "number of channels."
        )


def nearest_prototype(
    prototypes: Prototypes, descriptor: Descriptor, weight: np.ndarray, base: np.ndarray
) -> np.ndarray:
    """Return the class 1 .. K of each patch: that of the prototype nearest to its base region."""
    regions = region_means(descriptor.raw, base, weight) @ prototypes.whitening
    centres = prototypes.centres @ prototypes.whitening
    # At most 300 regions: no loop over them is needed.
    distance = ((regions[:, np.newaxis] - centres) ** 2).sum(axis=2)
    return (distance.argmin(axis=1) + 1).astype(np.int32)[base]
