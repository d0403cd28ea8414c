"""Prototypes: the appearance of classes, to find the same classes in other images."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import numpy as np

from napari_aeseg.errors import InputError

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


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
