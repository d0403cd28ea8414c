"""Images worked on in blocks, in the dock: previews are lazy and follow the controls."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image
from napari.utils import interactions
from napari.utils._proxies import ReadOnlyWrapper

from _napari.conftest import measured
from napari_aeseg._napari.drafts import digest_of, draft_of
from napari_aeseg.errors import InputError
from napari_aeseg.large import build as building

from .conftest import halves


@pytest.fixture
def large(widget, model, monkeypatch):
    """The widget with a preview of a lazy image that counts as a large one."""
    monkeypatch.setattr(building, "_LAZY_PIXELS", 1000)
    monkeypatch.setattr(building, "_MAX_BLOCK_PIXELS", 2**12)
    monkeypatch.setattr(building, "_MIN_BLOCK_PIXELS", 2**12)
    monkeypatch.setattr("napari_aeseg.large.block_store._SCREEN", 64)
    image = np.kron(np.ones((4, 4)), halves())
    layer = Image(da.from_array(image, chunks=32), name="large")
    widget.viewer_model.add_layer(layer)
    widget.images = [layer]
    widget.model = model
    widget.segment()
    widget.wait(60)
    return widget


def test_the_preview_is_lazy_and_follows_the_controls_in_the_same_layer(large):
    preview = large.preview
    assert preview.multiscale
    assert isinstance(preview.data[0], da.Array)
    assert preview.data.shape == large.images[0].data.shape
    assert preview.data[1].shape[0] == -(-preview.data.shape[0] // 2)

    for number in (2, 5):
        large.n_regions = number
        large.wait(60)
        assert large.preview is preview
        assert len(np.unique(preview.data[0].compute())) == number
    large.mode = "classes"
    large.n_classes = 2
    large.wait(60)
    assert set(np.unique(large.preview.data[0].compute())) == {1, 2}


def test_work_by_hand_is_in_the_draft(large):
    large.n_regions = 6
    large.merge((4, 4), (4, 150))
    strokes = large.paint()
    strokes.data[10:12, 10:20] = 2
    (image,) = large.images
    draft = draft_of(large._state, image)
    assert len(draft.cut.edits) == 1
    assert np.array_equal(draft.strokes, strokes.data)
    assert draft.patches is None  # which are on disk
    same, other = Image(image.data, name="large"), Image(image.data, name="other")
    assert digest_of(image) == digest_of(same) != digest_of(other)


def test_kept_labels_are_those_shown(large):
    large.n_regions = 4
    large.wait(60)
    expected = large.preview.data[0].compute()
    (kept,) = large.keep()
    large.n_regions = 2
    large.wait(60)
    assert np.array_equal(kept.data[0].compute(), expected)
    assert sorted(measured(kept)["index"]) == [1, 2, 3, 4]


def test_kept_labels_follow_the_pixels(large):
    large.refine, large.n_regions = True, 9
    large.wait(60)
    (kept,) = large.keep()
    labels = kept.data[0].compute()
    assert np.array_equal(labels, large.hierarchy.regions(9).compute())
    assert (labels != large.preview.data[0].compute()).any()
    assert sorted(measured(kept)["index"]) == [*range(1, 10)]


def test_objects_are_shown_and_kept(large):
    large.mode = "objects"
    large.wait(60)
    (kept,) = large.keep()
    labels = kept.data[0] if kept.multiscale else kept.data
    assert np.array_equal(np.asarray(labels), np.asarray(large.hierarchy.objects()))
    assert len(measured(kept)) == np.asarray(labels).max()


def test_looking_inside_says_that_it_needs_the_whole_image(large):
    for what in ("features", "border strength", "reconstruction error"):
        with pytest.raises(InputError, match="open a part of it"):
            large.look(what)
            large.wait(60)


def test_the_script_makes_the_same_labels(large, tmp_path, monkeypatch):
    import zarr

    monkeypatch.chdir(tmp_path)
    layer = large.images[0]
    stored = zarr.create_array(store="large.zarr", data=layer.data.compute(), chunks=(32, 32))
    assert stored.shape == layer.data.shape
    source = layer.source.model_copy(update={"path": str(tmp_path / "large.zarr")})
    monkeypatch.setattr(type(layer), "source", source)
    large.segment()
    large.n_regions = 5
    large.wait(60)
    expected = large.preview.data[0].compute()
    script = large.script
    assert "write_labels(" in script
    exec(compile(script, "script", "exec"), {})
    (written,) = tmp_path.glob("*.ome.zarr")
    assert np.array_equal(zarr.open_group(str(written))["0"][:], expected)


def test_regions_of_a_large_image_are_merged_by_dragging(large):
    large.n_regions = 5
    large.wait(60)
    preview = large.preview
    labels = preview.data[0].compute()
    one, other = (tuple(np.argwhere(labels == label)[0]) for label in (1, 2))
    large.tool = "merge"

    def event(kind, place):
        position = preview.data_to_world(place)
        return ReadOnlyWrapper(
            SimpleNamespace(button=1, type=kind, position=position, is_dragging=True)
        )

    interactions.mouse_press_callbacks(preview, event("mouse_press", one))
    interactions.mouse_move_callbacks(preview, event("mouse_move", other))
    interactions.mouse_release_callbacks(preview, event("mouse_release", other))
    large.wait(60)

    merged = large.preview.data[0].compute()
    assert merged[one] == merged[other]
    assert large.undo()


def test_borders_follow_the_pixels_where_they_are_seen(large):
    large.refine, large.n_regions = True, 9
    large.wait(60)
    preview, tree = large.preview, large.hierarchy
    coarse, expected = tree.regions(9, refine=False).compute(), tree.regions(9).compute()
    assert np.array_equal(preview.data[0].compute(), coarse)  # a coarser level is shown
    y = np.argwhere(coarse != expected)[0][0] // 64 * 64
    preview.data_level, preview.corner_pixels = 0, np.array([[y, 0], [y + 63, 191]])
    large.wait(60)
    found = preview.data[0].compute()
    assert np.array_equal(found[y : y + 64], expected[y : y + 64])
    assert np.array_equal(
        np.delete(found, slice(y, y + 64), 0), np.delete(coarse, slice(y, y + 64), 0)
    )
    assert preview.data_level == 0
    large.refine = False
    large.wait(60)
    assert np.array_equal(preview.data[0].compute(), coarse)


def test_a_saved_hierarchy_opens_without_its_image(large, tmp_path):
    path = tmp_path / "large.aeseg.zarr"
    large.n_regions = 5
    large.save_hierarchy(path)
    expected = large.preview.data[0].compute()
    large.viewer_model.layers.clear()

    for _ in range(2):  # opened again, in the same layer
        large.open_hierarchy(path)
        large.wait(60)

    assert len(large.viewer_model.layers) == 2
    assert np.array_equal(large.preview.data[0].compute(), expected)
