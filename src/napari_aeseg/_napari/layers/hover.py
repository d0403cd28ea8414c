"""What napari's status bar says of the segment of a preview that is under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from napari_aeseg.images.axes import Axes

_MOST_PIXELS = 2**24  # that are counted while the window waits
_MOST_LABELS = 100_000


def hover_table(
    labels: np.ndarray,
    kind: str,
    names: Sequence[str],
    axes: Axes,
    locked: np.ndarray | None = None,
) -> pd.DataFrame | None:
    """Return a row for each label, with its name, area and share of all pixels; None if large.

    `kind` is what a label is called, such as "region", `names` are those of labels 1, 2, ...; the
    others are called by their number. `axes` have the size of a pixel if it is known.
    """
    import pandas as pd

    if labels.size > _MOST_PIXELS or labels.max(initial=0) > _MOST_LABELS:
        return None
    pixels = np.bincount(labels.ravel())
    kinds = ["", *names[: len(pixels) - 1]]
    kinds += [f"{kind} {number}" for number in range(len(kinds), len(pixels))]
    if locked is not None:
        # The labels may be those of a moment before.
        for number in np.unique(locked[(locked > 0) & (locked < len(kinds))]):
            kinds[number] += ", locked"
    ndim = len(axes.space.replace("T", ""))
    size, pixel, power = ("area", "pixels", "²") if ndim == 2 else ("volume", "voxels", "³")
    unit = pixel if axes.spacing is None else f"{axes.unit}{power}"
    area = pixels if axes.spacing is None else pixels * float(np.prod(axes.spacing))
    share = [f"{100 * n / labels.size:.3g} %" for n in pixels]
    return pd.DataFrame({kind: kinds, f"{size} in {unit}": area, "share": share})
