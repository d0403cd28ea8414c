"""Images of any axes, from the pixels to labels: volumes, sequences, and both."""

import numpy as np
import pytest
from scipy import ndimage

import napari_aeseg as aeseg
from napari_aeseg.api import hierarchy_steps
from napari_aeseg.images.axes import read_axes
from napari_aeseg.progress import drain
from napari_aeseg.regions.patches.superpixels import make_patches, patch_shape

SIZES = {"T": 3, "C": 2, "Z": 12, "Y": 40, "X": 36}
FINE = aeseg.SegmentationParams(patch_size=6)


def texture(rng, shape, sigma):
    """Smooth noise of mean 0 and variance 1."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    return (noise - noise.mean()) / noise.std()


def covering(labels, truth):
    """Overlap of each true part with the label that fits it best, weighted by size."""
    total = 0.0
    for part in np.unique(truth):
        inside = truth == part
        found = np.unique(labels[inside])
        best = max(np.sum((labels == k) & inside) / np.sum((labels == k) | inside) for k in found)
        total += best * inside.sum()
    return total / truth.size


def balls(letters):
    """Two bright balls, that move along X with time; the second channel is the first with noise."""
    rng = np.random.default_rng(0)
    order = [a for a in "TZYX" if a in letters]
    shape = [SIZES[a] for a in order]
    at = dict(zip(order, np.indices(shape), strict=True))
    depth = 2 * (at["Z"] - 6) if "Z" in at else 0
    image = rng.normal(0, 0.03, shape)
    for y, x in ((11, 11), (28, 21)):
        image += (at["Y"] - y) ** 2 + (at["X"] - x - at.get("T", 0)) ** 2 + depth**2 < 49
    image = ndimage.gaussian_filter(image, [0 if a == "T" else 0.7 for a in order])
    if "C" in letters:
        image = np.stack([image, image + rng.normal(0, 0.03, shape)])
        order = ["C", *order]
    return image.transpose([order.index(a) for a in letters])


@pytest.mark.parametrize("letters", ["TYX", "YXT", "XYZ", "ZCYX", "XTCZY"])
def test_everything_works_in_any_order_of_axes(letters):
    image = balls(letters)
    voxels = [2 if a == "Z" else 1 for a in letters if a in "ZYX"]
    tree = aeseg.build_hierarchy(image, "base", axes=letters, device="cpu", voxel_size=voxels)
    space = tuple(SIZES[a] for a in letters if a != "C")

    assert tree.regions(3).shape == space
    objects = tree.objects()
    assert objects.max() == 2
    classes = tree.classes(2)
    assert set(np.unique(tree.objects(2, n_classes=2))) >= {0, 1}
    assert tree.classes(prototypes=tree.prototypes(2)).shape == space
    markers = np.zeros(space, int)
    markers.flat[0], markers[tuple(np.argwhere(objects == 1)[0])] = 1, 2
    assert set(np.unique(tree.from_markers(markers))) == {1, 2}
    assert tree.border_strength().shape == tree.merge_height().shape == space
    table = tree.table(objects, classes)
    centroids = [f"centroid_{a.lower()}" for a in letters if a != "C"]
    assert [name for name in table if name.startswith("centroid")] == centroids
    assert np.allclose(table["area"], table["area_pixels"] * np.prod(voxels))
    assert np.allclose(sorted(table["centroid_y"]), [11, 28], atol=0.5)
    if "T" in letters:  # both are there in every frame, under one label
        frames = np.moveaxis(objects, space.index(SIZES["T"]), 0)
        assert all(set(np.unique(frame)) == {0, 1, 2} for frame in frames)


@pytest.mark.parametrize(
    ("letters", "shape"),
    [("ZYX", (1, 40, 36)), ("TYX", (1, 40, 36)), ("TZYX", (1, 1, 40, 36)), ("YXZ", (40, 36, 1))],
)
def test_one_slice_or_frame_is_what_the_image_is(letters, shape):
    image = balls("YX")
    flat = aeseg.build_hierarchy(image, "base", axes="YX", device="cpu")
    tree = aeseg.build_hierarchy(image.reshape(shape), "base", axes=letters, device="cpu")

    for method in ("regions", "classes", "objects"):
        arguments = {"objects": ()}.get(method, (3,))
        expected = getattr(flat, method)(*arguments)
        assert np.array_equal(getattr(tree, method)(*arguments), expected.reshape(shape))
    assert tree.n_regions_at(0.1) == flat.n_regions_at(0.1)
    assert tree.reweighted(scale=6).regions(4).ravel().tolist() == (
        flat.reweighted(scale=6).regions(4).ravel().tolist()
    )


def test_light_of_one_slice_is_evened_out_as_that_of_the_image():
    rng = np.random.default_rng(0)
    image = rng.random((128, 128)) * np.exp(-np.linspace(-1, 1, 128))
    notes = [
        aeseg.build_hierarchy(i, "base", axes=axes, device="cpu").notes
        for i, axes in ((image, "YX"), (image[np.newaxis], "ZYX"))
    ]
    assert notes[0] == notes[1]
    assert "illumination was corrected" in notes[0][0]


@pytest.mark.parametrize("distance", [1, 4])
def test_two_textures_of_a_volume_are_told_apart(distance):
    rng = np.random.default_rng(0)
    shape = (48 // distance, 64, 64)
    fine, coarse = (texture(rng, shape, (s / distance, s, s)) for s in (0.5, 2.0))
    z, y, x = np.indices(shape)
    truth = 1 + (x > 32 + 6 * np.sin(y / 10) + (z * distance - 24) / 4)
    image = np.where(truth == 1, fine, coarse)
    tree = aeseg.build_hierarchy(
        image, "base", FINE, axes="ZYX", device="cpu", voxel_size=(distance, 1, 1)
    )
    assert covering(tree.regions(n_regions=2), truth) >= 0.89
    assert tree.voxel_size == (distance, 1, 1)


def test_a_texture_that_moves_keeps_its_label():
    rng = np.random.default_rng(0)
    shape = (8, 96, 96)
    fine, coarse = texture(rng, shape[1:], 0.5), texture(rng, shape[1:], 2.0)
    t, y, x = np.indices(shape)
    truth = 1 + ((y - 48) ** 2 + (x - 38 - 3 * t) ** 2 < 26**2)
    moving = np.stack([np.roll(fine, 3 * i, axis=1) for i in range(shape[0])])
    image = np.where(truth == 2, moving, coarse) + rng.normal(0, 0.1, shape)
    tree = aeseg.build_hierarchy(image, "base", FINE, axes="TYX", device="cpu")
    labels = tree.regions(n_regions=2)
    assert covering(labels, truth) >= 0.9
    disc = np.bincount(labels[truth == 2]).argmax()
    assert all(
        np.mean(frame[now == 2] == disc) > 0.75 for frame, now in zip(labels, truth, strict=True)
    )


@pytest.mark.parametrize("kind", ["watershed", "grid"])
def test_patches_keep_to_their_frame_and_shape(kind):
    pixels = np.random.default_rng(0).random((1, 3, 12, 24, 24)).astype(np.float32)
    axes = read_axes((3, 12, 24, 24), "TZYX").with_voxel_size((4, 1, 1))
    sides = patch_shape(axes, 8)
    patches = make_patches(pixels, sides, kind, density=(0, 0.25, 1, 1))
    assert sides == (1, 2, 8, 8)
    assert patches.max() + 1 == 3 * 6 * 3 * 3
    for frame in range(3):  # ids are unique, and each patch is in one piece
        assert set(np.unique(patches[frame])) == set(range(54 * frame, 54 * frame + 54))
    pieces = sum(ndimage.label(patches == i)[1] for i in range(patches.max() + 1))
    assert pieces == patches.max() + 1


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        ((1, 1), r"does not fit an image read as ZYX: give 3 numbers, for Z, Y, X"),
        ((1, 0, 1), "number above 0"),
        ((1, -1, 1), "number above 0"),
        ((1, np.nan, 1), "number above 0"),
        ((1, np.inf, 1), "number above 0"),
        ((True, 1, 1), "number above 0"),
        (2.0, "number above 0"),
        ("211", "number above 0"),
        ([[1, 2], [1]], "number above 0"),
        ([1, 1, 1, 1], "number above 0"),
        ((1e-300, 1e300, 1), "factor of more than 10,000"),
        ((0.0002, 3, 3), "factor of more than 10,000"),
    ],
)
def test_voxel_sizes_that_are_none_are_refused_before_any_work(voxels, message):
    volume = np.random.default_rng(0).random((6, 24, 24))
    for work in (aeseg.segment, lambda *a, **k: aeseg.build_hierarchy(*a, "base", **k)):
        with pytest.raises(aeseg.InputError, match=r"voxel_size = .*" + message):
            work(volume, axes="ZYX", device="cpu", voxel_size=voxels)


@pytest.mark.parametrize("voxels", [(1e-3, 9, 9), (9e3, 1, 1), (1e-300, 1e-300, 1e-300)])
def test_extreme_voxels_are_survived(voxels):
    volume = np.random.default_rng(0).random((4, 24, 24))
    labels = aeseg.segment(volume, "base", n_regions=3, axes="ZYX", device="cpu", voxel_size=voxels)
    assert labels.max() == 3


def test_table_is_in_voxels_where_they_are_known_and_can_be_in_pixels():
    volume = balls("ZYX")
    tree = aeseg.build_hierarchy(volume, "base", axes="ZYX", device="cpu", voxel_size=(2, 0.5, 0.5))
    labels = tree.regions(2)
    table, plain = tree.table(labels), tree.table(labels, spacing=(1, 1, 1))
    assert np.allclose(table["area"], plain["area"] / 2)
    assert np.allclose(table["centroid_z"], plain["centroid_z"] * 2)


def test_blocks_have_the_same_patches_in_volumes_and_time():
    image = np.random.default_rng(0).random((2, 8, 32, 64))
    params = aeseg.SegmentationParams(patches="grid")
    blocks = aeseg.BlockParams(block_size=32, max_patches=10**6)
    options = {"axes": "TZYX", "device": "cpu", "voxel_size": (4, 1, 1)}
    whole = aeseg.build_hierarchy(image, "base", params, **options)
    tree = aeseg.build_hierarchy(image, "base", params, blocks=blocks, **options)
    assert whole.n_patches == tree.n_patches == 2 * 4 * 4 * 8
    assert np.array_equal(np.asarray(tree.patches), whole.patches)
    assert tree.voxel_size == (4, 1, 1)


def test_a_saved_hierarchy_knows_its_voxels(tmp_path):
    axes = read_axes((12, 40, 36), "ZYX").with_voxel_size((2, 0.5, 0.5), "micrometer")
    tree = drain(hierarchy_steps(balls("ZYX"), "base", axes=axes, device="cpu"))
    tree.save(tmp_path / "a.aeseg.zarr")
    loaded = aeseg.load_hierarchy(tmp_path / "a.aeseg.zarr")
    assert loaded.axes == axes
    assert np.array_equal(loaded.regions(threshold=0.3), tree.regions(threshold=0.3))
    assert np.array_equal(loaded.objects(), tree.objects())
    assert loaded.table(loaded.regions(3)).equals(tree.table(tree.regions(3)))
