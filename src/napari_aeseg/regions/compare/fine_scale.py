"""What was known of patches before those that look alike were joined to larger ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.regions.compare.whitening import NoiseModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_aeseg.regions.compare.moments import Moments

# Products of four of them are finite.
_LARGEST = 1e50
_MODELS = ("everything", "things")
_PARTS = ("own", "eigenvalues", "vectors", "covariance")


@dataclass(frozen=True, slots=True)
class FineScale:
    """How the moments of small patches vary, at the scale at which they were joined.

    Between neighbours that were not joined, there are borders more often than noise: how much noise
    there is has to be known from before.

    Parameters
    ----------
    scale : float
        Patches averaged over.
    contrast : float
        Highest contrast of a feature between patches that are not averaged.
    unit : float
        As of `Moments`.
    floor : ndarray of float32, shape (F,)
        Added to each feature's variance before its logarithm is taken.
    offset, gain : ndarray of float64, shape (2 F,)
        Mean of each number, and 1 over its spread; 0 of a number that is the same everywhere.
    everything, things : NoiseModel
        Of all numbers, and of those by which things are told apart.
    """

    scale: float
    contrast: float
    unit: float
    floor: np.ndarray
    offset: np.ndarray
    gain: np.ndarray
    everything: NoiseModel
    things: NoiseModel

    @classmethod
    def of(cls, moments: Moments, contrast: float) -> FineScale:
        """Return what is known from the moments of patches that are not joined yet."""
        return cls(
            moments.scale,
            contrast,
            moments.unit,
            moments.floor,
            moments.offset.astype(np.float64),
            1 / moments.spread,
            moments.everything,
            moments.things,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that is not a plain number, by names for `of_parts`."""
        found = {"floor": self.floor, "offset": self.offset, "gain": self.gain}
        for model in _MODELS:
            found |= {f"{model}/{part}": getattr(getattr(self, model), part) for part in _PARTS}
        return found

    def numbers(self) -> dict[str, float]:
        """Return the plain numbers, by names for `of_parts`."""
        return {"scale": self.scale, "contrast": self.contrast, "unit": self.unit}

    @classmethod
    def of_parts(cls, numbers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FineScale:
        """Return what `numbers` and `arrays` were taken from.

        Raises
        ------
        ValueError
            If a number is none that could be there.
        """
        plain = {name: float(numbers[name]) for name in ("scale", "contrast", "unit")}
        if not (1 <= plain["scale"] < np.inf and 0 <= plain["contrast"] < np.inf):
            raise ValueError(f"scale {plain['scale']}, contrast {plain['contrast']}")
        if not 1 / _LARGEST <= plain["unit"] <= _LARGEST:
            raise ValueError(f"unit {plain['unit']}")
        if any(
            not (np.abs(values.astype(np.float64)) <= _LARGEST).all() for values in arrays.values()
        ):
            raise ValueError(f"numbers that are NaN or above {_LARGEST:g}")
        positive = ("floor", "everything/own", "things/own")
        if any((arrays[name] <= 0).any() for name in positive) or (arrays["gain"] < 0).any():
            raise ValueError("noise, or what is added to it, is not above 0")
        everything, things = (
            NoiseModel(*(arrays[f"{model}/{part}"] for part in _PARTS)) for model in _MODELS
        )
        floor, offset, gain = (arrays[name] for name in ("floor", "offset", "gain"))
        scale, contrast, unit = plain.values()
        return cls(scale, contrast, unit, floor, offset, gain, everything, things)
