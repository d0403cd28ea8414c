"""What the controls ask for, apart from any window: which cut, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from napari_aeseg.regions.hierarchy import Hierarchy

Mode = Literal["regions", "classes", "objects"]
MODES: tuple[Mode, ...] = ("regions", "classes", "objects")


@dataclass(frozen=True, slots=True)
class Cut:
    """One segmentation out of a hierarchy.

    Parameters
    ----------
    mode : {"regions", "classes", "objects"}
    n_regions, threshold : int and float or None
        Which regions; at most one is given. With neither, each image's own suggestion.
    n_classes : int
    min_size : int or None
        Pixels of the smallest object; None has it learnt from each image.
    """

    mode: Mode = "regions"
    n_regions: int | None = None
    threshold: float | None = None
    n_classes: int = 3
    min_size: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode = {self.mode!r}: choose one of {', '.join(MODES)}.")
        if self.n_regions is not None and self.threshold is not None:
            raise InputError("Give n_regions or threshold, not both.")
        for name in ("n_regions", "n_classes", "min_size"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
                raise InputError(f"{name} = {value!r}: give a whole number of 1 or more.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"threshold = {self.threshold!r}: give a number from 0 to 1.")

    def regions_in(self, hierarchy: Hierarchy) -> int:
        """Return how many regions this cut leaves; never more than there are patches."""
        if self.threshold is not None:
            return hierarchy.n_regions_at(self.threshold)
        number = hierarchy.suggest_n_regions() if self.n_regions is None else int(self.n_regions)
        return min(number, hierarchy.n_patches)

    def threshold_in(self, hierarchy: Hierarchy) -> float:
        """Return the threshold that gives the same regions."""
        if self.threshold is not None:
            return self.threshold
        return hierarchy.threshold_at(self.regions_in(hierarchy))

    def of_patch(self, hierarchy: Hierarchy, example: Hierarchy | None = None) -> np.ndarray:
        """Return the region or class of each patch, shape (P,); objects do not follow patches.

        Parameters
        ----------
        hierarchy : Hierarchy
            Of the image to label.
        example : Hierarchy, optional
            Where classes get their ids from, so that a class means the same in several images.
        """
        if self.mode == "regions":
            return hierarchy.region_of_patch(self.regions_in(hierarchy))
        if example is None or example is hierarchy:
            return hierarchy.class_of_patch(min(int(self.n_classes), hierarchy.max_classes))
        wanted = min(int(self.n_classes), example.max_classes)
        return hierarchy.class_of_patch(wanted, example.prototypes(wanted))

    def title(self, hierarchy: Hierarchy) -> str:
        """Return what a layer with this cut is called, such as "regions 12"."""
        return " ".join([self.mode, *(str(v) for v in self._numbers(hierarchy).values() if v)])

    def _numbers(self, hierarchy: Hierarchy) -> dict[str, int | None]:
        """Arguments of the method of `Hierarchy` that is named like the mode."""
        if self.mode == "regions":
            return {"n_regions": self.regions_in(hierarchy)}
        if self.mode == "classes":
            return {"n_classes": self.n_classes}
        return {"min_size": self.min_size}

    def record(self, hierarchy: Hierarchy, image: str) -> dict[str, Any]:
        """Return what is needed to make these labels again, as plain values."""
        from napari_aeseg import __version__

        return {
            "image": image,
            "axes": hierarchy.axes.letters,
            "mode": self.mode,
            **self._numbers(hierarchy),
            "params": hierarchy.params.model_dump(mode="json"),
            "model": hierarchy.model_fingerprint,
            "version": __version__,
        }


def most_patches(hierarchies: Iterable[Hierarchy]) -> int:
    """Return the largest number of regions any of the images can have; 1 without images."""
    return max((h.n_patches for h in hierarchies), default=1)
