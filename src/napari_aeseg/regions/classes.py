"""Classes: regions grouped by appearance, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.regions.borders import region_means
from napari_aeseg.regions.merge_tree import MergeTree, ward_tree_of_all

if TYPE_CHECKING:
    from napari_aeseg.regions.descriptor import Descriptor

# Regions that are compared with each other: enough for fine detail, few enough for all pairs.
BASE_REGIONS = 300


@dataclass(frozen=True, slots=True)
class Prototypes:
    """The appearance of each class, to find the same classes in other images of the same model.

    Parameters
    ----------
    centres : ndarray of float64, shape (K, D)
        Mean descriptor of each class, before whitening; row i is class i + 1.
    whitening : ndarray of float64, shape (D, E)
        How differences are measured, from the image the prototypes were taken from.
    scale : float
        Patches averaged over.
    """

    centres: np.ndarray
    whitening: np.ndarray
    scale: float

    @classmethod
    def of(cls, descriptor: Descriptor, labels: np.ndarray, weight: np.ndarray) -> Prototypes:
        """Take the prototypes of labels 1 .. K, shape (P,)."""
        centres = region_means(descriptor.raw, labels - 1, weight)
        return cls(centres, descriptor.whitening, descriptor.scale)


def class_tree(
    tree: MergeTree, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, MergeTree]:
    """Merge regions by appearance alone, neighbours or not.

    Two steps: the merge tree is cut into a few hundred regions, then these are merged by Ward's
    criterion with every pair taken for neighbours.

    Parameters
    ----------
    tree : MergeTree
        Over P patches.
    positions : ndarray, shape (P, D)
        Descriptors.
    weight : ndarray, shape (P,)
        Pixel counts.

    Returns
    -------
    base : ndarray of int, shape (P,)
        Region 0 .. B-1 of each patch.
    MergeTree
        Over the B regions.
    """
    base = tree.cut(min(BASE_REGIONS, tree.leaves)) - 1
    size = np.bincount(base, weight)
    return base, ward_tree_of_all(region_means(positions, base, weight), size)


def check_prototypes(prototypes: object, descriptor: Descriptor) -> None:
    """Raise InputError if these are no prototypes, or not for such descriptors."""
    if not isinstance(prototypes, Prototypes):
        raise InputError(
            f"prototypes is a {type(prototypes).__name__}: take it from `prototypes` of the "
            "hierarchy whose classes are to be found again."
        )
    if descriptor.raw.shape[1] != prototypes.centres.shape[1]:
        raise InputError(
            f"The prototypes describe patches by {prototypes.centres.shape[1]} numbers, this "
            f"hierarchy by {descriptor.raw.shape[1]}: use the same model and levels for both."
        )


def nearest_prototype(
    prototypes: Prototypes, descriptor: Descriptor, weight: np.ndarray, base: np.ndarray
) -> np.ndarray:
    """Return the class 1 .. K of each patch: that of the prototype nearest to its base region."""
    here = region_means(descriptor.raw, base, weight) @ prototypes.whitening
    there = prototypes.centres @ prototypes.whitening
    distance = ((here[:, np.newaxis] - there) ** 2).sum(axis=2)
    return (distance.argmin(axis=1) + 1).astype(np.int32)[base]
