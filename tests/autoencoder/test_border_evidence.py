from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.autoencoder.patch_moments import patch_moments_steps
from napari_aeseg.progress import drain


def evidence_of(image, axes, architecture, **options):
    torch.manual_seed(0)
    model = Model(Autoencoder(architecture))
    read = model.read(image, axes)
    patches = np.zeros(read.space_shape, np.int32)
    work = patch_moments_steps(model, read, patches, device="cpu", with_evidence=True, **options)
    return drain(work).evidence


@pytest.mark.parametrize(
    ("shape", "axes", "architecture", "cells"),
    [
        ((45, 64), "YX", Architecture(1, levels=2, width=4), (23, 32, 9)),
        ((3, 33, 40), "TYX", Architecture(1, levels=3, width=4), (3, 17, 20, 9)),
        ((2, 33, 40), "CYX", Architecture(2, levels=3, width=4), (17, 20, 10)),
        ((9, 18, 20), "ZYX", Architecture(1, levels=2, width=4, dimensions=3), (5, 9, 10, 9)),
        (
            (9, 18, 20),
            "ZYX",
            Architecture(1, levels=2, width=4, dimensions=3, z_levels=1),
            (9, 9, 10, 9),
        ),
        ((1, 1), "YX", Architecture(1, levels=1, width=4), (1, 1, 6)),
    ],
)
def test_there_are_values_for_every_cell_of_every_kind_of_image(shape, axes, architecture, cells):
    image = np.random.default_rng(0).random(shape)
    image.flat[0] = 2  # not constant
    found = evidence_of(image, axes, architecture)
    assert found.dtype == np.int8
    # No more directions than features.
    assert found.shape == cells


def test_evidence_does_not_depend_on_the_tiles():
    image = np.random.default_rng(0).random((150, 133))
    architecture = Architecture(1, levels=3, width=4)
    whole, tiled = (evidence_of(image, "YX", architecture, tile_size=n) for n in (512, 32))
    assert np.array_equal(whole, tiled)


def test_evidence_tells_textures_apart():
    rng = np.random.default_rng(0)
    image = rng.random((96, 96))
    image[:, 48:] = np.repeat(image[:, 48::2], 2, axis=1)
    found = evidence_of(image, "YX", Architecture(1, levels=3, width=8)).astype(float)
    left, right = found[:, :22].reshape(-1, 9), found[:, 26:].reshape(-1, 9)
    apart = np.abs(left.mean(0) - right.mean(0)) / np.sqrt((left.var(0) + right.var(0)) / 2)
    assert apart.max() > 1.5
