"""What the controls ask for, apart from any window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg.regions.cut import MODES as ALL_MODES
from napari_aeseg.regions.cut import Cut, Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_aeseg.regions.hierarchy import Hierarchy

__all__ = ["MODES", "Cut", "Mode", "most_patches"]

# Markers are painted in a layer, for which the dock has no control.
MODES: tuple[Mode, ...] = tuple(mode for mode in ALL_MODES if mode != "markers")


def most_patches(hierarchies: Iterable[Hierarchy]) -> int:
    """Return the largest number of regions any of the images can have; 1 without images."""
    return max((h.n_patches for h in hierarchies), default=1)
