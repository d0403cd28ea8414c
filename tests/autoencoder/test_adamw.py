from __future__ import annotations

import torch

from napari_aeseg.autoencoder.adamw import AdamW
from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.network import Autoencoder


def test_steps_are_those_of_pytorch_also_when_resumed():
    ours, theirs = (
        Autoencoder(Architecture(1, 2, 4), torch.Generator().manual_seed(0)) for _ in range(2)
    )
    optimizer = AdamW(ours, weight_decay=0.1)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    crops = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for step in range(4):
        if step == 2:
            optimizer = AdamW(ours, 0.1, step, optimizer.moments)
        optimizer.learning_rate = 0.01
        for network, each in ((ours, optimizer), (theirs, reference)):
            network.zero_grad()
            (network(crops) ** 2).mean().backward()
            each.step()

    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
