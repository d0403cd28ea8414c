"""The convolutional autoencoder, for planes and volumes, and for any number of channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.architecture import Architecture


class _WeightsLater:
    """Leaves the initial weights to `_initialise`: torch would draw them twice, and globally."""

    def reset_parameters(self) -> None:
        """Do nothing."""


class _SameInAllSizes(_WeightsLater):
    """Rounds alike for images of any size, so that a tile has the features of the whole."""

    def forward(self: Any, x: Tensor) -> Tensor:
        # Left to itself, a single thread hands large arrays to oneDNN, and small ones to code of
        # torch's own, which rounds differently.
        if (
            x.device.type != "cpu"
            or x.dtype != torch.float32
            or torch.is_grad_enabled()
            or not torch.backends.mkldnn.is_available()
        ):
            return self._conv_forward(x, self.weight, self.bias)
        padding = [n // 2 for n in self.kernel_size]
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )


def weighted_windows(x: Tensor, weights: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return means of (F, *space) over windows of a size, weighted by (D, F): (1, D, *cells)."""
    n, ones = math.prod(size), [1] * len(size)
    kernel = (weights / n).reshape(*weights.shape, *ones).expand(-1, -1, *size)
    x = x.movedim(0, -1)[None].movedim(-1, 1)  # x[None] would lose that channels are last
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available():  # as in `_SameInAllSizes`
        return torch.mkldnn_convolution(x, kernel, None, [0] * len(size), size, ones, 1)
    convolution: Any = F.conv2d if len(size) == 2 else F.conv3d
    result: Tensor = convolution(x, kernel, stride=size)
    return result


class _Convolution2d(_SameInAllSizes, nn.Conv2d):
    """Of planes."""


class _Convolution3d(_SameInAllSizes, nn.Conv3d):
    """Of volumes."""


class _Transposed2d(_WeightsLater, nn.ConvTranspose2d):
    """Of planes."""


class _Transposed3d(_WeightsLater, nn.ConvTranspose3d):
    """Of volumes."""


# Layers and layouts for planes and for volumes.
_CONVOLUTION: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: _Convolution2d, 3: _Convolution3d}
_TRANSPOSED = {2: _Transposed2d, 3: _Transposed3d}
_MAX_POOL: dict[int, Callable[..., Any]] = {2: F.max_pool2d, 3: F.max_pool3d}
_MAX_UNPOOL: dict[int, Callable[..., Tensor]] = {2: F.max_unpool2d, 3: F.max_unpool3d}
_LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}


