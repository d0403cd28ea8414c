"""What the speed of this project is held against: other ways to the same, made to run.

Each is small and as fast as its published description allows; where this project's measurement
would have been slower for the peer (counting labels, drawing windows), the peer is spared it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage import segmentation
from torch import nn
from torch.nn import functional as F

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.network import Autoencoder, move_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# -- training --------------------------------------------------------------------------------------


def bare_loop(image: NDArray, batch: int, size: int, steps: int) -> float:
    """Return crops per second of the default network in a bare loop on preloaded (C, Y, X) crops.

    Nothing is drawn, augmented, disturbed, scheduled, clipped or reported.
    """
    rng = np.random.default_rng(0)
    corners = [tuple(rng.integers(n - size + 1) for n in image.shape[1:]) for _ in range(8 * batch)]
    crops = torch.from_numpy(
        np.stack([image[:, y : y + size, x : x + size] for y, x in corners])
    ).contiguous(memory_format=torch.channels_last)
    batches = crops.split(batch)
    network = move_to(Autoencoder(Architecture(channels=len(image))), torch.device("cpu")).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    warm_up = 3
    for step in range(steps + warm_up):
        if step == warm_up:
            start = time.perf_counter()
        x = batches[step % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(network(x), x).backward()
        optimizer.step()
    return steps * batch / (time.perf_counter() - start)


# -- differentiable feature clustering -------------------------------------------------------------


class FeatureClustering:
    """Unsupervised segmentation by differentiable feature clustering, after [1]_.

    A small network gives each pixel a response per cluster; the strongest is its label, the labels
    of a superpixel are set to the most frequent one, and the network learns these labels. Defaults
    are those of the authors' public code.

    References
    ----------
    .. [1] A. Kanezaki, Unsupervised image segmentation by backpropagation, ICASSP 2018.
    """

    ITERATIONS, LEAST_LABELS = 1000, 3
    CHANNELS, CONVOLUTIONS = 100, 2
    SUPERPIXELS, COMPACTNESS = 10_000, 100
    RATE, MOMENTUM = 0.1, 0.9

    def __init__(self, image: NDArray) -> None:
        torch.manual_seed(0)
        superpixels = segmentation.slic(
            image, n_segments=self.SUPERPIXELS, compactness=self.COMPACTNESS, start_label=0
        )
        self.superpixel = torch.from_numpy(superpixels.ravel().astype(np.int64))
        self.number = int(superpixels.max()) + 1
        self.x = torch.from_numpy(np.moveaxis(image / np.float32(255), -1, 0).copy())[None].float()
        layers: list[nn.Module] = []
        for i in range(self.CONVOLUTIONS):
            inputs = self.CHANNELS if i else self.x.shape[1]
            layers += [nn.Conv2d(inputs, self.CHANNELS, 3, padding=1), nn.ReLU()]
            layers += [nn.BatchNorm2d(self.CHANNELS)]
        layers += [nn.Conv2d(self.CHANNELS, self.CHANNELS, 1), nn.BatchNorm2d(self.CHANNELS)]
        self.network = nn.Sequential(*layers)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=self.RATE, momentum=self.MOMENTUM
        )

    def iterations(self) -> Iterator[int]:
        """Learn; yields the number of labels after each iteration."""
        for _ in range(self.ITERATIONS):
            self.optimizer.zero_grad()
            response = self.network(self.x)[0].permute(1, 2, 0).reshape(-1, self.CHANNELS)
            label = response.argmax(dim=1)
            loss = F.cross_entropy(response, self._most_frequent(label))
            loss.backward()
            self.optimizer.step()
            labels = len(label.unique())
            yield labels
            if labels <= self.LEAST_LABELS:
                return

    def _most_frequent(self, label: torch.Tensor) -> torch.Tensor:
        """Give each pixel the most frequent label of its superpixel."""
        votes = torch.bincount(
            self.superpixel * self.CHANNELS + label, minlength=self.number * self.CHANNELS
        )
        return votes.reshape(self.number, self.CHANNELS).argmax(dim=1)[self.superpixel]
