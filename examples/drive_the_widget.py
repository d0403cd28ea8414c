"""Drive the AE Segment dock by a script.

Every button of the dock is a method here, every control a property.

    python examples/drive_the_widget.py            napari stays open at the end
    python examples/drive_the_widget.py --close    napari closes at the end (the tests do this)
"""

import argparse
from pathlib import Path

import napari
import numpy as np


def main() -> None:
    """Segment a sample image, step by step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("out/drive_the_widget"))
    parser.add_argument("--close", action="store_true", help="close napari at the end")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    # 1. Open an image and the dock. The dock would also choose the image itself.
    viewer = napari.Viewer()
    (image,) = viewer.open_sample("napari-aeseg", "tissue")
    _, widget = viewer.window.add_plugin_dock_widget("napari-aeseg", "AE Segment")
    widget.images = [image]
    print("read as", widget.axes_text)

    # 2. Segment. The base model needs no training; `widget.train()` would train on this image.
    #    `segment` and `train` return at once; `wait` keeps the window alive until they are done.
    widget.load_model("base")
    widget.segment()
    widget.wait()

    # 3. Classes: the same stain has the same label everywhere.
    widget.mode = "classes"
    widget.n_classes = 3
    widget.class_names = ("gland", "edge", "stroma")
    widget.keep()  # copies the preview to a new Labels layer, hidden below the preview

    # 4. Regions: connected segments. The preview follows every change.
    widget.mode = "regions"
    widget.n_regions = 12
    labels = np.asarray(widget.preview.data)
    one, other = (tuple(np.argwhere(labels == number)[0]) for number in (1, 2))
    widget.merge(one, other)  # by pixel positions; `widget.undo()` undoes it
    (regions,) = widget.keep()
    widget.wait()  # a thread computes one column of the measurements

    # 5. Measurements: in napari's features table, as colours, or as a CSV file.
    print(regions.features[["index", "area", "mean_1", "reconstruction_error"]])
    widget.export_table(options.output / "regions.csv", regions)
    widget.color_by("mean_1", regions)  # also makes the layer visible
    widget.preview.visible = False

    # 6. The same result without a window, as Python code.
    (options.output / "again.py").write_text(widget.script, encoding="utf-8")
    print("wrote regions.csv and again.py to", options.output)

    if options.close:
        viewer.close()
    else:
        napari.run()


if __name__ == "__main__":
    main()
