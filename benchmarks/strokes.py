"""Classes from a few strokes, beside a random forest on a filter bank from the same strokes.

    python benchmarks/strokes.py FOLDER [FOLDER ...] --limit 5

Each folder holds ``images/NAME.tif`` or ``.png``, grey or RGB, and ``labels/NAME.tif`` or ``.png``
with the class of every pixel. The forest is what pixel classifiers such as ilastik and Labkit do:
`skimage.feature.multiscale_basic_features` with sigmas from 1 to 16, and scikit-learn's random
forest as in scikit-image's example of trainable segmentation. Strokes are drawn at random inside
the truth, 3 pixels wide and up to 30 long, the same ones for both. Scores are mean IoU over
classes; pixels of the strokes count too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.feature import multiscale_basic_features
from skimage.io import imread
from sklearn.ensemble import RandomForestClassifier

import napari_aeseg as aeseg
import quality
from ours import axes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

LENGTH = 30
SUFFIXES = (".tif", ".tiff", ".png")


def labelled_images(
    folder: Path, limit: int | None, longest: int, foreground: bool
) -> Iterator[tuple[str, NDArray, NDArray]]:
    """Name, image and classes 1 .. n of each pair, in the order of names."""
    for path in sorted((folder / "images").iterdir())[:limit]:
        labels = (folder / "labels" / f"{path.stem}{suffix}" for suffix in SUFFIXES)
        truth = imread(next(label for label in labels if label.exists()))
        truth = quality.shrunk((truth > 0) * 1 if foreground else truth, longest, order=0)
        classes = np.unique(truth, return_inverse=True)[1].reshape(truth.shape) + 1
        yield path.stem, quality.shrunk(imread(path), longest), classes


def drawn(truth: NDArray, number: int, rng: np.random.Generator) -> NDArray:
    """Strokes, as many in each class: its id along them, 0 elsewhere."""
    strokes = np.zeros_like(truth)
    for class_id in range(1, truth.max() + 1):
        inside = truth == class_id
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        # A user starts well inside: in the deeper half of the class
        starts = np.argwhere(inside & (depth >= np.median(depth[inside])))
        for start in starts[rng.integers(len(starts), size=number)]:
            line = np.zeros_like(inside)
            line[tuple(_walk(start, inside, rng).T)] = True
            strokes[ndimage.binary_dilation(line, np.ones((3, 3))) & inside] = class_id
    return strokes


def _walk(start: NDArray, inside: NDArray, rng: np.random.Generator) -> NDArray:
    """Pixels of a line that turns a little at each step and ends where the class ends."""
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, LENGTH))
    steps = np.cumsum(np.stack([np.sin(turns), np.cos(turns)], axis=1), axis=0)
    pixels = np.concatenate([[start], np.rint(start + steps).astype(int)])
    within = ((pixels >= 0) & (pixels < inside.shape)).all(axis=1)
    within[within] = inside[tuple(pixels[within].T)]
    return pixels[: len(pixels) if within.all() else within.argmin()]


def filters(image: NDArray) -> NDArray:
    """One row of the filter bank for each pixel."""
    channels = -1 if image.ndim == 3 else None
    bank = multiscale_basic_features(
        image.astype(np.float32), sigma_min=1, sigma_max=16, channel_axis=channels
    )
    return bank.reshape(-1, bank.shape[-1])


def of_forest(rows: NDArray, strokes: NDArray) -> NDArray:
    """Classes by a random forest."""
    marked = strokes.ravel() > 0
    forest = RandomForestClassifier(50, max_depth=10, max_samples=0.5, random_state=0)
    forest.fit(rows[marked], strokes.ravel()[marked])
    return forest.predict(rows).reshape(strokes.shape)


def mean_iou(truth: NDArray, classes: NDArray) -> float:
    """Mean over the classes 1 .. n of the truth; ids are the same in both."""
    ids = range(1, truth.max() + 1)
    pairs = [(truth == i, classes == i) for i in ids]
    return float(np.mean([np.sum(a & b) / np.sum(a | b) for a, b in pairs]))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Scores of every image, method and number of strokes: "ours, 1" and so on."""
    model, scores = aeseg.load_model(args.model), {}
    for name, image, truth in labelled_images(folder, args.limit, args.longest, args.foreground):
        tree = aeseg.build_hierarchy(image, model, axes=axes_of(image))
        rows = filters(image)
        for number in args.strokes:
            rng = np.random.default_rng(number)
            for _ in range(args.repeats):
                strokes = drawn(truth, number, rng)
                for method, classes in {
                    "napari-aeseg": np.asarray(tree.classes_from(strokes)),
                    "forest": of_forest(rows, strokes),
                }.items():
                    scores.setdefault(f"{method}, {number}", []).append(mean_iou(truth, classes))
        print(f"{folder.name}: {name}", file=sys.stderr)
    return scores


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER")
    add("--strokes", nargs="+", type=int, default=[1, 3], help="strokes for each class")
    add("--repeats", type=int, default=3, help="sets of strokes for each image")
    add("--limit", type=int, help="images of each folder")
    add("--longest", type=int, default=400, help="larger images are brought down to it")
    add("--foreground", action="store_true", help="all labels but 0 are one class")
    add("--model", default="base", help="base, or a model file")
    add("--json", type=Path, default=quality.ROOT / "out" / "strokes.json")
    args = parser.parse_args(argv)
    for folder in args.folders:
        if not (folder / "images").is_dir():
            parser.exit(2, f"There is no folder {folder / 'images'}.\n")
    columns = [f"{m}, {n}" for n in args.strokes for m in ("napari-aeseg", "forest")]
    results = {}
    print(quality.row("mean IoU, strokes for each class", columns))
    print(quality.row("---", ["---:"] * len(columns)))
    for folder in args.folders:
        results[folder.name] = measure(args, folder)
        print(_row(folder.name, [np.mean(results[folder.name][c]) for c in columns]), flush=True)
        quality.write(args.json, [{"folder": n, "scores": s} for n, s in results.items()])
    print(_row("mean", [np.mean([np.mean(s[c]) for s in results.values()]) for c in columns]))
    print(f"\nEvery score: {args.json}")


def _row(name: str, scores: list[float]) -> str:
    return quality.row(name, [f"{score:.3f}" for score in scores])


if __name__ == "__main__":
    main()
