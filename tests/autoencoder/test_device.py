from types import SimpleNamespace

import pytest
import torch

from napari_aeseg.autoencoder.device import (
    _tf32_setting,
    available_devices,
    choose_device,
    precision_used,
    without_tf32,
)
from napari_aeseg.errors import DeviceError


def test_cpu_is_always_there_and_last():
    assert available_devices()[-1] == "cpu"
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_takes_the_best(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available_devices() == ["cuda:0", "cuda:1", "mps", "cpu"]
    assert choose_device() == torch.device("cuda:0")
    assert choose_device("cuda") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("mps") == torch.device("mps")


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "gpu", ""])
def test_absent_device_is_refused_with_those_there(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"choose one of: \['cpu'\]") as error:
        choose_device(device)
    assert repr(device) in str(error.value)


@pytest.mark.parametrize(
    ("device", "capability", "setting", "expected"),
    [
        ("cpu", (9, 0), "tf32", "float32"),
        ("mps", (9, 0), "tf32", "float32"),
        ("cuda:0", (9, 0), "tf32", "tf32"),
        ("cuda:0", (8, 0), "tf32", "tf32"),
        ("cuda:0", (7, 5), "tf32", "float32"),
        ("cuda:0", (9, 0), "ieee", "float32"),
    ],
)
def test_precision_is_what_convolutions_really_use(
    monkeypatch, device, capability, setting, expected
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    module = SimpleNamespace(fp32_precision=setting)
    monkeypatch.setattr(torch.backends.cudnn, "conv", module, raising=False)
    assert precision_used(torch.device(device)) == expected
    # Before torch 2.9.
    monkeypatch.setattr(torch.backends.cudnn, "conv", None)
    monkeypatch.setattr(type(torch.backends.cudnn), "allow_tf32", setting == "tf32")
    assert precision_used(torch.device(device)) == expected


def test_encoding_on_cuda_is_not_rounded_and_the_setting_is_restored(monkeypatch):
    cuda = torch.device("cuda:0")
    conv = SimpleNamespace(fp32_precision="tf32")
    monkeypatch.setattr(torch.backends.cudnn, "conv", conv, raising=False)
    with without_tf32(torch.device("cpu")):
        assert conv.fp32_precision == "tf32"
    with without_tf32(cuda):
        assert conv.fp32_precision == "ieee"
    assert conv.fp32_precision == "tf32"
    with pytest.raises(ZeroDivisionError), without_tf32(cuda):
        1 / 0  # noqa: B018
    assert conv.fp32_precision == "tf32"
    # Before torch 2.9.
    monkeypatch.setattr(torch.backends.cudnn, "conv", None)
    monkeypatch.setattr(type(torch.backends.cudnn), "allow_tf32", True)
    with without_tf32(cuda):
        assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is True


def test_torch_has_the_setting():
    holder, name, off = _tf32_setting()
    before = getattr(holder, name)
    with without_tf32(torch.device("cuda:0")):
        assert getattr(holder, name) == off != before
    assert getattr(holder, name) == before
