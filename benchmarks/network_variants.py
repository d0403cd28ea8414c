"""Networks beside the default one, most of which `Architecture` cannot express.

They are put into the package's own training and encoding by `installed`, for as long as it lasts:
the package itself stays as it is.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal
from unittest.mock import patch

from torch import Tensor, nn
from torch.nn import functional as F

import napari_aeseg as aeseg
from napari_aeseg.autoencoder import network, trainer
from napari_aeseg.autoencoder import trainer as building
from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.network import Autoencoder, max_pool

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Variant:
    """A network; what is not said is as in the default one."""

    name: str
    levels: int = 3
    width: int = 16
    convolutions: int = 2
    activation: Literal["LeakyReLU", "ReLU", "GELU", "SiLU"] = "LeakyReLU"
    down: Literal["maxima", "means", "strides"] = "maxima"
    separable: bool = False
    #: Pixels from one value of level 1 to the next.
    stem: Literal[1, 2] = 1

    def params(self, **changes: object) -> aeseg.TrainingParams:
        """Return the training parameters that ask for this network."""
        shape = {"levels": self.levels, "width": self.width, "convolutions": self.convolutions}
        return aeseg.TrainingParams(**shape, **changes)


DEFAULT = Variant("default: 3 levels of 16, 32, 64")
VARIANTS = {
    v.name: v
    for v in (
        DEFAULT,
        Variant("2 levels", levels=2),
        Variant("4 levels", levels=4),
        Variant("width 8", width=8),
        Variant("width 12", width=12),
        Variant("width 24", width=24),
        Variant("width 32", width=32),
        Variant("1 convolution", convolutions=1),
        Variant("strides", down="strides"),
        Variant("means", down="means"),
        Variant("separable", separable=True),
        Variant("ReLU", activation="ReLU"),
        Variant("GELU", activation="GELU"),
        Variant("SiLU", activation="SiLU"),
        Variant("half resolution", stem=2),
        # What is saved, spent on width.
        Variant("half resolution, width 32", stem=2, width=32),
    )
}


class HalfArchitecture(Architecture):
    """Every level at half the resolution that it has in `Architecture`."""

    __slots__ = ()

    @property
    def reduction(self) -> tuple[int, ...]:
        return tuple(2 * n for n in super().reduction)

    def receptive_radius(self, *, decoded: bool) -> tuple[int, ...]:
        return tuple(2 * n for n in super().receptive_radius(decoded=decoded))

    def stride(self, level: int) -> tuple[int, ...]:
        return tuple(2 * n if level else n for n in super().cell(level))


class VariantNetwork(Autoencoder):
    """An `Autoencoder` rebuilt as its variant says."""

    variant: ClassVar[Variant]

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        widths = architecture.level_channels
        for part in (*self.encoder, *self.decoder):
            self._rebuild(part)
        if self.variant.down == "strides":
            for level in self.encoder[1:]:
                level[0].stride = (2, 2)
            self.last = nn.Conv2d(widths[-1], widths[-1], 3, stride=2, padding=1)
            network._initialise(self.last)
        if self.variant.stem == 2:
            self.encoder[0][0].stride = (2, 2)
            self.readout = nn.ConvTranspose2d(widths[1], widths[0], 2, stride=2)
            nn.init.normal_(self.readout.weight, std=0.1 / widths[1] ** 0.5)
            nn.init.zeros_(self.readout.bias)

    def _rebuild(self, part: nn.Sequential) -> None:
        """Change the convolutions and non-linearities of a level."""
        for i, layer in enumerate(part):
            if isinstance(layer, nn.LeakyReLU) and self.variant.activation != "LeakyReLU":
                kind = getattr(nn, self.variant.activation)
                part[i] = kind() if kind is nn.GELU else kind(inplace=True)
            # The few channels of an image leave nothing to separate.
            elif (
                self.variant.separable
                and isinstance(layer, nn.Conv2d)
                and layer.in_channels > self.architecture.channels
            ):
                part[i] = separable(layer.in_channels, layer.out_channels)

    def _down(self, x: Tensor) -> Tensor:
        if self.variant.down == "means":
            return F.avg_pool2d(x, 2)
        # The first convolution of the next level takes strides instead.
        return x if self.variant.down == "strides" else max_pool(x)

    def encoder_features(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        features = [x]
        for i, level in enumerate(self.encoder[:levels]):
            x = level(self._down(x) if i else x)
            features.append(x)
        return features

    def _encode(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        features = self.encoder_features(x)
        strided = self.variant.down == "strides"
        return features, [], self.last(features[-1]) if strided else self._down(features[-1])


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3 x 3 convolution of each channel, then a 1 x 1 convolution of all."""
    each = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    nn.init.kaiming_normal_(each.weight, nonlinearity="linear")
    mixed = nn.Conv2d(inputs, outputs, 1)
    network._initialise(mixed)
    return nn.Sequential(each, mixed)


@contextmanager
def installed(variant: Variant) -> Iterator[None]:
    """Let the package train and encode with a variant."""
    made = type("Installed", (VariantNetwork,), {"variant": variant})
    with ExitStack() as patches:
        for module in (network, trainer):
            patches.enter_context(patch.object(module, "Autoencoder", made))
        if variant.stem == 2:
            patches.enter_context(patch.object(building, "Architecture", HalfArchitecture))
        yield
