"""What it costs in quality that large images get fewer, larger patches (`max_patches`).

    python benchmarks/joining.py --tiles 5

Mosaics of brick, grass and gravel side by side make one large image with exact truth. It is worked
on in blocks with fewer and fewer patches, and cut into as many regions, and into three classes, as
there are. Scores: covering of the regions, mean IoU of the classes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from skimage.measure import label

import napari_aeseg as aeseg
from napari_aeseg import samples
from scores import covering, mean_iou

#: Pixels of an average patch; 64 are patches as they are in images that fit into memory.
PIXELS = (64, 128, 500, 1000, 2000, 4500, 20_000)


def mosaic(tiles: int) -> tuple[np.ndarray, np.ndarray]:
    """Return so many mosaics along each side as one image, and which texture each pixel shows."""
    seeds = np.arange(tiles**2).reshape(tiles, tiles)
    image, truth = (
        np.block([[make(int(seed)) for seed in row] for row in seeds])
        for make in (samples.textures, samples.textures_truth)
    )
    return image, truth


def measured(
    image: np.ndarray, classes: np.ndarray, regions: np.ndarray, pixels: int
) -> dict[str, float]:
    """Score a hierarchy with patches of so many pixels on average."""
    start = time.perf_counter()
    blocks = aeseg.BlockParams(max_patches=image.size // pixels)
    tree = aeseg.build_hierarchy(image, "base", device="cpu", blocks=blocks)
    found = np.asarray(tree.regions(n_regions=int(regions.max())))
    return {
        "patches": tree.n_patches,
        "covering": covering([regions], found),
        "mean IoU": mean_iou(classes, np.asarray(tree.classes(3))),
        "seconds": time.perf_counter() - start,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=5, help="mosaics along each side, 384 pixels")
    parser.add_argument("--pixels", type=int, nargs="*", default=PIXELS, help="of a patch")
    args = parser.parse_args(argv)
    image, classes = mosaic(args.tiles)
    regions = label(classes, background=0, connectivity=1)
    print(f"{' x '.join(map(str, image.shape))} pixels, {regions.max()} regions of 3 textures")
    for pixels in args.pixels:
        row = measured(image, classes, regions, pixels)
        print(
            f"patches of {pixels} pixels: {row['patches']} patches, covering "
            f"{row['covering']:.3f}, mean IoU of classes {row['mean IoU']:.3f}, "
            f"{row['seconds']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
