import threading

import numpy as np
import pytest

from napari_aeseg.autoencoder.model import error_steps
from napari_aeseg.errors import DeviceError, InputError, StoppedError
from napari_aeseg.progress import drain

GREY = np.random.default_rng(0).random((45, 38))
COLOUR = np.random.default_rng(1).random((3, 30, 41))


def by_hand(model, image, axes=None):
    """Image and reconstruction, both as scaled for the network."""
    scaled = model.features(image, [0], axes=axes, device="cpu")
    rebuilt = model.features(image, [0], source="decoder", axes=axes, device="cpu")
    return ((scaled - rebuilt) ** 2).mean(axis=0)


@pytest.mark.parametrize(
    ("image", "axes", "shape"),
    [
        (GREY, "YX", (45, 38)),
        (GREY, "XY", (45, 38)),
        (COLOUR, "CYX", (30, 41)),
        (np.moveaxis(COLOUR, 0, -1), "YXC", (30, 41)),
        (COLOUR, "ZYX", (3, 30, 41)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_error_is_the_mean_squared_difference(make_model, image, axes, shape):
    model = make_model(channels=3 if "C" in axes else 1)
    error = model.reconstruction_error(image, axes, device="cpu")
    assert error.dtype == np.float32
    assert error.shape == shape
    np.testing.assert_allclose(error, by_hand(model, image, axes), atol=1e-5)


def test_error_does_not_depend_on_the_tiles(make_model):
    model = make_model()
    read = model.read(GREY)
    whole, tiled = (drain(error_steps(model, read, "cpu", size)) for size in (512, 16))
    np.testing.assert_allclose(whole, tiled, atol=1e-5)


def test_unlike_the_rest_is_reconstructed_worse(model, stripes):
    odd = stripes.copy()
    odd[20:28, 6:14] = np.where(np.indices((8, 8)).sum(axis=0) % 2, 180, 20)
    error = model.reconstruction_error(odd, device="cpu")
    assert error[20:28, 6:14].mean() > 2 * np.delete(error[:, :18], slice(18, 30), 0).mean()


def test_progress_counts_tiles(make_model):
    model = make_model()
    events = []
    drain(error_steps(model, model.read(GREY), "cpu", 16), events.append)
    assert [event.done for event in events] == list(range(1, 10))
    assert {(event.stage, event.total, event.device) for event in events} == {("error", 9, "cpu")}


def test_it_stops_at_the_next_tile(make_model):
    model, stop = make_model(), threading.Event()
    work = error_steps(model, model.read(GREY), "cpu", 16, stop)
    next(work)
    stop.set()
    with pytest.raises(StoppedError, match="'error'"):
        next(work)


def test_what_cannot_be_used_is_refused(make_model):
    with pytest.raises(InputError, match=r"channel.*trained on 3\."):
        make_model(channels=3).reconstruction_error(GREY, device="cpu")
    with pytest.raises(DeviceError, match="'cuda:99'"):
        make_model().reconstruction_error(GREY, device="cuda:99")


def test_error_of_a_model_for_any_channels(make_model):
    model = make_model(channels=3, any_channels=True)
    for image, axes in ((GREY, "YX"), (COLOUR[:2], "CYX")):
        error = model.reconstruction_error(image, axes, device="cpu")
        np.testing.assert_allclose(error, by_hand(model, image, axes), atol=1e-5)
