"""Images nobody would call ordinary, and what must come of them: right labels or a clear error."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import torch
import zarr
from hypothesis import strategies as st

import napari_aeseg as aeseg
from napari_aeseg.autoencoder.architecture import Architecture
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.images.axes import read_axes

if TYPE_CHECKING:
    from collections.abc import Callable

AXES = ("YX", "YX", "YX", "XY", "YXC", "CYX", "ZYX", "TYX", "ZCYX", "TZYX", "TCZYX")
NOT_AXES = ("", "Y", "YY", "YXQ", "C", "ZYXYT", "yx ", "äß", "CTZ")
SIDES = (1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 23, 31, 40)
FEW = (1, 1, 2, 3, 5)
NUMBERS = (
    *("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "longdouble"),
    *(">i2", ">u2", ">i4", ">u4", ">i8", ">u8", ">f2", ">f4", ">f8"),
)
NO_NUMBERS = ("c8", "c16", "O", "U2", "S3", "V4", "M8[s]", "m8[s]", "f4,f4")
# Scales of floating-point images; whole numbers take what their type holds of it.
SCALES = (1.0, 1.0, 1.0, 255.0, 1e-3, 1e6, 1e-45, 1e-38, 1e-310, 1e30, 1e36, 1e300)
VALUES = ("noise", "noise", "steps", "constant", "hot pixel", "nan", "inf", "extremes")
LAYOUTS = (
    *("plain", "plain", "read-only", "fortran", "strided", "reversed", "memory map", "dask"),
    *("dask, uneven", "zarr", "list", "masked", "masked nowhere", "broadcast", "subclass"),
)
# Beyond this, images are refused.
LARGEST = 2.0**100
PARAMS = aeseg.SegmentationParams(patch_size=4)
TRAINING = aeseg.TrainingParams(
    levels=2, width=4, convolutions=1, crop_size=16, batch_size=1, steps=1
)


@dataclass(frozen=True)
class Case:
    """An image to be tried.

    Parameters
    ----------
    pixels : ndarray
    axes : str or None
        What is said of its axes.
    layout : str
        How it lies in memory, or where else.
    good : bool
        Whether it must be labelled; else it must be refused.
    number : int
        Chooses among what can be asked of it.
    """

    pixels: np.ndarray
    axes: str | None
    layout: str
    good: bool
    number: int

    def __repr__(self) -> str:
        return (
            f"Case({self.pixels.dtype.str} {self.pixels.shape}, axes={self.axes!r}, {self.layout}, "
            f"{'good' if self.good else 'bad'}, number={self.number})"
        )


@st.composite
def cases(draw: Any) -> Case:
    """Return any kind of image, good or bad."""
    letters = draw(st.sampled_from(AXES))
    sides = st.sampled_from(SIDES)
    shape = [draw(sides if a in "YX" else st.sampled_from(FEW)) for a in letters]
    odd = draw(st.integers(0, 19))
    if odd == 0:
        shape[draw(st.integers(0, len(shape) - 1))] = 0
    if odd == 1:
        shape = shape[: draw(st.integers(0, 1))]
    dtype = draw(st.sampled_from(NUMBERS if odd != 2 else NO_NUMBERS))
    values, scale = draw(st.sampled_from(VALUES)), draw(st.sampled_from(SCALES))
    number = draw(st.integers(0, 2**32 - 1))
    pixels = made(tuple(shape), dtype, values, scale, np.random.default_rng(number))
    axes = draw(st.sampled_from([letters, letters, None]))
    axes = draw(st.sampled_from(NOT_AXES)) if odd == 3 else axes
    layout = draw(st.sampled_from(LAYOUTS))
    if pixels.dtype.kind in "OV" or pixels.ndim < 2 or not pixels.size:
        layout = "plain"
    return Case(pixels, axes, layout, is_good(pixels, axes, layout), number)


def made(
    shape: tuple[int, ...], dtype: str, values: str, scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Return an array of a kind of values, as far as its type has them."""
    kind = np.dtype(dtype)
    share = rng.random(shape)
    if values == "steps":
        share = np.round(share * 3) / 3
    if values == "constant":
        share = np.full(shape, rng.random())
    if values in ("hot pixel", "nan", "inf"):
        share = np.full(shape, 0.2) if rng.random() < 0.5 else share
    if kind.kind == "b":
        return share > 0.5
    if kind.kind in "iu":
        low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
        span = high - low if values == "extremes" else min(255, high)
        first = high - span if rng.random() < 0.5 else max(low, 0)
        whole = [min(first + int(span * s), high) for s in share.ravel()]
        pixels = np.array(whole, object).reshape(shape).astype(kind)
        if values == "hot pixel" and pixels.size:
            pixels.flat[rng.integers(pixels.size)] = high
        return pixels
    if kind.kind in "f":
        with np.errstate(all="ignore"):
            pixels = ((share - (rng.random() < 0.3)) * np.longdouble(scale)).astype(kind)
            if values == "extremes":
                pixels = np.where(share > 0.5, np.finfo(kind).max, -np.finfo(kind).max)
            if values == "hot pixel" and pixels.size:
                hot = np.longdouble(scale) * 10**6
                pixels.flat[rng.integers(pixels.size)] = kind.type(min(hot, np.finfo(kind).max))
        if values in ("nan", "inf") and pixels.size:
            pixels.flat[rng.integers(pixels.size)] = {"nan": np.nan, "inf": -np.inf}[values]
        return pixels.astype(kind)
    return np.zeros(shape, kind)


