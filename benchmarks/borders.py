"""Borders of regions and classes at pixel resolution, beside those of patches.

    python benchmarks/borders.py                                  # mosaics as of the sample
    python benchmarks/borders.py FOLDER [FOLDER ...] --limit 5 --score covering
    python benchmarks/borders.py --times 1024 2048

Each folder holds ``images/NAME.tif`` or ``.png``, grey or RGB, and ``labels/NAME.tif`` or ``.png``
with the region or class of every pixel. Their number is given. Scores are covering of regions, or
mean IoU of classes (best assignment); distances are means of borders to the nearest border of the
truth and back, at most 20 pixels. Times are those of the processor in one thread, of everything
from the image to 16 regions.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.measure import label

import napari_aeseg as aeseg
import quality
import scores
from napari_aeseg import samples
from ours import axes_of
from strokes import labelled_images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FARTHEST = 20
COLUMNS = ["score", "refined", "distance", "refined", "ms to refine", "worst image"]


def mosaics(number: int = 4) -> Iterator[tuple[str, NDArray, NDArray]]:
    """Name, image and truth of mosaics such as the sample of textures."""
    for seed in range(number):
        truth = label(samples.textures_truth(seed), background=0, connectivity=1)
        yield f"mosaic {seed}", samples.textures(seed), truth


def border_distance(truth: NDArray, labels: NDArray) -> float:
    """Mean distance of the borders to those of the truth, and back, in pixels."""
    borders = [_borders(truth), _borders(labels)]
    if not all(b.any() for b in borders):
        return float("nan")
    away = [np.minimum(ndimage.distance_transform_edt(~b), FARTHEST) for b in borders]
    return float((away[1][borders[0]].mean() + away[0][borders[1]].mean()) / 2)


def _borders(labels: NDArray) -> NDArray:
    """Pixels whose neighbour above or to the left has another label."""
    borders = np.zeros(labels.shape, bool)
    borders[1:] |= labels[1:] != labels[:-1]
    borders[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return borders


def measure(
    images: Iterator[tuple[str, NDArray, NDArray]], model: aeseg.Model, score: str
) -> list[dict]:
    """Scores, distances and milliseconds of every image."""
    rows = []
    for name, image, truth in images:
        tree = aeseg.build_hierarchy(image, model, axes=axes_of(image), device="cpu")
        number, row = len(np.unique(truth)), {"image": name}
        of_patch = tree.region_of_patch(number)
        if score == "iou":
            of_patch = tree.class_of_patch(number)
        for kind in ("patches", "refined"):
            start = time.process_time()
            labels = tree.pixels_of(of_patch, refine=kind == "refined")
            row[f"ms {kind}"] = 1000 * (time.process_time() - start)
            row[f"distance {kind}"] = border_distance(truth, labels)
            covering = scores.covering([truth], labels)
            row[kind] = scores.mean_iou(truth, labels) if score == "iou" else covering
        rows.append(row)
    return rows


def summary(name: str, rows: list[dict]) -> str:
    """A row of the table."""
    mean = {key: np.nanmean([row[key] for row in rows]) for key in rows[0] if key != "image"}
    worst = min(row["refined"] - row["patches"] for row in rows)
    cells = [f"{mean[kind]:.3f}" for kind in ("patches", "refined")]
    cells += [f"{mean[f'distance {kind}']:.2f}" for kind in ("patches", "refined")]
    cells += [f"{mean['ms refined'] - mean['ms patches']:.0f}", f"{worst:+.3f}"]
    return quality.row(f"{name} ({len(rows)})", cells)


def times(side: int, model: aeseg.Model) -> str:
    """A row of the table of times, for a square mosaic."""
    mosaic = samples.textures()
    image = np.tile(mosaic, [-(-side // n) for n in mosaic.shape])[:side, :side]
    start = time.process_time()
    tree = aeseg.build_hierarchy(image, model, device="cpu")
    of_patch = tree.region_of_patch(16)
    built = time.process_time() - start
    milliseconds = []
    for refine in (False, True):
        spent = []
        for _ in range(5):
            start = time.process_time()
            tree.pixels_of(of_patch, refine)
            spent.append(1000 * (time.process_time() - start))
        milliseconds.append(np.median(spent))
    cells = [f"{built:.1f} s", *(f"{ms:.0f} ms" for ms in milliseconds)]
    return quality.row(f"{side} x {side}", cells)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folders", nargs="*", type=Path, metavar="FOLDER")
    add("--score", choices=("covering", "iou"), default="covering")
    add("--limit", type=int, help="images of each folder")
    add("--longest", type=int, default=640, help="larger images are brought down to it")
    add("--model", default="base", help="base, or a model file")
    add("--times", nargs="*", type=int, default=[], metavar="PIXELS", help="sides of mosaics")
    add("--json", type=Path, default=quality.ROOT / "out" / "borders.json")
    args = parser.parse_args(argv)
    for folder in args.folders:
        if not (folder / "images").is_dir():
            parser.exit(2, f"There is no folder {folder / 'images'}.\n")
    model, results = aeseg.load_model(args.model), []
    sets = {f.name: labelled_images(f, args.limit, args.longest, False) for f in args.folders}
    if not sets and not args.times:
        sets = {"mosaics": mosaics()}
    if sets:
        print(quality.row("images", COLUMNS))
        print(quality.row("---", ["---:"] * len(COLUMNS)))
    for name, images in sets.items():
        rows = measure(images, model, args.score)
        print(summary(name, rows), flush=True)
        results.append({"set": name, "score": args.score, "rows": rows})
        quality.write(args.json, results)
    if args.times:
        columns = ["image to regions, refined later", "16 regions of patches", "refined"]
        print(quality.row("pixels", columns))
        print(quality.row("---", ["---:"] * len(columns)))
    for side in args.times:
        print(times(side, model), flush=True)


if __name__ == "__main__":
    main()
