"""Where the autoencoder fails: how far its reconstruction is from the image, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_aeseg.autoencoder.device import choose_device
from napari_aeseg.autoencoder.planning import places
from napari_aeseg.events import Clock, Progress, raise_if_stopped

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import StopFlag
    from napari_aeseg.images.intensity import Image


def error_steps(
    model: Model,
    image: Image,
    device: str = "auto",
    tile_size: int = 512,
    stop: StopFlag | None = None,
) -> Generator[Progress, None, np.ndarray]:
    """Compare an image with its reconstruction; a generator of events that returns the error.

    Parameters
    ----------
    model : Model
    image : Image
        From `model.read`.
    device : str
    tile_size : int
        Pixels along each side; the result does not depend on it.
    stop : StopFlag, optional
        Checked at every tile.

    Yields
    ------
    Progress
        Of the stage "error".

    Returns
    -------
    ndarray of float32, shape of the space axes in the order of the image
        Mean over channels of the squared difference, both scaled as for the network.

    Raises
    ------
    StoppedError
        When asked to stop.
    DeviceError
        If the device is not there.
    """
    chosen = choose_device(device)
    space = image.pixels.shape[1:]
    error = np.empty(space, np.float32)
    total = len(places(model.architecture, space, tile_size))
    clock = Clock(total)
    tiles = model.encode_tiles(image, (0,), "decoder", chosen, tile_size)
    for done, encoded in enumerate(tiles, 1):
        # An index of slices and numbers is more than numpy's stubs can follow.
        here: Any = (*encoded.plane, *encoded.tile.inner)
        whole: Any = (slice(None), *here)
        rebuilt = encoded.features[0][(slice(None), *encoded.tile.keep)]
        with torch.inference_mode():
            pixels = torch.from_numpy(image.pixels[whole]).to(chosen)
            difference = (rebuilt.float() - pixels).square().mean(dim=0)
        error[here] = difference.cpu().numpy()
        yield Progress("error", done, total, str(chosen), clock.seconds_left(done))
        raise_if_stopped(stop, "error")
    return image.axes.as_given(error)
