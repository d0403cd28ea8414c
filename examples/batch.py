"""Segment a folder of files with the same classes in all of them.

    python examples/batch.py                 make a small folder of images and segment it
    python examples/batch.py                 again: skips the files that are done
    python examples/batch.py --steps 10      quickly, with a poor model

On the command line: napari-aeseg segment FOLDER --output RESULTS --model MODEL --classes 3 --table
"""

import argparse
from dataclasses import replace
from pathlib import Path

import napari_aeseg as aeseg
from napari_aeseg.io.images import read_file, write_picture
from napari_aeseg.samples import SAMPLES


def main() -> None:
    """Make the folder, train or load the model, segment, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("out/batch"))
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    options = parser.parse_args()
    scans, results = options.output / "scans", options.output / "results"
    make_scans(scans)
    model = trained(scans, options.output / "tissue.aeseg.safetensors", options.steps)

    # Files are read one at a time. "skip" skips files that are done, to continue a run that was
    # interrupted; "replace" segments all files again.
    report = aeseg.segment_files(
        aeseg.image_files(scans),
        results,
        model,
        aeseg.Cut("classes", n_classes=3),
        existing="skip",
        progress=print_file,
    )

    # Files that fail are listed here, with the reason; the others are segmented.
    print(report)
    for file in report.failed:
        print("failed:", file.path)


def trained(scans: Path, path: Path, steps: int) -> aeseg.Model:
    """Load the model, or train it on two of the images and store their classes in it."""
    if path.exists():
        return aeseg.load_model(path)
    images = [read_file(scans / f"scan_{number}.png")[0] for number in (1, 4)]
    model = aeseg.train(images, aeseg.TrainingParams(steps=steps))
    # The classes are defined once, on a typical image, and saved with the model. Without
    # this, `segment_files` uses the classes of the first file.
    classes = aeseg.build_hierarchy(images[0], model).prototypes(n_classes=3)
    model.prototypes = replace(classes, names=("gland", "edge", "stroma"))
    model.save(path)
    return model


def make_scans(folder: Path) -> None:
    """Cut a sample into four images, and add a file that is not an image."""
    folder.mkdir(parents=True, exist_ok=True)
    image = SAMPLES["tissue"]()
    quarters = [image[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)]
    for number, quarter in enumerate(quarters, 1):
        write_picture(quarter, folder / f"scan_{number}.png")
    (folder / "scan_5.tif").write_bytes(b"the disk was full")


def print_file(event: object) -> None:
    """Print the name of the current file."""
    if event.stage == "file":
        print(event.message)


if __name__ == "__main__":
    main()