def is_good(pixels: np.ndarray, axes: str | None, layout: str) -> bool:
    """Return whether an image can be labelled, by what the documentation says."""
    if pixels.dtype.kind not in "buif" or layout == "masked":
        return False
    if not 2 <= pixels.ndim <= 5 or not pixels.size:
        return False
    if axes is not None and (len(axes) != pixels.ndim or axes in NOT_AXES):
        return False
    if pixels.dtype.kind == "f":
        return bool(
            np.isfinite(pixels).all() and (np.abs(pixels.astype("longdouble")) <= LARGEST).all()
        )
    # Nearly the same in double precision.
    low, high = float(pixels.min()), float(pixels.max())
    step = float(np.spacing(max(abs(low), abs(high), 1.0)))
    return pixels.dtype.itemsize < 8 or step <= 1 or high - low > 300 * step


def laid_out(case: Case, folder: Path) -> tuple[Any, np.ndarray]:
    """Return an image as its layout says, and what it is a view of."""
    pixels, layout = case.pixels, case.layout
    whole = pixels.copy()
    if layout == "read-only":
        whole.flags.writeable = False
    if layout == "fortran":
        whole = np.asfortranarray(pixels)
    if layout == "strided":
        whole = np.repeat(pixels, 2, axis=0)
        return whole[::2], whole
    if layout == "reversed":
        whole = pixels[::-1, ::-1].copy()
        return whole[::-1, ::-1], whole
    if layout == "memory map":
        np.save(folder / "a.npy", whole)
        return np.load(folder / "a.npy", mmap_mode="r"), whole
    if layout.startswith("dask"):
        first = 1 if layout == "dask, uneven" else 2
        sizes = tuple(uneven(n, first) for n in pixels.shape)
        return dask.array.from_array(whole, chunks=sizes), whole
    if layout == "zarr" and pixels.dtype.str[1:] not in ("f16", "f12"):
        return zarr.create_array(store=str(folder / "a.zarr"), data=pixels.copy()), whole
    if layout == "list":
        return whole.tolist(), whole
    if layout.startswith("masked"):
        masked = np.ma.masked_array(whole, mask=False)
        masked.mask[(0,) * pixels.ndim] = layout == "masked"
        return masked, whole
    if layout == "broadcast":
        return np.broadcast_to(whole, whole.shape), whole
    return (whole.view(Subclass) if layout == "subclass" else whole), whole


class Subclass(np.ndarray):
    """An array of another class."""


