"""Make the pictures of the README and the docs again: ``make pictures``.

All pictures are results of napari-aeseg on images that come with scikit-image, or screenshots of
the real window. ``make pictures ARGS="gallery walk slider"`` makes some of them. A network is
trained for two of them; all of it takes about five minutes on two cores.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from skimage import data
from skimage.transform import resize

import napari_aeseg as aeseg
from napari_aeseg.io.images import overlay
from napari_aeseg.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parent / "pictures"
SIDE = 300  # pixels of each half of a gallery picture, at most


@dataclass(frozen=True)
class Piece:
    """One picture of the gallery.

    `cut` has the arguments of the method of `Hierarchy` that `mode` names.
    """

    image: Callable[[], np.ndarray]
    mode: str
    cut: dict[str, int]
    trained: bool = False


# The captions are in docs/gallery.md: the settings in the window for the same result.
GALLERY = {
    "tissue": Piece(SAMPLES["tissue"], "classes", {"n_classes": 2}),
    "coins": Piece(SAMPLES["coins"], "objects", {}),
    "cell": Piece(data.cell, "regions", {"n_regions": 4}),
    "textures": Piece(SAMPLES["textures"], "regions", {"n_regions": 7}, trained=True),
    "galaxies": Piece(lambda: data.hubble_deep_field()[60:360, 100:400], "objects", {}),
    "rocket": Piece(data.rocket, "regions", {"n_regions": 8}),
    "retina": Piece(SAMPLES["retina"], "classes", {"n_classes": 4}),
    "page": Piece(data.page, "classes", {"n_classes": 2}),
}


def gallery() -> None:
    """Each image, and its segmentation to the right of it."""
    for name, piece in GALLERY.items():
        image = np.ascontiguousarray(piece.image())
        model = aeseg.train(image, device="cpu") if piece.trained else "base"
        tree = aeseg.build_hierarchy(image, model, device="cpu")
        labels = getattr(tree, piece.mode)(**piece.cut)
        print(f"{name}: {piece.mode}, {labels.max()} labels, suggested {tree.suggest_n_regions()}")
        plain = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=-1)
        halves = [_small(plain), _small(overlay(image, labels, tree.axes.letters))]
        gap = np.full((halves[0].shape[0], 6, 3), 255, np.uint8)
        pair = np.concatenate([halves[0], gap, halves[1]], axis=1)
        Image.fromarray(pair).save(FOLDER / f"gallery_{name}.jpg", quality=88, optimize=True)


def _small(picture: np.ndarray) -> np.ndarray:
    """Bring the longer side of an RGB picture to SIDE pixels."""
    factor = SIDE / max(picture.shape[:2])
    shape = [round(n * factor) for n in picture.shape[:2]]
    return (resize(picture, shape, anti_aliasing=factor < 1) * 255).astype(np.uint8)


def walk() -> None:
    """Screenshots of the steps in the README."""
    from window_pictures import coins_in_a_table, textures_in_training, tissue_step_by_step

    for make in (tissue_step_by_step, coins_in_a_table, textures_in_training):
        make(FOLDER)


def slider() -> None:
    """The Regions slider being dragged, as an animated GIF."""
    from window_pictures import regions_slider

    regions_slider(FOLDER / "regions.gif")


PARTS = {"gallery": gallery, "walk": walk, "slider": slider}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
