"""Make the pictures of the README and the docs again: ``make pictures``.

Everything shown is a result of the project itself on scikit-image's own images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage.transform import resize

import napari_aeseg as aeseg
from napari_aeseg.images.files import overlay, write_picture
from napari_aeseg.samples import SAMPLES

FOLDER = Path(__file__).parent / "pictures"
SIDE = 320
CUTS = {"tissue": ("classes", 3), "coins": ("objects", None), "textures": ("classes", 3)}


def gallery() -> None:
    """Each image, and below it its segmentation."""
    columns = []
    for name, (what, number) in CUTS.items():
        image = SAMPLES[name]()
        model = aeseg.train(image)
        tree = aeseg.build_hierarchy(image, model)
        labels = getattr(tree, what)(number)
        plain = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=-1)
        pair = [_square(plain), _square(overlay(image, labels, tree.axes.letters))]
        columns.append(np.concatenate(pair, axis=0))
    write_picture(np.concatenate(columns, axis=1), FOLDER / "gallery.jpg")


def _square(picture: np.ndarray) -> np.ndarray:
    """Crop the middle square of an RGB picture and bring it to SIDE pixels, with a white rim."""
    side = min(picture.shape[:2])
    y, x = ((n - side) // 2 for n in picture.shape[:2])
    small = resize(picture[y : y + side, x : x + side], (SIDE - 8, SIDE - 8), anti_aliasing=True)
    rimmed = np.pad(small, [(4, 4), (4, 4), (0, 0)], constant_values=1.0)
    return (rimmed * 255).astype(np.uint8)


def window() -> None:
    """The dock widget in a real window, after training and segmenting the tissue sample."""
    import napari
    from qtpy.QtTest import QTest

    viewer = napari.Viewer()
    viewer.window.resize(1200, 800)
    layer = viewer.add_image(SAMPLES["tissue"](), name="tissue")
    _, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    widget.images = [layer]
    widget.segment()  # trains first: there is no model yet
    widget.wait(600)
    widget.mode = "classes"
    widget.n_classes = 3
    QTest.qWait(1000)
    viewer.window.screenshot(str(FOLDER / "window.png"), flash=False, canvas_only=False)
    viewer.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    gallery()
    window()
    print(f"Wrote {', '.join(p.name for p in sorted(FOLDER.iterdir()))} to {FOLDER}")
