"""The same network trained in a bare loop: what training here is held against."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.network import Autoencoder, move_to

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bare_loop(image: NDArray, batch: int, size: int, steps: int) -> float:
    """Return crops per second of the processor, of a bare loop on preloaded (C, Y, X) crops.

    Nothing is drawn, augmented, disturbed, scheduled, clipped or reported.
    """
    rng = np.random.default_rng(0)
    corners = [tuple(rng.integers(n - size + 1) for n in image.shape[1:]) for _ in range(8 * batch)]
    crops = torch.from_numpy(
        np.stack([image[:, y : y + size, x : x + size] for y, x in corners])
    ).contiguous(memory_format=torch.channels_last)
    batches = crops.split(batch)
    network = move_to(
        Autoencoder(Architecture(channels=len(image), levels=3, width=16)), torch.device("cpu")
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    warm_up = 3
    for step in range(steps + warm_up):
        if step == warm_up:
            start = time.process_time()
        x = batches[step % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(network(x), x).backward()
        optimizer.step()
    return steps * batch / (time.process_time() - start)
