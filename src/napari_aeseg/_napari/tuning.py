"""What the controls ask for, apart from any window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_aeseg.regions.cuts.cut import MODES, Cut, Mode
from napari_aeseg.regions.cuts.edits import Edit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_aeseg.regions.hierarchy import Hierarchy

__all__ = ["MODES", "Cut", "Edit", "Mode", "most_patches"]


def most_patches(hierarchies: Iterable[Hierarchy]) -> int:
    """Return the largest number of regions any of the images can have; 1 without images."""
    return max((h.n_patches for h in hierarchies), default=1)
