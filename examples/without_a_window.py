"""Train a model on an image and segment the image in four ways, without napari.

python examples/without_a_window.py                trains for about ten seconds
python examples/without_a_window.py --steps 10     a quick look, with a poor model
"""

import argparse
from pathlib import Path

import numpy as np

import napari_aeseg as aeseg
from napari_aeseg.io.images import overlay, write_picture
from napari_aeseg.io.labels import write_label_image
from napari_aeseg.samples import SAMPLES


def main() -> None:
    """Segment the coins."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("out/without_a_window"))
    parser.add_argument("--steps", type=int, default=400, help="training steps")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    image = SAMPLES["coins"]()  # any array: numpy, dask or zarr

    # Train. Start from a preset and change single parameters with `updated`.
    params = aeseg.TrainingParams.preset("fast").updated(steps=options.steps, seed=1)
    model = aeseg.train(image, params)
    print(f"trained {model.record.steps} steps, the last loss is {model.losses[-1]:.4f}")
    model.save(options.output / "coins.aeseg.safetensors")  # again: aeseg.load_model(path)

    # The slow step, once per image. All that follows are look-ups.
    tree = aeseg.build_hierarchy(image, model)
    print(f"read as {tree.axes}; {tree.n_patches} patches")

    # Regions are connected. Give their number, or a threshold: `threshold=0.3`.
    print("suggested number of regions:", tree.suggest_n_regions())
    regions = tree.regions(n_regions=40)
    # Classes are grouped by appearance: class 1 is darker than class 2.
    classes = tree.classes(n_classes=2)
    # Objects are separate and detected by brightness, at pixel resolution; 0 is the background.
    objects = tree.objects(min_size=100)
    # Markers: segments grow from a few strokes. Here two short lines, one on a coin and one on
    # the background; rows first.
    strokes = np.zeros(image.shape, int)
    strokes[45, 45:65] = 1
    strokes[5, 100:200] = 2
    shares = tree.from_markers(strokes)

    for name, labels in (
        ("regions", regions),
        ("classes", classes),
        ("objects", objects),
        ("markers", shares),
    ):
        print(f"{name}: {labels.max()} labels")
        write_label_image(labels, options.output / f"{name}.tif")
        write_picture(overlay(image, labels, "YX"), options.output / f"{name}.png")

    # Measurements, in micrometres if the size of a pixel is known.
    table = tree.table(objects, classes=classes, spacing=(0.5, 0.5), unit="micrometre")
    table.to_csv(options.output / "objects.csv", index=False)
    print(table[["index", "area", "centroid_y", "centroid_x", "mean_1"]].head().to_string())
    print("wrote everything to", options.output)


if __name__ == "__main__":
    main()