class Autoencoder(nn.Module):
    """Encoder of convolutions and max pooling, decoder of max-unpooling or transposed convolutions.

    There is no normalisation layer: features of a pixel depend on its surroundings only, never on
    the rest of the batch or tile, so that an image can be encoded in tiles. Initial weights are
    drawn from `generator`, by default from torch's global one. They are float32 on the CPU, or on
    `device`, whatever the defaults of torch are.
    """

    def __init__(
        self,
        architecture: Architecture,
        generator: torch.Generator | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.level_channels
        n_convolutions = architecture.convolutions
        placed: dict[str, Any] = {"dtype": torch.float32, "device": device}
        self.encoder = nn.ModuleList(
            _convolutions(
                widths[i], widths[i + 1], n_convolutions, architecture.kernel(i + 1), placed
            )
            for i in range(architecture.levels)
        )
        # Level i of the decoder goes from the resolution of code i back to that of level i - 1.
        self.grow = nn.ModuleList()
        if architecture.decoder == "transposed":
            transposed: Any = _TRANSPOSED[architecture.dimensions]
            pools = map(architecture.pool, range(1, architecture.levels + 1))
            self.grow.extend(
                transposed(w, w, pool, stride=pool, **placed)
                for w, pool in zip(widths[1:], pools, strict=True)
            )
        self.decoder = nn.ModuleList(
            # The first level ends in features of its own; `readout` makes them intensities.
            _convolutions(
                widths[i + 1], widths[max(i, 1)], n_convolutions, architecture.kernel(i + 1), placed
            )
            for i in range(architecture.levels)
        )
        readout = _CONVOLUTION[architecture.dimensions]
        self.readout = readout(widths[1], architecture.channels, 1, **placed)
        if device == "meta":  # for "meta", torch would import a thousand modules: 2 s
            return
        for module in self.modules():
            _initialise(module, generator)
        nn.init.normal_(self.readout.weight, std=0.1 / widths[1] ** 0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct (B, C, *space) images; space as of `encoder_features`."""
        return self.decoder_features(x)[0]

    def encoder_features(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        """Return activations of levels 0 .. `levels` of (B, C, *space); level 0 is the image.

        Space is (H, W) or (D, H, W), each a multiple of its `architecture.total_stride`. Level i
        has width * 2**(i-1) channels and the stride `architecture.stride(i)`.
        """
        features = [x]
        for i, level in enumerate(self.encoder[:levels]):
            x = level(max_pool(x, self.architecture.pool(i)) if i else x)
            features.append(x)
        return features

    def decoder_features(self, x: Tensor) -> list[Tensor]:
        """Return activations of the decoder, of each level at the resolution of the encoder."""
        architecture = self.architecture
        strict = torch.get_deterministic_debug_mode() == 2
        if architecture.decoder == "unpooling" and strict:
            raise InputError(
                "torch.use_deterministic_algorithms is on, which max-unpooling does not allow: "
                'turn it off, or choose decoder="transposed".'
            )
        pools = [architecture.pool(i) for i in range(1, architecture.levels + 1)]
        indices = []  # where the maxima were
        for level, size in zip(self.encoder, pools, strict=True):
            x = level(x)
            if architecture.decoder == "unpooling":
                x, index = _MAX_POOL[len(size)](x, size, return_indices=True)
                indices.append(index)
            else:
                x = max_pool(x, size)
        features = []
        for i, size in reversed(list(enumerate(pools))):
            x = _MAX_UNPOOL[len(size)](x, indices[i], size) if indices else self.grow[i](x)
            x = self.decoder[i](x)
            features.append(x)
        return [self.readout(x), *reversed(features)]  # level 0 is the reconstruction


def _convolutions(
    inputs: int, outputs: int, number: int, kernel: tuple[int, ...], placed: dict[str, Any]
) -> nn.Sequential:
    """Return convolutions, each with its non-linearity."""
    layers: list[nn.Module] = []
    padding = tuple(n // 2 for n in kernel)
    for i in range(number):
        # Both kinds take tuples of as many numbers as they have axes.
        kind: Any = _CONVOLUTION[len(kernel)]
        first = inputs if i == 0 else outputs
        layers.append(kind(first, outputs, kernel, padding=padding, **placed))
        layers.append(nn.LeakyReLU(0.1, inplace=True))  # with ReLU, many features are constant
    return nn.Sequential(*layers)


def _initialise(module: nn.Module, generator: torch.Generator | None) -> None:
    """He initialisation; torch's default loses two thirds of the variance in every layer.

    With it, training idles on a plateau for hundreds of steps.
    """
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(  # loss .020 after 200 steps; torch's default: .041 after 400
            module.weight, a=0.1, nonlinearity="leaky_relu", generator=generator
        )
    elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        # With kernels as long as strides, each output sees one input pixel.
        nn.init.normal_(module.weight, std=(2 / module.in_channels) ** 0.5, generator=generator)
    else:
        return
    nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def max_pool(x: Tensor, size: tuple[int, ...] = (2, 2)) -> Tensor:
    """Return the maximum of each window of 2 or 1 values along each of the last axes.

    An axis with a 2 has an even length. On CPUs, seven times as fast as torch's pooling, which
    also looks for the place of each maximum.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return _MAX_POOL[len(size)](x, size)
    for axis, n in enumerate(size, x.ndim - len(size)):
        if n == 2:
            before = (slice(None),) * axis
            x = torch.maximum(x[(*before, slice(0, None, 2))], x[(*before, slice(1, None, 2))])
    return x


def channels_last(x: Tensor) -> Tensor:
    """Return (B, C, *space) values laid out channels last, which CPUs convolve twice as fast."""
    return x.contiguous(memory_format=_LAYOUT[x.ndim - 2])


def move_to(network: Autoencoder, device: torch.device) -> Autoencoder:
    """Move a network to a device, its weights laid out channels last (twice as fast on CPUs)."""
    layout = _LAYOUT[network.architecture.dimensions]
    # torch's stubs do not know the argument.
    network.to(device, memory_format=layout)  # type: ignore[call-overload]
    return network


@torch.inference_mode(False)
def inference_copy(network: Autoencoder, device: torch.device) -> Autoencoder:
    """Return a copy on a device, for inference; later changes of the network do not reach it."""
    weights = {name: w.to(device, copy=True) for name, w in network.state_dict().items()}
    return move_to(from_weights(network.architecture, weights), device).eval()


def from_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> Autoencoder:
    """Return a network that takes over these weights."""
    # Without initial weights: memory is not taken twice, and no random numbers are drawn.
    network = Autoencoder(architecture, device="meta")
    network.load_state_dict(weights, assign=True)  # meta tensors have no data to copy to
    return network


def with_channels(network: Autoencoder, channels: int) -> Autoencoder:
    """Return a copy of a network, on the CPU, for another number of channels.

    The first convolution sees the channels mixed by `channel_mix`; no layer is added, its weights
    are mixed instead. The readout of a channel is the mean of those of the inputs that see
    it, weighted by how much they see.
    """
    inputs = network.architecture.channels
    mix = channel_mix(inputs, channels)
    unmix = mix.T / mix.sum(0)[:, None]
    weights = {name: w.to("cpu", copy=True) for name, w in network.state_dict().items()}
    mixtures = {
        "encoder.0.0.weight": ("oi...,ij->oj...", mix),
        "readout.weight": ("if...,ji->jf...", unmix),
        "readout.bias": ("i,ji->j", unmix),
    }
    for name, (equation, matrix) in mixtures.items():
        weights[name] = torch.einsum(equation, weights[name].double(), matrix).float()
    return from_weights(replace(network.architecture, channels=channels), weights)


def channel_mix(inputs: int, channels: int) -> torch.Tensor:
    """Return how much of each channel each input of a network sees: float64, (inputs, channels).

    Inputs and channels divide the same line evenly; an input sees the channels that it overlaps.
    One channel goes to all inputs, as many channels as inputs go one to one, and more channels
    than inputs are averaged in overlapping groups of neighbours. Rows sum to 1, so that equal
    channels give every input the same image.

    Examples
    --------
    >>> channel_mix(3, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    >>> channel_mix(3, 4).tolist()
    [[0.75, 0.25, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.25, 0.75]]
    """
    i = torch.arange(inputs, device="cpu")[:, None]
    j = torch.arange(
        channels, device="cpu"
    )  # the mean of all in every input: covering .73 instead of .97
    # In units of 1 / (inputs * channels), so that whole overlaps come out whole.
    start = torch.maximum(i * channels, j * inputs)
    end = torch.minimum((i + 1) * channels, (j + 1) * inputs)
    return (end - start).clamp(min=0).double() / channels
