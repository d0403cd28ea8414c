"""The observable state of the dock, without a window."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Image

from _napari.conftest import halves
from napari_aeseg import ComparisonParams, Cut, InputError, Merge, TrainingParams
from napari_aeseg._napari.layers.colors import class_color
from napari_aeseg._napari.layers.image_input import image_input
from napari_aeseg._napari.state import FIRST_CUT, ClassStyle, DockState, Origin, Result
from napari_aeseg._napari.work_requests import ObjectRequest


@pytest.fixture
def image():
    return Image(halves(), name="cells")


@pytest.fixture
def state(image, hierarchy):
    return DockState(images=(image,), results={image: Result(hierarchy, None, image_input(image))})


def test_a_field_tells_when_it_changes_and_only_then():
    state, cuts = DockState(), []
    state.events.cut.connect(lambda new, old: cuts.append((new.n_regions, old.n_regions)))

    state.change_cut(n_regions=4)
    state.change_cut(n_regions=4)
    state.change_comparison(balance=0.9)

    assert cuts == [(4, None)]
    assert state.comparison == ComparisonParams(balance=0.9)


def test_a_refused_value_changes_nothing():
    state = DockState()
    with pytest.raises(InputError, match="n_regions"):
        state.change_cut(n_regions=0)
    with pytest.raises(InputError, match="balance"):
        state.change_comparison(balance=2)

    assert (state.cut, state.comparison) == (FIRST_CUT, ComparisonParams())


def test_a_message_is_emitted_each_time():
    state, messages = DockState(), []
    state.events.message.connect(messages.append)
    state.message = state.message = "again"

    assert messages == ["again", "again"]


def test_the_preset_follows_from_the_parameters_without_the_seed():
    state = DockState()
    state.training = TrainingParams.preset("fast").updated(seed=7)
    assert state.preset == "fast"
    state.preset = "thorough"
    assert state.training == TrainingParams.preset("thorough").updated(seed=7)
    state.training = TrainingParams(steps=3)
    assert state.preset is None


def test_hierarchies_are_those_of_chosen_images(state, image, hierarchy):
    assert state.hierarchies == {image: hierarchy}
    assert state.hierarchy is hierarchy
    assert state.max_regions == hierarchy.n_patches
    state.images = ()
    assert (state.hierarchies, state.hierarchy, state.first_image) == ({}, None, None)
    assert state.max_regions == 1


def test_edits_stay_when_the_patches_are_the_same_and_go_with_them(state, image, hierarchy, model):
    import napari_aeseg as aeseg

    edits = (Merge((0, 1)),)
    state.change_result(image, edits=edits)
    read = image_input(image)
    assert state.add_result(image, Result(hierarchy.reweighted(balance=0.9), model, read))
    assert state.results[image].edits == edits

    params = aeseg.SegmentationParams(patch_size=24)  # both are in one patch
    other = aeseg.build_hierarchy(halves(), model, params=params, device="cpu")
    assert not state.add_result(image, Result(other, model, read))
    assert state.results[image].edits == ()


@pytest.mark.parametrize("refine", [False, True])
def test_labels_of_regions_have_the_edits_of_their_image(state, image, hierarchy, refine):
    plain = state.labels(image, Cut(n_regions=4, refine=refine), image)
    assert np.array_equal(plain, hierarchy.regions(4, refine=refine))
    regions = hierarchy.region_of_patch(4)
    edits = (Merge(tuple(int(np.flatnonzero(regions == label)[0]) for label in (1, 2))),)
    state.change_result(image, edits=edits)

    cut = Cut(n_regions=4, refine=refine)
    edited = state.labels(image, cut, image)
    assert len(np.unique(edited)) == 3
    assert np.array_equal(edited, replace(cut, edits=edits).labels(hierarchy))
    classes = state.labels(image, Cut("classes", n_classes=2, refine=refine), image)
    assert np.array_equal(classes, hierarchy.classes(2, refine=refine))


def test_objects_are_known_only_for_what_was_searched(state, image, hierarchy):
    cut = Cut("objects", min_size=9)
    with pytest.raises(InputError, match="still being detected"):
        state.labels(image, cut, image)
    labels = np.ones((48, 48), np.int32)
    state.objects = {image: (state.object_request(image, cut), labels)}

    assert state.objects_of(image, cut) is labels
    assert state.objects_of(image, Cut("objects", min_size=8)) is None
    # Objects by brightness do not depend on how patches are compared.
    state.change_result(image, hierarchy=hierarchy.reweighted(balance=0.9))
    assert state.objects_of(image, cut) is labels
    state.drop_results([image])
    assert state.objects_of(image, cut) is None
    assert state.objects == {}


def test_objects_in_classes_depend_on_the_hierarchy_and_the_classes(hierarchy):
    cut = Cut("objects", n_classes=2, class_ids=(2,))
    request = ObjectRequest(hierarchy, cut, None)

    assert request.gives_same(ObjectRequest(hierarchy, cut, None))
    others = (
        ObjectRequest(hierarchy, Cut("objects", n_classes=3, class_ids=(2,)), None),
        ObjectRequest(hierarchy, Cut("objects", n_classes=2, class_ids=(1,)), None),
        ObjectRequest(hierarchy.reweighted(balance=0.9), cut, None),
        ObjectRequest(hierarchy, cut, hierarchy.prototypes(2)),
    )
    assert not any(request.gives_same(other) for other in others)


def test_classes_without_a_name_or_colour_have_default_ones():
    style = ClassStyle(names=("gland",), colors=("#112233",))

    assert style.names_of(3) == ("gland", "class 2", "class 3")
    assert style.colors_of(2) == ("#112233", class_color(2))


def test_a_model_brings_its_classes_and_takes_them_away(state, model, hierarchy):
    model.prototypes = hierarchy.prototypes(2)
    state.assign_model(model, state.origin)
    assert state.classes.fixed_for(state.first_result) is model.prototypes
    assert state.n_classes == 2
    assert next(iter(state.results.values())).model is model

    state.assign_model(None, state.origin)
    assert state.classes.prototypes is None
    assert state.n_classes == state.cut.n_classes


def test_a_session_keeps_its_newest_models(model):
    state = DockState()
    models = [copy(model) for _ in range(10)]
    for number, one in enumerate(models):
        state.assign_model(one, Origin(str(number)))

    assert list(state.models) == models[-8:]
    assert [origin.text for origin in state.models.values()] == list("23456789")
