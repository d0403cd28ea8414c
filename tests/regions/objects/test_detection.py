import numpy as np
import pytest
from scipy import ndimage

from napari_aeseg.errors import InputError
from napari_aeseg.images.intensity import read_image
from napari_aeseg.regions.objects import component_tree
from napari_aeseg.regions.objects.candidates import Candidates, smoothing_of
from napari_aeseg.regions.objects.detection import (
    ObjectSearch,
    ObjectSearchInTime,
    link_frames,
    without_overlaps,
)
from napari_aeseg.regions.objects.maps import brightness_of, stain_of
from napari_aeseg.regions.objects.nested_parts import NestedParts
from napari_aeseg.regions.objects.settings import ObjectSettings

SIDE = 96
PLACES = [(20, 20), (20, 70), (50, 45), (75, 20), (75, 75)]


def objects_in(brightness, foreground=None, **settings):
    return ObjectSearch(brightness).find(ObjectSettings(**settings), foreground)


def discs(places=PLACES, radius=9.0, shape=(SIDE, SIDE)):
    """Labels 1 .. n of discs or balls; where two overlap, the nearer centre has the pixel."""
    index = np.indices(shape)
    distance = [
        np.sqrt(sum((axis - c) ** 2 for axis, c in zip(index, at, strict=True))) for at in places
    ]
    return np.where(np.min(distance, axis=0) < radius, np.argmin(distance, axis=0) + 1, 0)


def picture(truth, noise=0.02, seed=0):
    """An image in which the objects are bright, with soft outlines and noise."""
    image = 0.1 + 0.8 * ndimage.gaussian_filter((truth > 0).astype(float), 1)
    image += np.random.default_rng(seed).normal(0, noise, truth.shape)
    return image.astype(np.float32)


def worst_overlap(truth, labels):
    """The smallest over the true objects of the best intersection over union."""
    overlaps = []
    for k in range(1, truth.max() + 1):
        here = truth == k
        best = np.bincount(labels[here], minlength=2)[1:].argmax() + 1
        overlaps.append((here & (labels == best)).sum() / (here | (labels == best)).sum())
    return min(overlaps)


def assert_found(truth, labels, overlap=0.8):
    assert labels.dtype == np.int32
    assert labels.shape == truth.shape
    assert np.array_equal(np.unique(labels), np.arange(truth.max() + 1))
    assert worst_overlap(truth, labels) > overlap
    for k in range(1, labels.max() + 1):
        assert ndimage.label(labels == k)[1] == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_bright_and_dark_objects_are_found_alike(sign):
    truth = discs()
    pixels = picture(truth)
    assert_found(truth, objects_in(pixels if sign == 1 else 1 - pixels))


def test_touching_objects_are_parted():
    truth = discs([(20, 20), (20, 37), (60, 30), (60, 70), (76, 70)])
    assert_found(truth, objects_in(picture(truth)))


def test_a_long_object_among_long_objects_stays_whole():
    truth = np.zeros((SIDE, SIDE), int)
    for k, top in enumerate((10, 35, 60), 1):
        truth[top : top + 9, 15:75] = k
    assert_found(truth, objects_in(picture(truth)))


def test_holes_are_filled():
    truth = discs([(30, 30), (65, 60)], 14.0)
    rings = np.where(discs([(30, 30), (65, 60)], 5.0) > 0, 0, truth)
    assert_found(truth, objects_in(picture(rings)))


def nuclei(bright=0, debris=0.0):
    """Labels of sixty discs, and an image of them; some are very bright, or a speck is."""
    truth = np.zeros((400, 400), int)
    rng = np.random.default_rng(1)
    places = [(i, j) for i in range(25, 390, 50) for j in range(25, 390, 50)][:60]
    for k, place in enumerate(rng.permutation(places), 1):
        place = place + rng.integers(-7, 8, 2)
        truth[np.hypot(*(np.indices(truth.shape).T - place).T) < rng.uniform(9, 12)] = k
    image = np.array([0, *[4000] * bright, *[400] * (60 - bright)], float)[truth]
    side = round(np.sqrt(debris) * 400)
    if side:
        image[-side:, -side:] = 20_000
        truth[np.isin(truth, truth[-side:, -side:])] = 0
    return truth, ndimage.gaussian_filter(image, 1.5) + rng.normal(100, 20, truth.shape)


