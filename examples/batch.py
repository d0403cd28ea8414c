"""Segment a folder of files with the same classes in all of them.

    python examples/batch.py                 makes a small folder of images and segments it
    python examples/batch.py                 again: finds the results and has nothing to do
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

    # Files are read one at a time. "skip" leaves out those that are done, so that a run that was
    # interrupted can be started again; "replace" does all of them anew.
    report = aeseg.segment_files(
        aeseg.image_files(scans),
        results,
        model,
        aeseg.Cut("classes", n_classes=3),
        existing="skip",
        progress=tell,
    )

    # A bad file does not end the run. It is told here, with the reason.
    print(report)
    for file in report.failed:
        print("to look at:", file.path)


def trained(scans: Path, path: Path, steps: int) -> aeseg.Model:
    """Load the model, or train it on two of the images and keep their classes with it."""
    if path.exists():
        return aeseg.load_model(path)
    images = [read_file(scans / f"scan_{number}.png")[0] for number in (1, 4)]
    model = aeseg.train(images, aeseg.TrainingParams(steps=steps))
    # What the classes are is settled once, on a typical image, and saved with the model. Without
    # this, `segment_files` takes the classes of the first file.
    classes = aeseg.build_hierarchy(images[0], model).prototypes(n_classes=3)
    model.prototypes = replace(classes, names=("gland", "edge", "stroma"))
    model.save(path)
    return model


def make_scans(folder: Path) -> None:
    """Cut a sample into four images, and add a file that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    image = SAMPLES["tissue"]()
    quarters = [image[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)]
    for number, quarter in enumerate(quarters, 1):
        write_picture(quarter, folder / f"scan_{number}.png")
    (folder / "scan_5.tif").write_bytes(b"the disk was full")


def tell(event: object) -> None:
    """Say which file has its turn."""
    if event.stage == "file":
        print(event.message)


if __name__ == "__main__":
    main()
