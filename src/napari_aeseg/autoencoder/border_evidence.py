"""A few values for each cell of 2 x 2 pixels that tell textures apart: where borders may move to.

Features of all levels are projected to the directions in which the image varies most, measured by
how much neighbours differ: Fisher's discriminant, with places a few patches apart taken for the
same texture. Directions are estimated from small tiles all over the image, which are encoded
before the others, so that features need not be kept. Values are kept in 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from torch.nn import functional as F

from napari_aeseg.autoencoder.device import without_tf32
from napari_aeseg.autoencoder.encoding import (
    NOT_FINITE,
    EncodedTile,
    Source,
    map_tiles,
    tiles_to_encode,
)
from napari_aeseg.autoencoder.network import Autoencoder, weighted_windows
from napari_aeseg.errors import InputError
from napari_aeseg.images.parallel import one_blas_thread
from napari_aeseg.progress import StopFlag, raise_if_stopped

# Directions that are kept; 6 to 16 are equally good.
_DIRECTIONS = 8
# Pixels between places that are taken for the same texture.
_APART = 24
# Tiles that directions are estimated from: size (of planes, of volumes), share of the image, number
# at least and at most. Every second cell of them counts.
_TILE_SIZE, _SHARE, _FEWEST, _MOST = {2: 64, 3: 192}, 1 / 48, 16, 96
_EVERY_SECOND: Any = (..., slice(None, None, 2), slice(None, None, 2))
# Squares of larger features leave double precision.
_LARGEST = 1e100
# Steps of the result for one standard deviation.
_STEPS = 16


@dataclass(frozen=True, slots=True)
class EvidenceProjection:
    """The linear map from features to evidence."""

    weights: np.ndarray  # float32, shape (D, F)
    offset: np.ndarray  # float32, shape (D,)

    @classmethod
    def of_images(
        cls,
        network: Autoencoder,
        images: Sequence[np.ndarray],
        strides: Mapping[int, tuple[int, ...]],
        source: Source,
        device: torch.device,
        stop: StopFlag | None = None,
    ) -> EvidenceProjection:
        """Estimate it from small tiles of images (C, *space), or of parts of one.

        `strides` are the pixels that one value of each level stands for. InputError if features are
        not finite.
        """
        step = network.architecture.evidence_step
        parts = []
        for pixels in images:
            fewest = -(-_FEWEST // len(images))
            cells = _FeatureCells(pixels, strides, step)
            parts += cells.sample(network, source, device, fewest, stop)
        with one_blas_thread():
            return cls(*_map_to_evidence(parts, len(images[0]), step))


class _FeatureCells:
    """Features of an image (C, *space), planes or volumes stacked along the first axes of space."""

    def __init__(
        self,
        pixels: np.ndarray,
        strides: Mapping[int, tuple[int, ...]],
        step: tuple[int, ...],
    ) -> None:
        self.step = step
        self._pixels, self._strides = pixels, {i: s for i, s in strides.items() if i > 0}

    def sample(
        self,
        network: Autoencoder,
        source: Source,
        device: torch.device,
        fewest: int,
        stop: StopFlag | None,
    ) -> list[np.ndarray]:
        """Encode small tiles; return the features of every second cell of each, (F, *cells)."""
        architecture, space = network.architecture, self._pixels.shape[1:]
        tiles = tiles_to_encode(architecture, space, _TILE_SIZE[architecture.dimensions])
        number = min(len(tiles), max(fewest, min(_MOST, round(_SHARE * len(tiles)))))
        # At random out of each of so many runs of tiles: no pattern of the image is met.
        within = np.random.default_rng(0).random(number)
        chosen = ((np.arange(number) + within) * len(tiles) / number).astype(int)
        work = map_tiles(
            network,
            self._features,
            self._pixels,
            tuple(self._strides) or (0,),
            source,
            device,
            tiles=[tiles[i] for i in chosen],
        )
        parts = []
        with closing(work):
            for part in work:
                parts.append(part)
                raise_if_stopped(stop, "encode")
        return parts

    def _features(self, encoded: EncodedTile) -> np.ndarray:
        """Features of every second cell of a tile, the image first, float64, (F, *cells)."""
        parts, cells = [self._image(encoded)], self._cells(encoded)
        window: Any = (0, slice(None), *(slice(c.stop - c.start) for c in cells))
        for level, stride in self._strides.items():
            sides = zip(cells, self.step, stride, strict=True)  # no margin is pooled
            inner: Any = (slice(c.start * n // s, -(-c.stop * n // s)) for c, n, s in sides)
            values = encoded.features[level][(slice(None), *inner)].float()[None]
            pool: Any = F.avg_pool2d if len(stride) == 2 else F.avg_pool3d
            values = pool(values, self._ratio(self.step, stride))
            values = F.interpolate(values, scale_factor=self._ratio(stride, self.step))
            parts.append(values[window].cpu())
        return torch.cat([part[_EVERY_SECOND] for part in parts]).double().numpy()

    def _image(self, encoded: EncodedTile) -> torch.Tensor:
        """Means of the image in the cells of a tile, (C, *cells)."""
        index: Any = (slice(None), *encoded.plane, *encoded.tile.inner)
        pixels = torch.from_numpy(np.ascontiguousarray(self._pixels[index]))
        pool: Any = F.avg_pool2d if len(self.step) == 2 else F.avg_pool3d
        # Cells at the end of an axis may have one pixel.
        step = [min(s, n) for s, n in zip(self.step, pixels.shape[1:], strict=True)]  # of the last
        means: torch.Tensor = pool(pixels, step, ceil_mode=True, count_include_pad=False)
        return means

    def _cells(self, encoded: EncodedTile) -> tuple[slice, ...]:
        """The cells of a tile among those of all pixels that are read for it."""
        sides = zip(encoded.tile.keep, self.step, strict=True)
        return tuple(slice(k.start // s, -(-k.stop // s)) for k, s in sides)

    @staticmethod
    def _ratio(large: tuple[int, ...], small: tuple[int, ...]) -> tuple[int, ...]:
        """How often a small cell fits into a large one along each axis, at least once."""
        return tuple(max(a // b, 1) for a, b in zip(large, small, strict=True))


class EvidenceMap(_FeatureCells):
    """The evidence of an image (C, *space), filled tile by tile."""

    def __init__(
        self,
        pixels: np.ndarray,
        channels: Mapping[int, int],
        strides: Mapping[int, tuple[int, ...]],
        step: tuple[int, ...],
        projection: EvidenceProjection,
        device: torch.device,
    ) -> None:
        super().__init__(pixels, strides, step)
        stacked, space = np.split(pixels.shape[1:], [-len(step)])
        cells = (-(-n // s) for n, s in zip(space, step, strict=True))
        self._offset = torch.from_numpy(projection.offset)
        widths = [len(pixels), *(channels[level] for level in self._strides)]
        weights = torch.from_numpy(projection.weights).split(widths, dim=1)
        self._maps = [m.to(device) for m in weights]
        #: int8, shape (*cells, D)
        self.values = np.empty((*stacked, *cells, len(projection.offset)), np.int8)

    def add(self, encoded: EncodedTile) -> None:
        """Compute the evidence of a tile; tiles may come from several threads."""
        image, *levels = self._maps
        with without_tf32(image.device):
            total = self._offset + self._image(encoded).movedim(0, -1) @ image.T.cpu()
            window: Any = (0, slice(None), *self._cells(encoded))
            for (level, stride), weights in zip(self._strides.items(), levels, strict=True):
                features = encoded.features[level].float()
                values = weighted_windows(features, weights, self._ratio(self.step, stride))
                ratio = self._ratio(stride, self.step)
                if max(ratio) > 1:
                    mode = "bilinear" if len(ratio) == 2 else "trilinear"
                    values = F.interpolate(values, scale_factor=ratio, mode=mode)
                total += values[window].movedim(0, -1).cpu()
        total.round_().clamp_(-127, 127)
        place: Any = zip(encoded.tile.inner, self.step, strict=True)
        place = tuple(slice(i.start // s, -(-i.stop // s)) for i, s in place)
        self.values[(*encoded.plane, *place)] = total.to(torch.int8).numpy()


def _map_to_evidence(
    parts: list[np.ndarray], channels: int, step: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear map from features to evidence, float32 (D, F), and its offset (D,)."""
    sample = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).T
    if not np.abs(sample).max() <= _LARGEST:
        raise InputError(NOT_FINITE)
    # Of most variance in units of that between places nearby.
    within = np.zeros((sample.shape[1],) * 2)
    for axis in (-2, -1):
        differences = []
        for part in parts:
            along = np.moveaxis(part, axis, -1)
            lag = min(_APART // (2 * step[axis]), along.shape[-1] // 2)
            far = along[..., lag:] - along[..., : along.shape[-1] - lag]
            differences.append(far.reshape(len(part), -1))
        difference = np.concatenate(differences, axis=1)
        within += difference @ difference.T / max(difference.shape[1], 1)
    scale = np.diag(within)
    ridge = np.diag(0.01 * scale + 1e-6 * scale.mean() + 1e-12)
    covariance = np.cov(sample.T, ddof=0).reshape(within.shape)
    directions = eigh(covariance, within + ridge)[1][:, ::-1][:, :_DIRECTIONS]
    # The image itself is kept too: where it is sharp, so are borders.
    directions = np.hstack([directions, np.eye(len(directions), channels)])
    projected = sample @ directions
    scale = _STEPS / np.maximum(projected.std(axis=0), 1e-6)
    offset = -projected.mean(axis=0) * scale
    return (directions * scale).T.astype(np.float32), offset.astype(np.float32)
