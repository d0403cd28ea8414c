"""Sample images as napari layers (npe2 sample data contributions)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_aeseg import samples
from napari_aeseg.errors import AesegError

LayerData = tuple[Any, dict[str, Any], str]


def tissue() -> list[LayerData]:
    """Return stained tissue, RGB."""
    return _image("tissue")


def retina() -> list[LayerData]:
    """Return the ground of an eye, RGB."""
    return _image("retina")


def coins() -> list[LayerData]:
    """Return coins on an uneven ground, grey."""
    return _image("coins")


def textures() -> list[LayerData]:
    """Return a mosaic of brick, grass and gravel of equal mean grey."""
    return _image("textures")


def mitosis() -> list[LayerData]:
    """Return human cells, some in mitosis: fluorescence of DNA, grey.

    scikit-image downloads the image (David Root, CC0) when it is opened first.
    """
    from skimage import data

    pixels = _downloaded(data.human_mitosis, "mitosis")
    return [(pixels, {"name": "mitosis", "axis_labels": ("y", "x")}, "image")]


def kidney() -> list[LayerData]:
    """Return a volume of mouse kidney: confocal fluorescence, three channels of 16 slices.

    scikit-image downloads the image (Genevieve Buckley, CC0) when it is opened first.
    """
    from skimage import data

    pixels = np.moveaxis(_downloaded(data.kidney, "kidney"), -1, 0)
    options = {
        "name": "kidney",
        "rgb": False,
        "axis_labels": ("c", "z", "y", "x"),
        "scale": (1, 1.25, 1.24, 1.24),
        "units": ("pixel", "micrometer", "micrometer", "micrometer"),
    }
    return [(pixels, options, "image")]


def _downloaded(load: Callable[[], np.ndarray], name: str) -> np.ndarray:
    try:
        return np.asarray(load())
    # Errors of a connection, files and a missing pooch
    except (OSError, ImportError) as error:
        raise AesegError(
            f"Download failed: {name}. Connect to the internet, or open a sample that needs no "
            "download."
        ) from error


def _image(name: str) -> list[LayerData]:
    return [(samples.SAMPLES[name](), {"name": name, "axis_labels": ("y", "x")}, "image")]
