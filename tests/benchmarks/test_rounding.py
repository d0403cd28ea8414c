import re

import torch

import rounding


def test_ten_bits_are_left():
    x = torch.linspace(-3, 3, 1001)
    found = rounding.rounded(x)
    assert not torch.equal(found, x)
    assert torch.equal(rounding.rounded(found), found)
    assert float(((found - x).abs() / x.abs().clamp(min=1e-9)).max()) <= 2**-11


def test_convolutions_are_exact_again():
    layer, x = torch.nn.Conv2d(1, 4, 3), torch.rand(1, 1, 9, 9)
    with torch.inference_mode():
        before = layer(x)
        for kind, most in ((rounding.tf32, 1e-2), (rounding.spoilt(1e-4), 1e-3)):
            with rounding.convolutions(kind):
                found = layer(x)
            assert 0 < float((found - before).abs().max()) < most
        assert torch.equal(layer(x), before)


def test_a_mosaic_is_compared(capsys):
    rounding.main(["--mosaics", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 * 4
    means = {line.split()[0]: float(re.search(r"mean (\S+),", line)[1]) for line in lines}
    assert means["float32"] == 1
    assert means["bfloat16"] < 1
