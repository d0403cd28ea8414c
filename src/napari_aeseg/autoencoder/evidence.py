"""A few values for each cell of 2 x 2 pixels that tell textures apart: where borders may move to.

Features of all levels are kept at half resolution while an image is encoded, in 16 bits: 32 bytes a
pixel for a network of width 16. At the end they are projected to the directions in which the image
varies most, measured by how much neighbours differ: Fisher's discriminant, with places a few
patches apart taken for the same texture. With the image, they are kept in 8 bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.linalg import eigh
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_aeseg.autoencoder.encoding import EncodedTile

# Directions that are kept; 6 to 16 are equally good.
_DIRECTIONS = 8
# Pixels between places that are taken for the same texture.
_APART = 24
# Places that directions are estimated from.
_PLACES = 20_000
# Largest magnitude of float16, nearly.
_LARGEST = 6e4
# Steps of the result for one standard deviation.
_STEPS = 16
# Cells that are projected together.
_TOGETHER = 2**18


class EvidenceMaps:
    """Collects the features of each level, tile by tile.

    `space` is the shape of the image, of planes or volumes stacked along the first axes; `channels`
    and `strides` are the features of each level, and the pixels that one cell of it stands for.
    """

    def __init__(
        self,
        space: tuple[int, ...],
        channels: Mapping[int, int],
        strides: Mapping[int, tuple[int, ...]],
        step: tuple[int, ...],
        device: torch.device,
    ) -> None:
        stacked = space[: -len(step)]
        self.space, self.step = space[-len(step) :], step
        self._stacked = stacked
        self._strides = {level: strides[level] for level in channels if level > 0}
        self._maps = {
            level: torch.zeros(
                (math.prod(stacked), channels[level], *self._cells(self._coarse(level))),
                dtype=torch.float16,
                device=device,
            )
            for level in self._strides
        }

    def _coarse(self, level: int) -> tuple[int, ...]:
        """Pixels along each axis of a cell that is kept of a level."""
        return tuple(max(a, b) for a, b in zip(self._strides[level], self.step, strict=True))

    def _cells(self, step: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-n // s) for n, s in zip(self.space, step, strict=True))

    def add(self, encoded: EncodedTile) -> None:
        """Keep the features of a tile; tiles may come from several threads."""
        stacked = self._stacked
        plane = int(np.ravel_multi_index(encoded.plane, stacked)) if stacked else 0
        window: Any  # an index of slices and numbers is more than the stubs can follow
        for level, stride in self._strides.items():
            step = self._coarse(level)
            factor = tuple(a // b for a, b in zip(step, stride, strict=True))
            features = encoded.features[level].float()
            if max(factor) > 1:
                pool: Any = F.avg_pool2d if len(step) == 2 else F.avg_pool3d
                features = pool(features[None], factor)[0]
            tile = encoded.tile
            inner: Any = tuple(
                slice(i.start // s, -(-i.stop // s)) for i, s in zip(tile.inner, step, strict=True)
            )
            window = tuple(
                slice(k.start // s, k.start // s + i.stop - i.start)
                for k, i, s in zip(tile.keep, inner, step, strict=True)
            )
            values = features[(slice(None), *window)].clamp(-_LARGEST, _LARGEST)
            self._maps[level][(plane, slice(None), *inner)] = values.half()

    def finish(self, pixels: np.ndarray) -> np.ndarray:
        """Return the evidence, int8 of shape (*cells, D); `pixels` are the image, (C, *space)."""
        image = torch.from_numpy(pixels).reshape(len(pixels), -1, *self.space).movedim(0, 1)
        pool: Any = F.avg_pool2d if len(self.step) == 2 else F.avg_pool3d
        # Cells at the end of an axis may have one pixel.
        image = pool(image, self.step, ceil_mode=True, count_include_pad=False)
        values, cells = [image, *self._maps.values()], tuple(image.shape[2:])
        places = self._places((len(image), *cells))
        sample = self._at(values, places)
        directions = self._directions(values, places, sample)
        # The image itself is kept too: where it is sharp, so are borders.
        directions = np.hstack([directions, np.eye(len(directions), len(pixels))])
        projected = sample @ directions
        mean, deviation = projected.mean(axis=0), projected.std(axis=0)
        directions *= _STEPS / np.maximum(deviation, 1e-6)
        offset = torch.from_numpy(-mean * _STEPS / np.maximum(deviation, 1e-6)).float()
        by_level = np.split(directions, np.cumsum([v.shape[1] for v in values])[:-1])
        out = np.empty((len(image), *cells, len(offset)), np.int8)
        for plane, into in enumerate(out):
            total = offset.reshape(-1, *[1] * len(cells)).repeat(1, *cells)
            for level, weights in zip(values, by_level, strict=True):
                total += _enlarged(_projected(level[plane], weights), cells)
            into[...] = total.round_().clamp_(-127, 127).to(torch.int8).movedim(0, -1).numpy()
        return out.reshape(*self._stacked, *cells, len(offset))

    def _places(self, shape: tuple[int, ...]) -> np.ndarray:
        """Planes and cells from which directions are estimated, shape (1 + axes, n)."""
        spacing = max(1, round((math.prod(shape) / _PLACES) ** (1 / len(shape))))
        grid = np.meshgrid(*(np.arange((n - 1) % spacing // 2, n, spacing) for n in shape))
        return np.stack([axis.ravel() for axis in grid])

    def _directions(
        self, values: list[torch.Tensor], places: np.ndarray, sample: np.ndarray
    ) -> np.ndarray:
        """Directions of most variance in units of that between places nearby, shape (F, D)."""
        cells = values[0].shape[2:]
        within = np.zeros((sample.shape[1],) * 2)
        for axis in (-2, -1):
            lag = min(_APART // self.step[axis], cells[axis] // 2)
            inside = places[axis] + lag < cells[axis]
            moved = places[:, inside]
            moved[axis] += lag
            difference = self._at(values, moved) - sample[inside]
            within += difference.T @ difference / max(len(difference), 1)
        scale = np.diag(within)
        ridge = np.diag(0.01 * scale + 1e-6 * scale.mean() + 1e-12)
        _, vectors = eigh(np.cov(sample.T, ddof=0).reshape(within.shape), within + ridge)
        return np.asarray(vectors[:, ::-1][:, :_DIRECTIONS])

    def _at(self, values: list[torch.Tensor], places: np.ndarray) -> np.ndarray:
        """Features of all levels at some cells, float64 of shape (n, F)."""
        cells, columns = values[0].shape[2:], []
        for level in values:
            ratio = [round(n / m) for n, m in zip(cells, level.shape[2:], strict=True)]
            index = [torch.from_numpy(a // r) for a, r in zip(places, (1, *ratio), strict=True)]
            columns.append(level.movedim(1, -1)[tuple(index)].double().cpu().numpy())
        return np.concatenate(columns, axis=1)


def _projected(features: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    """Features (F, *cells) of a level in D directions, float32 on the CPU, strip by strip."""
    columns = torch.from_numpy(weights.astype(np.float32)).to(features.device)
    rows = [
        torch.einsum("fd,f...->d...", columns, strip.float()).cpu()
        for strip in features.split(max(1, _TOGETHER // math.prod(features.shape[2:])), dim=1)
    ]
    return torch.cat(rows, dim=1)


def _enlarged(values: torch.Tensor, cells: tuple[int, ...]) -> torch.Tensor:
    """Interpolate linearly from the cells of a coarse level to those of the evidence."""
    ratio = tuple(round(n / m) for n, m in zip(cells, values.shape[1:], strict=True))
    if max(ratio) > 1:
        mode = "bilinear" if len(cells) == 2 else "trilinear"
        values = F.interpolate(values[None], scale_factor=ratio, mode=mode)[0]
    return values[(slice(None), *(slice(0, n) for n in cells))]
