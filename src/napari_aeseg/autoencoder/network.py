"""The convolutional autoencoder: levels of convolution and pooling, and the way back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Architecture:
    """All that is needed to build the network again.

    Parameters
    ----------
    channels : int
        Channels of the image.
    levels : int
        Levels of convolutions and pooling; each halves the resolution.
    width : int
        Channels of level 1; level i has ``width * 2 ** (i - 1)``.
    convolutions : int
        3 x 3 convolutions in each level.
    decoder : {"transposed", "unpooling"}
        How resolution is regained.
    """

    channels: int
    levels: int = 3
    width: int = 16
    convolutions: int = 2
    decoder: Literal["transposed", "unpooling"] = "transposed"

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the image (level 0) and of each level."""
        return (self.channels, *(self.width * 2**i for i in range(self.levels)))

    @property
    def reduction(self) -> int:
        """How many pixels one value of the code stands for, along each axis."""
        return 2**self.levels

    def reach(self, *, decoded: bool) -> int:
        """Pixels around a pixel that can change its features, at the deepest level.

        Each convolution reaches one cell of its level, each 2 x 2 pooling or un-pooling at most
        one cell of the finer level.
        """
        one_way = sum((self.convolutions + 1) * 2**i for i in range(self.levels))
        return 2 * one_way + self.reduction if decoded else one_way

    def as_dict(self) -> dict[str, int | str]:
        """Return plain values for a file header."""
        return asdict(self)


def _convolutions(inputs: int, outputs: int, number: int) -> nn.Sequential:
    """Return 3 x 3 convolutions, each with its non-linearity."""
    layers: list[nn.Module] = []
    for i in range(number):
        layers.append(nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1))
        layers.append(nn.LeakyReLU(0.1, inplace=True))
    return nn.Sequential(*layers)


def halved(x: Tensor) -> Tensor:
    """Return the maximum of each 2 x 2 pixels; height and width are even.

    On CPUs, seven times as fast as torch's pooling, which looks where each maximum is.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return F.max_pool2d(x, 2)
    x = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(x[..., ::2], x[..., 1::2])


def placed(network: Autoencoder, device: torch.device) -> Autoencoder:
    """Move a network to a device, its weights laid out channels last (twice as fast on CPUs)."""
    # torch's stubs do not know the argument.
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def copied(network: Autoencoder, device: torch.device) -> Autoencoder:
    """Return a copy on a device, for inference; later changes of the network do not reach it."""
    # Without initial weights: neither is memory taken twice, nor anybody's random state changed.
    with torch.device("meta"):
        copy = Autoencoder(network.architecture)
    copy.to_empty(device=device)
    placed(copy, device).load_state_dict(network.state_dict())
    return copy.eval()


def _initialise(module: nn.Module) -> None:
    """He initialisation; torch's default loses two thirds of the variance in every layer.

    With it, training idles on a plateau for hundreds of steps.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.1, nonlinearity="leaky_relu")
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, nn.ConvTranspose2d):
        # With kernel and stride 2, each output sees one input pixel.
        nn.init.normal_(module.weight, std=(2 / module.in_channels) ** 0.5)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class Autoencoder(nn.Module):
    """Encoder of convolutions and max pooling, decoder of un-pooling or transposed convolutions.

    There is no normalisation layer: features of a pixel depend on its surroundings only, never on
    the rest of the batch or tile, so that an image can be encoded in tiles.

    Parameters
    ----------
    architecture : Architecture

    Examples
    --------
    >>> net = Autoencoder(Architecture(channels=1, levels=2, width=4))
    >>> x = torch.zeros(1, 1, 8, 8)
    >>> [tuple(f.shape[1:]) for f in net.encoder_features(x)]
    [(1, 8, 8), (4, 8, 8), (8, 4, 4)]
    >>> net(x).shape
    torch.Size([1, 1, 8, 8])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.level_channels
        number = architecture.convolutions
        self.encoder = nn.ModuleList(
            _convolutions(widths[i], widths[i + 1], number) for i in range(architecture.levels)
        )
        # Level i of the decoder goes from the resolution of code i back to that of level i - 1.
        self.grow = nn.ModuleList()
        if architecture.decoder == "transposed":
            self.grow.extend(nn.ConvTranspose2d(w, w, 2, stride=2) for w in widths[1:])
        self.decoder = nn.ModuleList(
            # The first level ends in features of its own; `readout` makes them intensities.
            _convolutions(widths[i + 1], widths[max(i, 1)], number)
            for i in range(architecture.levels)
        )
        self.readout = nn.Conv2d(widths[1], architecture.channels, 1)
        self.apply(_initialise)
        nn.init.normal_(self.readout.weight, std=0.1 / widths[1] ** 0.5)

    def _encode(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return the features of levels 0 .. L, the pooling indices of levels 1 .. L, the code."""
        features, indices = [x], []
        for level in self.encoder:
            x = level(x)
            features.append(x)
            if self.architecture.decoder == "unpooling":
                x, index = F.max_pool2d(x, 2, return_indices=True)
                indices.append(index)
            else:
                x = halved(x)
        return features, indices, x

    def _decode(self, code: Tensor, indices: list[Tensor]) -> list[Tensor]:
        """Return decoder features, level 1 (image resolution) first."""
        features = []
        for i in reversed(range(self.architecture.levels)):
            grown = F.max_unpool2d(code, indices[i], [2, 2]) if indices else self.grow[i](code)
            code = self.decoder[i](grown)
            features.append(code)
        return features[::-1]

    def encoder_features(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        """Return activations of levels 0 .. `levels`; level 0 is the image.

        Parameters
        ----------
        x : Tensor, shape (B, C, H, W)
            H and W are multiples of `architecture.reduction`.
        levels : int, optional
            Deepest level wanted; deeper ones are not computed.

        Returns
        -------
        list of Tensor
            Level i has shape (B, width * 2**(i-1), H / 2**(i-1), W / 2**(i-1)).
        """
        features = [x]
        for i, level in enumerate(self.encoder):
            if levels is not None and i >= levels:
                break
            x = level(halved(x) if i else x)
            features.append(x)
        return features

    def decoder_features(self, x: Tensor) -> list[Tensor]:
        """Return activations of the decoder; level 0 is the reconstruction.

        Level i has the resolution of encoder level i.
        """
        _, indices, code = self._encode(x)
        features = self._decode(code, indices)
        return [self.readout(features[0]), *features]

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct (B, C, H, W) images; H and W are multiples of `architecture.reduction`."""
        return self.decoder_features(x)[0]
