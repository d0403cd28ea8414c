import re

import numpy as np

import joining
from napari_aeseg import samples


def test_mosaics_stand_side_by_side():
    image, truth = joining.mosaic(2)
    assert image.shape == truth.shape == (768, 768)
    assert np.array_equal(image[384:, :384], samples.textures(2))
    assert np.array_equal(truth[:384, 384:], samples.textures_truth(1))


def test_fewer_patches_are_scored(capsys):
    joining.main(["--tiles", "1", "--pixels", "64", "500"])
    lines = capsys.readouterr().out.splitlines()[1:]
    number, covering, iou = np.array(
        [
            re.findall(r"(\d+) patches.*covering (\S+), .* classes (\S+),", line)[0]
            for line in lines
        ],
        float,
    ).T
    assert number[0] == 384**2 / 64 > 384**2 / 500 >= number[1]
    assert np.all((covering > 0.4) & (covering <= 1))
    assert np.all((iou > 0.3) & (iou <= 1))
