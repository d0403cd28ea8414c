"""Borders that follow the pixels: shown a moment after those of the patches."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def smooth(segmented):
    segmented.refine = True
    segmented.wait(20)
    return segmented


def test_labels_of_patches_are_shown_at_once_and_refined_ones_in_a_moment(smooth):
    tree = smooth.hierarchy
    smooth.n_regions = 6
    assert np.array_equal(smooth.preview.data, tree.regions(6, refine=False))
    smooth.wait(20)
    assert np.array_equal(smooth.preview.data, tree.regions(6))
    assert (smooth.preview.data != tree.regions(6, refine=False)).any()


def test_the_newest_choice_wins(smooth):
    for n_regions in (4, 9, 5, 7):
        smooth.n_regions = n_regions
    smooth.wait(20)
    assert np.array_equal(smooth.preview.data, smooth.hierarchy.regions(7))


def test_what_changes_no_label_leaves_refined_labels_alone(smooth):
    refined = smooth.preview.data
    shown = []
    smooth.preview.events.data.connect(lambda event: shown.append(event.source.data))
    smooth._controller.previews.request_update()
    smooth.wait(20)
    assert all(np.array_equal(data, refined) for data in shown)


def test_the_check_box_turns_it_off(smooth):
    smooth.n_regions = 6
    box = smooth._dock.segments.smooth_borders
    assert box.isChecked()
    box.click()
    smooth.wait(20)
    assert smooth.refine is False
    assert np.array_equal(smooth.preview.data, smooth.hierarchy.regions(6, refine=False))


def test_kept_layers_and_scripts_are_what_is_shown(smooth):
    smooth.n_regions = 6
    (layer,) = smooth.keep()  # before the preview is refined
    assert np.array_equal(layer.data, smooth.hierarchy.regions(6))
    assert "regions(n_regions=6)" in smooth.script
    smooth.refine = False
    assert "regions(n_regions=6, refine=False)" in smooth.script


def test_a_click_means_the_region_that_is_shown(smooth):
    smooth.n_regions = 6
    smooth.wait(20)
    coarse, shown = smooth.hierarchy.regions(6, refine=False), smooth.preview.data
    place = tuple(int(i) for i in np.argwhere(coarse != shown)[0])
    others = set(np.unique(shown)) - {shown[place], coarse[place]}
    other = tuple(int(i) for i in np.argwhere((shown == min(others)) & (coarse == shown))[0])
    inside = tuple(int(i) for i in np.argwhere((shown == shown[place]) & (coarse == shown))[0])
    smooth.merge(place, other)
    smooth.wait(20)
    assert smooth.preview.data[inside] == smooth.preview.data[other]
