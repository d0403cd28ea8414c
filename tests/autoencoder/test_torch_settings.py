"""Settings of torch by the caller: they change no result, and stay as they are."""

from contextlib import contextmanager
from threading import Event, Thread

import numpy as np
import pytest
import torch

import napari_aeseg as aeseg
from napari_aeseg.autoencoder.device import number_of_threads, use_one_thread

IMAGE = np.random.default_rng(0).random((64, 72)).astype(np.float32)
PARAMS = aeseg.TrainingParams(steps=3, width=4, crop_size=32, batch_size=2)


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


@contextmanager
def without_gradients():
    torch.set_grad_enabled(False)
    try:
        yield
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


@contextmanager
def inference():
    with torch.inference_mode():
        yield
        assert torch.is_inference_mode_enabled()


@contextmanager
def autocast():
    with torch.autocast("cpu", torch.bfloat16):
        yield
        assert torch.is_autocast_enabled("cpu")


def results(path):
    """Everything that networks are used for."""
    model = aeseg.train(IMAGE, PARAMS, device="cpu", preview_seconds=0, snapshot_seconds=0)
    stopped = aeseg.train(IMAGE, PARAMS, device="cpu", stop=After(4))
    stopped.save(path)
    resumed = aeseg.train(IMAGE, device="cpu", init=path, resume=True)
    base = aeseg.load_model("base")
    from_base = aeseg.train(IMAGE, PARAMS, device="cpu", init=base)
    return [
        *(m.fingerprint for m in (model, stopped, resumed, from_base)),
        base.features(IMAGE, device="cpu"),
        base.reconstruct(IMAGE, device="cpu"),
        aeseg.build_hierarchy(IMAGE, base, device="cpu").regions(5),
    ]


class After:
    """A stop flag that is set after some looks."""

    def __init__(self, looks):
        self.looks = looks

    def is_set(self):
        self.looks -= 1
        return self.looks < 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return results(tmp_path_factory.mktemp("models") / "a.aeseg.safetensors")


@pytest.mark.parametrize(
    "setting", [default_dtype, default_device, without_gradients, inference, autocast]
)
def test_settings_of_the_caller_change_no_result_and_stay(tmp_path, undisturbed, setting):
    """Each of them ended in an error of torch."""
    with setting():
        found = results(tmp_path / "a.aeseg.safetensors")
    for one, other in zip(found, undisturbed, strict=True):
        assert np.array_equal(one, other)


@pytest.fixture
def two_threads():
    """Torch with two threads, while other threads ask for one as encoding does."""
    before, end = torch.get_num_threads(), Event()
    torch.set_num_threads(2)

    def encode():
        while not end.is_set():
            use_one_thread(2)

    encoding = [Thread(target=encode) for _ in range(2)]
    for thread in encoding:
        thread.start()
    yield
    end.set()
    for thread in encoding:
        thread.join()
    torch.set_num_threads(before)


def in_new_threads(work, number):
    """The results of work in new threads, one after the other."""
    found = []
    for _ in range(number):
        thread = Thread(target=lambda: found.append(work()))
        thread.start()
        thread.join()
    return found


@pytest.mark.usefixtures("two_threads")
def test_threads_that_encode_do_not_change_the_number_in_others():
    assert set(in_new_threads(number_of_threads, 100)) == {2}


@pytest.mark.usefixtures("two_threads")
def test_trainings_in_threads_are_the_same_while_others_encode():
    """A third of them had one thread instead of two, and other weights."""

    def train():
        return aeseg.train(IMAGE, PARAMS, device="cpu").fingerprint

    assert len({train(), *in_new_threads(train, 3)}) == 1


def test_max_unpooling_with_deterministic_algorithms_is_refused_with_words():
    params = PARAMS.updated(decoder="unpooling")
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(
            aeseg.InputError, match=r"use_deterministic_algorithms is on.*transposed"
        ):
            aeseg.train(IMAGE, params, device="cpu")
        assert aeseg.train(IMAGE, PARAMS, device="cpu").losses
    finally:
        torch.use_deterministic_algorithms(False)
