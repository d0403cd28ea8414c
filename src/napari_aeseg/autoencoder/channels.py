"""A network for images with another number of channels than it was trained on."""

from __future__ import annotations

from dataclasses import replace

import torch

from napari_aeseg.autoencoder.network import Autoencoder


def shares(inputs: int, channels: int) -> torch.Tensor:
    """Return how much of each channel each input of a network sees.

    Inputs and channels are laid out along the same line, each evenly, and share what overlaps: one
    channel goes to all inputs, as many channels as inputs go one to one, and more channels than
    inputs are averaged in overlapping groups of neighbours.

    Parameters
    ----------
    inputs : int
        Channels that the network was trained on.
    channels : int
        Channels of the image.

    Returns
    -------
    Tensor of float64, shape (inputs, channels)
        Rows sum to 1, so that equal channels give every input the same image.

    Examples
    --------
    >>> shares(3, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    >>> shares(3, 4).tolist()
    [[0.75, 0.25, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.25, 0.75]]
    """
    i = torch.arange(inputs)[:, None]
    j = torch.arange(channels)
    # In units of 1 / (inputs * channels), so that whole overlaps come out whole.
    start = torch.maximum(i * channels, j * inputs)
    end = torch.minimum((i + 1) * channels, (j + 1) * inputs)
    return (end - start).clamp(min=0).double() / channels


def with_channels(network: Autoencoder, channels: int) -> Autoencoder:
    """Return a copy of a network for another number of channels.

    The first convolution sees the channels mixed by `shares`, which needs no layer of its own: its
    weights are mixed instead. The readout of a channel is the mean of those of the inputs that see
    it, weighted by how much they see.

    Parameters
    ----------
    network : Autoencoder
    channels : int

    Returns
    -------
    Autoencoder
        On the CPU, sharing no memory with `network`.

    Examples
    --------
    >>> from napari_aeseg.autoencoder.architecture import Architecture
    >>> colour = Autoencoder(Architecture(channels=3, levels=2, width=4))
    >>> image = torch.rand(1, 1, 8, 8)
    >>> same = colour(image.expand(1, 3, 8, 8)).mean(1, keepdim=True)
    >>> bool(torch.allclose(with_channels(colour, 1)(image), same, atol=1e-5))
    True
    """
    inputs = network.architecture.channels
    share = shares(inputs, channels)
    back = share.T / share.sum(0)[:, None]
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    mixed = {
        "encoder.0.0.weight": ("oi...,ij->oj...", share),
        "readout.weight": ("if...,ji->jf...", back),
        "readout.bias": ("i,ji->j", back),
    }
    for name, (equation, matrix) in mixed.items():
        weights[name] = torch.einsum(equation, weights[name].double(), matrix).float()
    copy = Autoencoder(replace(network.architecture, channels=channels))
    copy.load_state_dict(weights)
    return copy
