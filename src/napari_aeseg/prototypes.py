"""Prototypes: the appearance of classes, to find the same classes in other images."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from napari_aeseg.errors import InputError

#: Features of a pixel; see `napari_aeseg.regions.cuts.pixel_classifier`.
N_FEATURES = 9
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True, eq=False)
class StrokeExamples:
    """What the strokes of each class cover: all that classes from strokes are learned from.

    Made by `napari_aeseg.Hierarchy.prototypes_from`. All arrays are of float64.

    Parameters
    ----------
    stroke_class : ndarray, shape (S,)
        The class, from 1 on, of each of S strokes.
    fine, coarse : ndarray, shape (S, D)
        Mean descriptor of each stroke, of single patches and of patches averaged over their
        neighbours, before whitening.
    fine_whitening : ndarray, shape (D, E)
        How differences of single patches are measured.
    scatter : ndarray, shape (2,)
        Mean squared distance of a patch from its stroke, fine and coarse, above 0.
    pixel_class : ndarray, shape (N,)
        The class of each of N pixels; none are known of images in blocks.
    pixels : ndarray, shape (N, F)
        Features of these pixels (`napari_aeseg.regions.cuts.pixel_classifier`).
    brightness : ndarray, shape (2,)
        Mean of the image, and the standard deviation, in which the features are measured.
    pixel_mean, pixel_covariance : ndarray, shapes (F,) and (F, F)
        Of the features, over the image.
    """

    stroke_class: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    fine_whitening: np.ndarray
    scatter: np.ndarray
    pixel_class: np.ndarray
    pixels: np.ndarray
    brightness: np.ndarray
    pixel_mean: np.ndarray
    pixel_covariance: np.ndarray

    def __post_init__(self) -> None:
        sizes = {" ": 2, "F": N_FEATURES}
        for name, axes in _AXES_OF_EXAMPLES.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                raise InputError(f"The examples' {name} is not an array of float64.")
            fits = array.ndim == len(axes) and all(
                sizes.setdefault(axis, n) == n for axis, n in zip(axes, array.shape, strict=True)
            )
            if not fits:
                raise InputError(f"The examples' {name} of shape {array.shape} does not fit.")
            if not np.isfinite(array).all():
                raise InputError(f"The examples' {name} has NaN or infinite values.")
        variance = np.diagonal(self.pixel_covariance)
        if self.scatter.min() <= 0 or self.brightness[1] <= 0 or (variance < 0).any():
            raise InputError("The examples have a scatter or deviation that is not above 0.")
        if not len(self.stroke_class):
            raise InputError("The examples have no stroke.")

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name under which a file keeps them; see `of_arrays`."""
        return {name: getattr(self, name) for name in _AXES_OF_EXAMPLES}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> StrokeExamples:
        """Return the examples of these `arrays`, else raise ValueError."""
        if set(arrays) != set(_AXES_OF_EXAMPLES):
            raise ValueError(f"tensors {sorted(arrays)}")
        return cls(**arrays)

    @property
    def classes(self) -> np.ndarray:
        """The classes that have strokes, ascending."""
        return np.unique(self.stroke_class).astype(np.int32)

    @property
    def have_pixels(self) -> bool:
        """Whether there are pixels of every class."""
        return bool(np.isin(self.classes, self.pixel_class).all())


# Letters that stand for the same length in all arrays of examples.
_AXES_OF_EXAMPLES = {
    "stroke_class": "S",
    "fine": "SD",
    "coarse": "SD",
    "fine_whitening": "DE",
    "scatter": " ",
    "pixel_class": "N",
    "pixels": "NF",
    "brightness": " ",
    "pixel_mean": "F",
    "pixel_covariance": "FF",
}