def uneven(length: int, first: int) -> tuple[int, ...]:
    """Return two chunks that are not of one size."""
    small = max(1, length // 2 - first)
    return (small, length - small) if length > small else (length,)


def any_model() -> Model:
    """Return an untrained model for any number of channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(Autoencoder(Architecture(3, 2, 4, 1)), any_channels=True)


def try_image(case: Case, model: Model) -> Counter[str]:
    """Give an image to two of the public functions, chosen by its number.

    Raises
    ------
    AssertionError
        If something is not right.

    Returns
    -------
    Counter
        How many functions labelled it, and how many refused it.
    """
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = Path(name)
        for work in (built, WORK[case.number // 2 % len(WORK)]):
            (folder / work.__name__).mkdir()
            image, whole = laid_out(case, folder / work.__name__)
            before = whole.tobytes()
            stages: list[str] = []
            try:
                work(case, image, model, folder, stages)
            except aeseg.AesegError as error:
                assert not case.good or (work is trained and is_constant(case.pixels)), error
                assert not {"patches", "encode", "graph", "train"} & set(stages), stages
                assert len(str(error)) > 20, error
                done["refused"] += 1
            else:
                assert case.good, f"{work.__name__} took it"
                done["labelled"] += 1
            assert whole.tobytes() == before, f"{work.__name__} wrote to the image"
    return done


def is_constant(pixels: np.ndarray) -> bool:
    """Return whether there is nothing to learn from in float64."""
    return np.ptp(pixels.astype(np.float64)) == 0 or pixels.shape.count(1) == pixels.ndim - 1


def built(
    case: Case, image: Any, model: Model, folder: Path, stages: list[str], **more: Any
) -> None:
    """Build the hierarchy and cut it in every way."""
    tree = aeseg.build_hierarchy(
        image,
        model,
        PARAMS.updated(patches=("watershed", "grid")[case.number % 2]),
        case.axes,
        "cpu",
        lambda event: stages.append(event.stage),
        **more,
    )
    space = read_axes(case.pixels.shape, case.axes).space_shape
    check_cuts(tree, space, np.random.default_rng(case.number))
    if not more:
        assert np.isfinite(tree.statistics.intensity).all()
        assert np.isfinite(tree.statistics.mean).all()


def check_cuts(tree: aeseg.Hierarchy, space: tuple[int, ...], rng: np.random.Generator) -> None:
    """Check that all cuts label every pixel, with as many labels as were asked for."""
    other = tree.reweighted(balance=float(rng.random()), scale=float(1 + 9 * rng.random()))
    for cut in (tree, other):
        number = int(rng.integers(1, tree.n_patches + 1))
        check_labels(cut.regions(number), space, number)
        assert 1 <= cut.suggest_n_regions() <= tree.n_patches
        few = min(number, tree.max_classes)
        check_labels(cut.classes(few), space, few)
        threshold = float(rng.random())
        check_labels(cut.regions(threshold=threshold), space, cut.n_regions_at(threshold))
    labels = tree.regions(number)
    table = tree.table(labels)
    assert table["index"].tolist() == list(range(1, number + 1))
    assert table["area"].sum() == np.prod(space)
    markers = np.zeros(space, np.int32)
    markers.flat[rng.integers(markers.size)] = 3
    markers.flat[rng.integers(markers.size)] = 7
    steered = np.asarray(tree.from_markers(markers))
    assert (steered.dtype, steered.shape) == (np.int32, space)
    assert set(np.unique(steered)) == set(np.unique(markers)) - {0}
    assert np.array_equal(steered[markers > 0], markers[markers > 0])
    if not tree.is_lazy:
        objects = tree.objects()
        assert (objects.dtype, objects.shape) == (np.int32, space)
        assert np.array_equal(np.unique(objects[objects > 0]), np.arange(1, objects.max() + 1))


def check_labels(labels: Any, space: tuple[int, ...], number: int) -> None:
    """Check that labels are 1 .. number, one for every pixel."""
    found = np.asarray(labels)
    assert (found.dtype, found.shape) == (np.int32, space), (found.dtype, found.shape)
    assert np.array_equal(np.unique(found), np.arange(1, number + 1))


def in_blocks(case: Case, image: Any, model: Model, folder: Path, stages: list[str]) -> None:
    """Build the hierarchy block by block."""
    built(case, image, model, folder, stages, blocks=aeseg.BlockParams(block_size=32))


def trained(case: Case, image: Any, model: Model, folder: Path, stages: list[str]) -> None:
    """Train on the image."""
    blocks = aeseg.BlockParams() if case.number % 16 == 0 else None
    found = aeseg.train(
        [image],
        TRAINING.updated(normalisation=("image", "training")[case.number % 2]),
        case.axes,
        "cpu",
        progress=lambda event: stages.append(event.stage),
        blocks=blocks,
    )
    assert np.isfinite(found.losses).all()
    assert tuple(found.record.images[0]["shape"]) == case.pixels.shape


def encoded(case: Case, image: Any, model: Model, folder: Path, stages: list[str]) -> None:
    """Look at features and reconstruction."""
    space = read_axes(case.pixels.shape, case.axes).space_shape
    features = model.features(image, axes=case.axes, device="cpu")
    assert features.shape == (4 + 8, *space)
    reconstruction = model.reconstruct(image, axes=case.axes, device="cpu")
    assert reconstruction.shape == case.pixels.shape
    error = model.reconstruction_error(image, axes=case.axes, device="cpu")
    assert error.shape == space
    for found in (features, reconstruction, error):
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def segmented(case: Case, image: Any, model: Model, folder: Path, stages: list[str]) -> None:
    """Segment in one call, and write the labels."""
    labels = aeseg.segment(
        image,
        model,
        n_regions=1,
        params=PARAMS,
        axes=case.axes,
        device="cpu",
        progress=lambda event: stages.append(event.stage),
    )
    check_labels(labels, read_axes(case.pixels.shape, case.axes).space_shape, 1)
    if labels.ndim <= 4:
        name = ("labels.tif", "labels.ome.zarr")[case.number % 2]
        assert aeseg.write_labels(labels, folder / name).exists()


# All images are built; each has one of these done to it besides.
WORK: tuple[Callable[..., None], ...] = (in_blocks, trained, encoded, segmented)
