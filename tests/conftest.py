"""Small images and models that many tests share."""

from __future__ import annotations

import gc
import os

# Arrays are tiny: on a busy machine several threads mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

gc.disable()  # until all is imported, of which nothing is garbage
# No deadline and no chance: a slow machine or a new seed must not fail a run.
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Spare `gc.collect` what was there before: torch and napari alone take half a second."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """What tests write need not survive a power cut; a slow disk takes seconds for a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def stripes() -> np.ndarray:
    """Grey uint8 image, 48 x 40: the left half smooth, the right half striped, equal means."""
    rng = np.random.default_rng(0)
    image = rng.normal(100, 3, (48, 40))
    image[:, 20:] += np.where(np.arange(48) % 4 < 2, 40, -40)[:, np.newaxis]
    return image.astype(np.uint8)


@pytest.fixture(scope="session")
def quadrants() -> np.ndarray:
    """Grey float image, 64 x 64, of four quadrants of clearly different brightness."""
    rng = np.random.default_rng(0)
    steps = np.kron([[0.1, 0.4], [0.7, 1.0]], np.ones((32, 32)))
    return steps + rng.normal(0, 0.01, steps.shape)


@pytest.fixture(scope="session")
def tiny_params():
    """Training that takes a blink."""
    from napari_aeseg import TrainingParams

    return TrainingParams(levels=2, width=4, convolutions=1, crop_size=16, batch_size=4, steps=6)


@pytest.fixture(scope="session")
def make_model():
    """Return a function that makes an untrained model with fixed random weights."""
    import torch

    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.autoencoder.network import Autoencoder

    def make(
        channels=1,
        levels=2,
        width=4,
        convolutions=1,
        decoder="transposed",
        seed=0,
        dimensions=2,
        z_levels=0,
        **more,
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Autoencoder(
                Architecture(channels, levels, width, convolutions, decoder, dimensions, z_levels)
            )
            # Biases and a readout of ordinary size, so that no part is too quiet to be noticed.
            with torch.no_grad():
                for name, weight in network.named_parameters():
                    if name.endswith("bias"):
                        weight.normal_(std=0.1)
                network.readout.weight.mul_(10)
        return Model(network, **more)

    return make


@pytest.fixture(scope="session")
def model(stripes, tiny_params):
    """Model of one channel, trained for a few steps."""
    import napari_aeseg

    return napari_aeseg.train(stripes, tiny_params, device="cpu")


@pytest.fixture(scope="session")
def hierarchy(quadrants, tiny_params):
    """Hierarchy of the four quadrants, 16 x 16 patches."""
    import napari_aeseg

    model = napari_aeseg.train(quadrants, tiny_params, device="cpu")
    params = napari_aeseg.SegmentationParams(patch_size=4)
    return napari_aeseg.build_hierarchy(quadrants, model, params, device="cpu")
