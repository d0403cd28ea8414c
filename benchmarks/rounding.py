"""How much rounding in the convolutions changes regions and classes: imitated on the CPU.

    python benchmarks/rounding.py --mosaics 12

"TF32" rounds what convolutions multiply to 10 bits, as GPUs do if they are let; "1e-05" and the
like spoil every output of theirs by as much, at random; "bfloat16" is what torch makes of it.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

import napari_aeseg as aeseg
from gpu import CUTS, same_pixels
from napari_aeseg import samples
from napari_aeseg.api import hierarchy_steps
from napari_aeseg.progress import drain
from scores import covering, mean_iou

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Convolution = Callable[..., torch.Tensor]

exact: Convolution = torch.nn.Conv2d._conv_forward
DROPPED = 23 - 10


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Return float32 numbers rounded to the 10 bits of TF32.

    Examples
    --------
    >>> rounded(torch.tensor([1 + 2**-10, 1 + 2**-12])).tolist()
    [1.0009765625, 1.0]
    """
    whole = x.detach().view(torch.int32) + (1 << (DROPPED - 1))
    return (whole & ~((1 << DROPPED) - 1)).view(torch.float32)


def tf32(layer: torch.nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, *more: object):
    return exact(layer, rounded(x), rounded(weight), *more)


def spoilt(by: float) -> Convolution:
    """Return convolutions whose outputs are off by some part of them, at random."""
    generator = torch.Generator().manual_seed(0)

    def convolution(layer: torch.nn.Conv2d, *inputs: object) -> torch.Tensor:
        y = exact(layer, *inputs)
        return y.mul_(1 + by * torch.randn(y.shape, generator=generator))

    return convolution


@contextmanager
def convolutions(kind: Convolution) -> Iterator[None]:
    """Let all convolutions be of a kind."""
    torch.nn.Conv2d._conv_forward = kind  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Conv2d._conv_forward = exact  # type: ignore[method-assign]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mosaics", type=int, default=12)
    parser.add_argument("--model", default="base", help="a model file of one channel")
    args = parser.parse_args(argv)
    model = aeseg.load_model(args.model)
    images = [samples.textures(seed) for seed in range(args.mosaics)]
    truths = [samples.textures_truth(seed) for seed in range(args.mosaics)]
    kinds = {"float32": exact, "1e-05": spoilt(1e-5), "1e-04": spoilt(1e-4), "TF32": tf32}
    expected: list[aeseg.Hierarchy] = []
    for name in (*kinds, "bfloat16"):
        precision = "bfloat16" if name == "bfloat16" else "float32"
        with convolutions(kinds.get(name, exact)):
            trees = [
                drain(hierarchy_steps(image, model, None, "YX", "cpu", precision=precision))
                for image in images
            ]
        expected = expected or trees
        for what, cut in CUTS.items():
            found = [cut(tree) for tree in trees]
            same = [same_pixels(cut(a), b) for a, b in zip(expected, found, strict=True)]
            score = mean_iou if "classes" in what else lambda truth, b: covering([truth], b)
            scores = [score(truth, b) for truth, b in zip(truths, found, strict=True)]
            print(
                f"{name:9} {what:10} as in float32: mean {np.mean(same):.3f}, least "
                f"{min(same):.3f}; against the truth {np.mean(scores):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
