"""Objects in classes: the classes are those of the image in hand, wherever they are looked for."""

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from .conftest import add_image, halves


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


def test_a_folder_gets_the_classes_of_the_image_and_nothing_else_changes(bright_objects, tmp_path):
    image = (halves() * 100).clip(0, 255).astype(np.uint8)
    imageio.imwrite(tmp_path / "one.png", image[:, ::-1])
    bright_objects.mode, bright_objects.class_names = "classes", ("dark", "bright")
    before = bright_objects._state.classes
    reports = []
    bright_objects.batch_done.connect(reports.append)
    bright_objects.segment_folder(tmp_path)
    bright_objects.wait(20)

    assert reports[0].summary == "1 file: 1 done"
    assert bright_objects._state.classes is before
    assert bright_objects.model.prototypes is None
    labels = tifffile.imread(tmp_path / "segments" / "one_labels.tif")
    assert (labels[24, 4], labels[24, 44]) == (2, 1)
    table = (tmp_path / "segments" / "one_table.csv").read_text()
    assert "bright" in table


def test_other_images_get_the_classes_of_the_one_in_hand(widget):
    mirrored = add_image(widget, np.ascontiguousarray(halves()[:, ::-1]), "mirrored")
    widget.mode, widget.n_classes = "classes", 2
    widget.segment()
    widget.wait(20)
    widget.apply_to_all()
    widget.wait(20)

    assert not widget.classes_fixed
    assert widget._state.example is mirrored
    assert len(widget.previews) == 2
    for image, preview in widget.previews.items():
        assert preview.data[24, [4, 44]].tolist() == ([2, 1] if image is mirrored else [1, 2])
    assert "tree_1.prototypes(2)" in widget.script


def test_objects_are_detected_in_the_classes_of_the_example(bright_objects):
    add_image(bright_objects, np.ascontiguousarray(halves()[:, ::-1]), "mirrored", choose=False)
    bright_objects.apply_to_all()
    bright_objects.wait(30)

    assert not bright_objects.classes_fixed
    requests = [request for request, _ in bright_objects._state.objects.values()]
    assert [request.prototypes is None for request in requests] == [True, False]


def test_an_image_with_other_channels_has_classes_of_its_own(widget):
    widget.mode, widget.n_classes = "classes", 2
    widget.segment()
    widget.wait(20)
    rgb = np.stack([halves()] * 3, axis=-1).clip(0, 1)
    colour = add_image(widget, rgb, "colour", choose=False, rgb=True)
    for fixed in (False, True):
        if fixed:
            widget.classes_fixed = True
        widget.images = widget.viewer_model.layers["halves"], colour
        widget.segment()
        widget.wait(30)

        assert widget.previews[colour].data[24, [4, 44]].tolist() == [1, 2]
        assert ("classes of its own" in widget._dock.status.text.text()) == fixed
