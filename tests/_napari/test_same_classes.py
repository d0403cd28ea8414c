"""Objects in classes: the classes are those of the image in hand, wherever they are looked for."""

import imageio.v3 as imageio
import numpy as np
import pytest

from .conftest import halves


@pytest.fixture
def bright_objects(widget):
    """The widget, looking for objects in the bright one of two classes."""
    widget.segment()
    widget.wait(20)
    widget.n_classes = 2
    widget.mode = "objects"
    widget.class_ids = (2,)
    widget.wait(20)
    return widget


def test_a_folder_gets_the_classes_of_the_image(bright_objects, tmp_path):
    expected = bright_objects.hierarchy.prototypes(2).centres
    image = (halves() * 100).clip(0, 255).astype(np.uint8)
    imageio.imwrite(tmp_path / "one.png", image[:, ::-1])
    reports = []
    bright_objects.batch_done.connect(reports.append)
    bright_objects.segment_folder(tmp_path)
    bright_objects.wait(20)
    assert reports[0].summary == "1 file: 1 done"
    assert np.array_equal(bright_objects.model.prototypes.centres, expected)


def test_other_images_get_them_too(bright_objects):
    assert not bright_objects.classes_fixed
    bright_objects.apply_to_all()
    bright_objects.wait(20)
    assert bright_objects.classes_fixed


def test_whatever_stands_out_needs_no_classes(bright_objects):
    bright_objects.class_ids = None
    bright_objects.apply_to_all()
    bright_objects.wait(20)
    assert not bright_objects.classes_fixed