@dataclass(frozen=True, slots=True, eq=False)
class Prototypes:
    """The appearance of each class, to find the same classes in other images of the same model.

    Taken from a hierarchy by its `prototypes`; kept with a model as ``model.prototypes``.

    Parameters
    ----------
    centres : ndarray of float64, shape (K, D)
        Mean descriptor of each class, before whitening; row i is class i + 1.
    whitening : ndarray of float64, shape (D, E)
        How differences are measured, from the image the prototypes were taken from.
    scale : float
        Patches averaged over, 1 or more.
    names : tuple of str
        What the classes are called, one name each; empty when nobody named them.
    colors : tuple of str
        "#rrggbb", one for each class; empty when nobody chose them.
    examples : StrokeExamples, optional
        Of classes that were learned from strokes: they decide then, not the centres.

    Raises
    ------
    InputError
        If the arrays do not fit each other or hold NaN or infinite values, or names or colours are
        not one for each class.

    Examples
    --------
    >>> from dataclasses import replace
    >>> replace(Prototypes(np.eye(2), np.eye(2), 1.0), names=("gland", "stroma")).names
    ('gland', 'stroma')
    """

    centres: np.ndarray
    whitening: np.ndarray
    scale: float
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    examples: StrokeExamples | None = None

    def __post_init__(self) -> None:
        for name, array in (("centres", self.centres), ("whitening", self.whitening)):
            if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != np.float64:
                raise InputError(f"The prototypes' {name} are not a 2D array of float64.")
            if 0 in array.shape:
                raise InputError(f"The prototypes' {name} of shape {array.shape} are empty.")
            if not np.isfinite(array).all():
                raise InputError(f"The prototypes' {name} have NaN or infinite values.")
        if self.centres.shape[1] != len(self.whitening):
            raise InputError(
                f"The prototypes' centres of shape {self.centres.shape} and whitening of shape "
                f"{self.whitening.shape} do not fit each other."
            )
        number = isinstance(self.scale, int | float | np.number) and self.scale is not True
        if not (number and 1 <= self.scale <= sys.float_info.max):
            raise InputError(f"The prototypes' scale = {self.scale!r}: give a number of 1 or more.")
        for noun, values in (("name", self.names), ("color", self.colors)):
            if not isinstance(values, tuple) or not all(isinstance(v, str) for v in values):
                raise InputError(f"The prototypes' {noun}s = {values!r}: give a tuple of texts.")
            if len(values) not in (0, len(self.centres)):
                raise InputError(
                    f"The prototypes have {len(self.centres)} class(es) but {len(values)} "
                    f"{noun}(s): give one each."
                )
        wrong = [color for color in self.colors if not _COLOR.fullmatch(color)]
        if wrong:
            raise InputError(f"The prototypes' color {wrong[0]!r} is not written as '#rrggbb'.")
        examples = self.examples
        if examples is None:
            return
        if examples.fine.shape[1] != self.centres.shape[1]:
            raise InputError("The prototypes' examples do not fit the centres.")
        ids = np.concatenate([examples.stroke_class, examples.pixel_class])
        if not np.isin(ids, np.arange(1, len(self.centres) + 1)).all():
            raise InputError(f"The examples are not of classes 1 to {len(self.centres)}.")

    def with_strokes_of(self, other: Prototypes) -> Prototypes:
        """Return prototypes with the strokes of another image besides these.

        Parameters
        ----------
        other : Prototypes
            From `Hierarchy.prototypes_from` of another image, of the same model.

        Returns
        -------
        Prototypes
            Differences are measured as in this image; names and colours are those of the one with
            more classes.

        Raises
        ------
        InputError
            If one of them was not learned from strokes, or they describe patches differently.
        """
        mine, theirs = self.examples, other.examples
        if mine is None or theirs is None:
            raise InputError("These prototypes were not learned from strokes. Use prototypes_from.")
        if mine.fine.shape[1] != theirs.fine.shape[1] or self.scale != other.scale:
            raise InputError("The strokes are of another model or scale. Use the same for all.")
        both = {
            name: np.concatenate([getattr(mine, name), getattr(theirs, name)])
            for name in ("stroke_class", "fine", "coarse", "pixel_class", "pixels")
        }
        examples = replace(mine, **both)
        larger = max(self, other, key=lambda p: len(p.centres))
        return replace(
            larger,
            centres=centres_of(examples, len(larger.centres)),
            whitening=self.whitening,
            examples=examples,
        )


def centres_of(examples: StrokeExamples, number: int) -> np.ndarray:
    """Return the mean descriptor of each class, (number, D); that of all for those without any."""
    centres = np.tile(examples.coarse.mean(axis=0), (number, 1))
    for k in examples.classes:
        centres[k - 1] = examples.coarse[examples.stroke_class == k].mean(axis=0)
    return centres
