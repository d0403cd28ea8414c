"""AdamW by the function of PyTorch: its class imports 800 modules more, for a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from napari_aeseg.autoencoder.network import Autoencoder

#: What AdamW keeps for each weight: means of its gradients and of their squares.
ADAM_STATE = ("exp_avg", "exp_avg_sq")


class AdamW:
    """Takes the steps of `torch.optim.AdamW`, bit for bit.

    `moments` are named "exp_avg.<weight>" and "exp_avg_sq.<weight>": those after so many `steps`,
    by default the zeros with which it begins.
    """

    def __init__(
        self,
        network: Autoencoder,
        weight_decay: float = 0.01,
        steps: int = 0,
        moments: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.steps, self.learning_rate = steps, 1e-3
        self._weight_decay = weight_decay
        self._weights = dict(network.named_parameters())
        # Laid out in memory as the weights are, so that sums are rounded alike.
        self.moments = {
            f"{key}.{name}": torch.zeros_like(weight, requires_grad=False)
            for name, weight in self._weights.items()
            for key in ADAM_STATE
        }
        if moments is not None:
            for name, values in self.moments.items():
                values.copy_(moments[name])

    def move_to(self, device: torch.device) -> None:
        """Bring the moments to a device; the weights move with their network."""
        self.moments = {name: values.to(device) for name, values in self.moments.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights by their gradients."""
        gradients = {n: w.grad for n, w in self._weights.items() if w.grad is not None}
        steps = [torch.tensor(float(self.steps), device="cpu") for _ in gradients]
        mean, square = ([self.moments[f"{key}.{n}"] for n in gradients] for key in ADAM_STATE)
        adamw(
            [self._weights[name] for name in gradients],
            list(gradients.values()),
            mean,
            square,
            [],
            steps,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=self._weight_decay,
            eps=1e-8,
            maximize=False,
        )
        self.steps += 1  # not before: memory may run out in the middle