@pytest.mark.parametrize(
    "hidden_by",
    [{"bright": 5}, {"bright": 20}, {"debris": 0.05}],
)
def test_a_few_very_bright_things_hide_no_others(hidden_by):
    truth, image = nuclei(**hidden_by)
    brightness = brightness_of(read_image(image, "YX").pixels)
    labels = objects_in(brightness)
    overlaps = [
        worst_overlap((truth == k).astype(int), labels) for k in np.unique(truth[truth > 0])
    ]
    assert np.sum(np.array(overlaps) > 0.5) >= len(overlaps) - 2
    assert labels.max() <= len(overlaps) + 2


def test_bright_spots_inside_are_not_taken_for_the_objects():
    truth = discs(radius=11.0)
    spots = discs(
        [(y + dy, x + dx) for y, x in PLACES for dy, dx in ((-4, -3), (4, 0), (-2, 5))], 2.2
    )
    pixels = picture(truth) + 2 * ndimage.gaussian_filter((spots > 0).astype(np.float32), 0.7)
    assert_found(truth, objects_in(pixels))


def test_dark_objects_are_found_beside_bright_gaps():
    truth, gaps = discs(radius=8.0), discs([(6, 46), (48, 12), (80, 48)], 6.0)
    stretched = np.kron(gaps, [[1, 1, 1]])[:, :SIDE] > 0
    pixels = (
        1 - picture(truth) / 2 + np.where(stretched & (truth == 0), 1.0, 0.0).astype(np.float32)
    )
    assert worst_overlap(truth, objects_in(pixels, polarity="dark")) > 0.7
    assert worst_overlap(truth, objects_in(pixels, polarity="both")) > 0.7


def test_shading_hides_no_few_objects():
    shape = (400, 500)
    truth = discs([(20, 40), (90, 120), (150, 60), (185, 180)], 9.0, shape)
    shading = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, shape), 8)
    assert_found(truth, objects_in(picture(truth, 0.01) + 0.6 * shading.astype(np.float32)))


def test_stained_objects_are_found_by_colour():
    truth = discs()
    rgb = np.stack([picture(truth * 0, 0.02, seed) + 0.7 for seed in range(3)])
    rgb[0] -= 0.35 * ndimage.gaussian_filter((truth > 0).astype(np.float32), 1)
    rgb[2] += 0.05 * (truth > 0)
    maps = [brightness_of(rgb), stain_of(rgb)]
    assert_found(truth, ObjectSearch(maps).find())


def test_the_diameter_chooses_between_cells_and_their_nuclei():
    cells, inside = (
        discs([(24, 24), (24, 70), (70, 24), (70, 70)], 18.0),
        discs([(24, 24), (24, 70), (70, 24), (70, 70)], 6.0),
    )
    pixels = picture(cells) + picture(inside)
    assert_found(cells, objects_in(pixels, diameter=36))
    assert_found(inside, objects_in(pixels, diameter=12), 0.7)


def test_a_higher_sensitivity_finds_no_fewer_objects():
    truth = discs()
    pixels = picture(truth, 0.15)
    numbers = [objects_in(pixels, sensitivity=s).max() for s in (0.0, 0.5, 1.0)]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[2]


def test_nothing_is_larger_than_max_size():
    truth = discs([(20, 20), (20, 70), (70, 30)], 9.0)
    large = discs([(70, 74)], 17.0)
    pixels = picture(np.where(truth > 0, truth, 4 * large))
    assert objects_in(pixels).max() == 4
    assert np.bincount(objects_in(pixels, max_size=400).ravel())[1:].max() <= 400


def test_objects_at_the_edge_can_be_left_out():
    truth = discs([(0, 40), (45, 45), (70, 20)])
    pixels = picture(truth)
    assert objects_in(pixels).max() == 3
    labels = objects_in(pixels, exclude_borders=True)
    assert labels.max() == 2
    assert not labels[0].any()


def test_slices_farther_apart_change_nothing():
    truth = discs([(12, 14, 14), (12, 36, 26)], 8.5, (24, 48, 44))
    image = picture(truth)
    thinned = ObjectSearch(image[1::3], spacing=(3, 1, 1)).find()
    assert_found(truth[1::3], thinned, 0.6)


def test_uneven_light_takes_no_object_away():
    truth = discs()
    light = np.geomspace(1, 0.1, SIDE)
    assert_found(truth, objects_in(picture(truth, 0.005) * light.astype(np.float32)))


