"""The window that `napari-aeseg demo` opens at its end."""

from __future__ import annotations

from pathlib import Path

import napari

from napari_aeseg.io.images import read_file
from napari_aeseg.samples import SAMPLES


def show(folder: Path, names: list[str], *, block: bool = True) -> napari.Viewer:
    """Open napari with the demo's images, labels and the dock widget, the last model loaded.

    `folder` holds ``<name>_labels.tif`` and ``<name>.aeseg.safetensors`` of each sample; all but
    the last sample are hidden. With `block`, run napari until its window is closed.
    """
    viewer = napari.Viewer()
    for name in names:
        image = SAMPLES[name]()
        labels, _ = read_file(folder / f"{name}_labels.tif")
        layer = viewer.add_image(image, name=name, visible=name == names[-1])
        viewer.add_labels(labels, name=f"{name} labels", opacity=0.4, visible=name == names[-1])
    _, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    widget.images = [layer]
    widget.load_model(folder / f"{names[-1]}.aeseg.safetensors")
    viewer.reset_view()
    if block:
        napari.run()
    return viewer
