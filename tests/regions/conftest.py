from __future__ import annotations

import numpy as np
import pytest

from napari_aeseg.images.axes import read_axes
from napari_aeseg.params import ComparisonParams, SegmentationParams
from napari_aeseg.regions.hierarchy import Hierarchy
from napari_aeseg.regions.objects.maps import brightness_of
from napari_aeseg.regions.patches.graph import region_graph
from napari_aeseg.regions.patches.statistics import PatchStatistics, channel_means, geometry
from napari_aeseg.regions.patches.superpixels import make_patches


@pytest.fixture(scope="session")
def hierarchy_of():
    """Return a function that makes a hierarchy of an image with its channels as only features.

    Levels say which level each channel stands for; 0 by default.
    """

    def build(image, patch_size=4, levels=None, patches=None, **comparison):
        image = np.asarray(image, float)
        pixels = image if image.ndim == 3 else image[np.newaxis]
        params = SegmentationParams(patch_size=patch_size, patches="grid")
        if patches is None:
            patches = make_patches(pixels.astype(np.float32), patch_size, params.patches)
        count, centroid = geometry(patches)
        mean = channel_means(patches, pixels, count)
        statistics = PatchStatistics(
            count,
            mean.astype(np.float32),
            channel_means(patches, pixels**2, count).astype(np.float32),
            np.array(levels if levels is not None else [0] * len(pixels)),
            centroid,
            mean,
        )
        axes = read_axes(pixels.shape, "CYX")
        brightness = brightness_of(pixels.astype(np.float32))
        graph, comparison = region_graph(patches), ComparisonParams(**comparison)
        return Hierarchy(patches, statistics, graph, axes, params, comparison, brightness)

    return build


@pytest.fixture(scope="session")
def noisy(hierarchy_of):
    """Hierarchy of noise, 9 x 10 patches: merges of all kinds."""
    image = np.random.default_rng(0).random((2, 36, 40))
    return hierarchy_of(image, 4, levels=[0, 1])


class CountedStop:
    """Says how often it was looked at, and stops at one of these looks."""

    def __init__(self, at=-1):
        self.at, self.looks = at, 0

    def is_set(self):
        self.looks += 1
        return self.looks == self.at


@pytest.fixture(scope="session")
def counted_stop():
    """A stop flag that counts how often it was looked at: ``counted_stop(at)``."""
    return CountedStop