def test_faint_objects_are_found_beside_bright_ones():
    truth = discs()
    pixels = picture(truth, 0.01) * np.where(truth == 1, 0.4, 1).astype(np.float32)
    assert_found(truth, objects_in(pixels), 0.7)


def test_noise_among_objects_is_left_out():
    truth = discs()
    assert_found(truth, objects_in(picture(truth, 0.15)), 0.7)


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_has_next_to_no_objects(seed):
    noise = np.random.default_rng(seed).normal(0.5, 0.2, (128, 128)).astype(np.float32)
    assert objects_in(noise).max() <= 8


@pytest.mark.parametrize("value", [0, 0.5])
def test_a_constant_image_has_no_objects(value):
    assert not objects_in(np.full((32, 32), value, np.float32)).any()


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_all_channels_are_looked_at(channels):
    truth = discs()
    pixels = np.stack([picture(truth, seed=seed) for seed in range(channels)])
    pixels[1:] *= 0.1  # the objects are in the first channel
    assert_found(truth, objects_in(brightness_of(pixels)))


def test_objects_are_looked_for_in_one_channel():
    first, second = discs(PLACES[:2]), discs(PLACES[2:])
    channels = [picture(first), picture(second, seed=1)]
    search = ObjectSearch(np.mean(channels, axis=0), None, channels)
    assert_found(discs(), search.find())
    assert_found(first, search.find(ObjectSettings(channel=1)))
    assert_found(second, search.find(ObjectSettings(channel=2)))
    with pytest.raises(InputError, match="channel = 3: this image has 2"):
        search.find(ObjectSettings(channel=3))
    grey = ObjectSearch(channels[0])
    assert np.array_equal(grey.find(ObjectSettings(channel=1)), grey.find())


def test_nothing_is_smaller_than_min_size():
    truth = discs([(20, 20), (20, 70), (70, 30), (70, 70)])
    small = discs([(45, 45), (45, 80), (88, 50)], 3.0)
    pixels = picture(np.where(truth > 0, truth, small))
    assert objects_in(pixels).max() == 7
    assert_found(truth, objects_in(pixels, min_size=60))


@pytest.mark.parametrize("settings", [{"min_size": 4}, {"diameter": 4}])
def test_tiny_objects_are_found_where_they_are_asked_for(settings):
    truth = discs(radius=2.0)  # 9 pixels
    pixels = picture(truth, 0.0)
    assert objects_in(pixels, **settings).max() == 5


def test_parts_of_the_foreground_stay_whole_unless_they_have_a_clear_neck():
    gland = np.zeros((SIDE, SIDE), int)
    gland[5:60, 5:40] = gland[40:60, 5:90] = 1  # an L with cells that look like objects
    truth = np.where(gland > 0, 1, discs([(20, 60), (20, 75), (80, 30)], 8.5) * (gland == 0) + 1)
    truth = np.where((truth == 1) & (gland == 0), 0, truth)
    specks = np.zeros((SIDE, SIDE), bool)
    specks[92:95, 90:95] = True
    labels = objects_in(picture(discs(radius=6.0)), (truth > 0) | specks)
    assert_found(truth, labels)


def test_with_a_diameter_objects_are_those_seen_in_the_foreground():
    truth = discs()
    foreground = np.ones((SIDE, SIDE), bool)
    foreground[:30, :40] = False  # the first is not wanted
    labels = objects_in(picture(truth), foreground, diameter=18)
    assert not labels[~foreground].any()
    assert_found(np.maximum(truth - 1, 0), labels)


def test_an_empty_foreground_has_no_objects():
    assert not objects_in(picture(discs()), np.zeros((SIDE, SIDE), bool)).any()


def test_objects_of_three_dimensions():
    truth = discs([(12, 14, 14), (12, 14, 30), (12, 36, 26)], 8.5, (24, 48, 44))
    assert_found(truth, objects_in(picture(truth)), 0.55)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_outlines_are_those_that_most_sets_agree_on(n_axes):
    shape = (8,) * n_axes

    def one_object(size, score):
        inside = np.zeros(shape, int)
        inside[(slice(size),) * n_axes] = 1
        pixels = np.array([8.0**n_axes, size**n_axes])
        parts = NestedParts(np.zeros(2, int), inside)
        candidates = Candidates(parts, np.zeros((2, 10)), pixels, pixels, pixels > 0)
        return candidates, np.array([0, score])

    sets = [one_object(4, 0.9), one_object(6, 0.8), one_object(6, 0.8)]
    labels, _ = without_overlaps(sets, 0.3, shape)
    assert (labels > 0).sum() == 6**n_axes


def test_volumes_are_smoothed_for_the_noise_where_they_are_bright():
    volume = np.zeros((24, 24, 24), np.float32)
    volume[4:14, 4:14, 4:14] = 1
    quiet = smoothing_of(volume, (1, 1, 1))
    noise = np.random.default_rng(0).normal(0, 0.4, volume.shape)
    assert smoothing_of(volume + (noise * volume).astype(np.float32), (1, 1, 1)) > 1.2 * quiet


@pytest.mark.parametrize("min_size", [0, -3, 2.5, True, "5"])
def test_min_size_is_checked(min_size):
    with pytest.raises(InputError, match=r"min_size = .*1 or more"):
        objects_in(picture(discs()), min_size=min_size)


@pytest.mark.parametrize("foreground", [np.ones((4, 4), bool), np.ones((SIDE, SIDE), int)])
def test_the_foreground_is_checked(foreground):
    with pytest.raises(InputError, match="bool mask of shape"):
        objects_in(picture(discs()), foreground)


@pytest.mark.parametrize("shape", [(40, 50), (12, 20, 16)])
def test_the_tree_is_the_same_without_higra(monkeypatch, shape):
    pixels = picture(discs([[n // 3 for n in shape], [2 * n // 3 for n in shape]], 5.0, shape), 0.1)
    expected = objects_in(pixels)
    monkeypatch.setattr(component_tree, "HAS_HIGRA", False)
    assert np.array_equal(objects_in(pixels) > 0, expected > 0)


def moving_discs(number=5, step=3):
    """A disc that moves, and one that comes after two frames; dark frames are none."""
    t, y, x = np.indices((number, 64, 64))
    moving = np.hypot(y - 20, x - 16 - step * t) < 8
    coming = (np.hypot(y - 46, x - 40) < 7) & (t >= 2)
    noise = np.random.default_rng(0).normal(0, 0.02, moving.shape)
    return ((moving | coming) + noise).astype(np.float32), moving, coming


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_object_keeps_its_label(axis):
    image, moving, coming = (np.moveaxis(a, 0, axis) for a in moving_discs())
    labels = ObjectSearchInTime(image, axis).find()
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.mean((labels == 1) == moving) > 0.99
    assert np.mean((labels == 2) == coming) > 0.99


def test_one_frame_is_an_image():
    image = moving_discs()[0][:1]
    assert np.array_equal(ObjectSearchInTime(image, 0).find()[0], objects_in(image[0]))


def test_a_frame_without_objects_ends_labels():
    image, moving, _ = moving_discs(3, step=0)
    image[1] = 0
    labels = ObjectSearchInTime(image, 0).find()
    first, last = labels[0][moving[0]], labels[2][moving[2]]
    assert not labels[1].any()
    assert np.bincount(first).argmax() != np.bincount(last).argmax()


def test_foreground_clips_objects_of_each_frame():
    image, moving, _ = moving_discs()
    labels = ObjectSearchInTime(image, 0).find(foreground=moving)
    assert set(np.unique(labels)) == {0, 1}
    assert np.mean((labels == 1) == moving) > 0.99


def test_a_wrong_size_is_refused():
    with pytest.raises(InputError, match="min_size = 0"):
        ObjectSearchInTime(moving_discs()[0], 0).find(ObjectSettings(min_size=0))


def test_a_division_gives_one_label_on_and_a_new_one():
    before = np.array([1, 1, 1, 1, 1, 0])
    after = np.array([1, 1, 0, 2, 0, 0])
    assert [labels.tolist() for labels in link_frames([before, after])] == [
        [1, 1, 1, 1, 1, 0],
        [1, 1, 0, 2, 0, 0],
    ]
    assert link_frames([after, before])[1].tolist() == before.tolist()


def test_single_pixels_of_a_class_are_no_objects():
    foreground = np.zeros((9, 9), bool)
    foreground[::3, ::3] = True
    assert not ObjectSearch(np.zeros((9, 9), np.float16)).find(foreground=foreground).any()
