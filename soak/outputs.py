"""All that the package writes, small: how it is written, and in which state it is found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile

import napari_aeseg as aeseg
from napari_aeseg.io import ome_zarr
from napari_aeseg.io import tiff as tiled_tiff
from napari_aeseg.io.labels import write_labels
from napari_aeseg.io.ome_zarr import aeseg_attributes

PARAMS = aeseg.TrainingParams(
    levels=2, width=4, convolutions=1, crop_size=16, batch_size=2, steps=2
)
SEGMENTATION = aeseg.SegmentationParams(patch_size=4)
BLOCKS = aeseg.BlockParams(block_size=40, max_patches=60)
_ENDS_WITH_THIS_PROCESS = tempfile.TemporaryDirectory(prefix="outputs-")
_FOLDER = Path(_ENDS_WITH_THIS_PROCESS.name)
LABELS = np.random.default_rng(0).integers(0, 99, (300, 410)).astype(np.int32)


@dataclass(frozen=True)
class Output:
    """Something that is written, its states, and how it is done.

    `write` writes the new one, or continues what was cut short; `put_old` the old one, where it
    may be replaced. `state` returns "none", "old", "new" or, where work can be continued,
    "begun"; it fails for anything else.
    """

    name: str
    write: Callable[[Path], object]
    state: Callable[[Path], str]
    put_old: Callable[[Path], object] | None = None


def image() -> np.ndarray:
    """A small image of two textures."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 3, (48, 72))
    pixels[:, 36:] += np.where(np.arange(48) % 4 < 2, 40, -40)[:, np.newaxis]
    return pixels.astype(np.uint8)


@cache
def model(seed: int = 0) -> Any:
    """A model; another for another seed."""
    return aeseg.train(image(), PARAMS.updated(seed=seed), device="cpu")


@cache
def tree(seed: int = 0) -> Any:
    """A hierarchy of the image; another for another model."""
    return aeseg.build_hierarchy(image(), model(seed), SEGMENTATION, device="cpu")


@contextmanager
def small_parts():
    """Let labels of a few hundred pixels have many parts, and levels."""
    with ExitStack() as patches:
        for module, name, value in (
            (ome_zarr, "_CHUNK", {2: 32, 3: 16}),
            (ome_zarr, "_SHARD", {2: 2, 3: 2}),
            (ome_zarr, "_COARSEST", 128),
            (tiled_tiff, "_TILE", 64),
            (tiled_tiff, "_BYTES", 2**16),
        ):
            patches.enter_context(mock.patch.object(module, name, value))
        yield


def _model_state(path: Path) -> str:
    if not path.exists():
        return "none"
    found = aeseg.load_model(path).fingerprint
    return {model(1).fingerprint: "old", model(0).fingerprint: "new"}[found]


def _tree_state(path: Path) -> str:
    try:
        found = aeseg.load_hierarchy(path)
    except FileNotFoundError:
        return "none"
    state = {model(1).fingerprint: "old", model(0).fingerprint: "new"}[found.model_fingerprint]
    assert np.array_equal(found.regions(7), tree(state == "old").regions(7)), "other labels"
    return state


def _write_labels(path: Path) -> None:
    is_complete = (aeseg_attributes(path) or {}).get("complete")
    done = (path.suffix == ".tif" and path.exists()) or is_complete
    if not done:  # what is complete is never replaced
        with small_parts():
            write_labels(LABELS, path, "YX")


def _zarr_state(path: Path) -> str:
    if not path.exists():
        return "none"
    note = aeseg_attributes(path)
    assert note is not None, "a folder that is nobody's"
    if not note["complete"]:
        return "begun"
    import zarr

    assert np.array_equal(zarr.open_group(str(path), mode="r")["0"][:], LABELS), "other labels"
    return "new"


def _tif_state(path: Path) -> str:
    if not path.exists():
        return "none"
    assert np.array_equal(tifffile.imread(path), LABELS), "other labels"
    return "new"


@cache
def image_files() -> list[Path]:
    """Two files to segment, which lie where nothing is tried."""
    files = [_FOLDER / f"{name}.tif" for name in "ab"]
    for file in files:
        tifffile.imwrite(file, image())
    return files


def _segment_files(path: Path) -> None:
    """Segment two files into a folder; what is there already is left out."""
    report = aeseg.segment_files(
        *(image_files(), path, model(), aeseg.Cut(n_regions=4), SEGMENTATION),
        device="cpu",
        save_hierarchy=True,
        existing="skip",
    )
    if report.failed:
        raise OSError(report.failed[0].text)


def _batch_state(path: Path) -> str:
    """Whatever has its name is complete."""
    import pandas as pd
    from imageio.v3 import imread

    done = 0
    for stem in "ab":
        labels, table = path / f"{stem}_labels.tif", path / f"{stem}_table.csv"
        picture = path / f"{stem}_overlay.png"
        if labels.exists():
            assert np.array_equal(tifffile.imread(labels), tree().regions(4)), "other labels"
            assert table.exists() and picture.exists(), "labels are not the last"
            done += 1
        if table.exists():
            assert len(pd.read_csv(table)) == 4, "half a table"
        if picture.exists():
            assert imread(picture).shape == (48, 72, 3), "half a picture"
        assert _tree_state(path / f"{stem}.aeseg.zarr") in ("none", "new")
    return ("none" if not path.exists() else "begun", "begun", "new")[done]


def _blocks(path: Path) -> Any:
    return aeseg.build_hierarchy(
        image(), model(), SEGMENTATION, device="cpu", blocks=BLOCKS, store=path
    )


@cache
def _block_labels() -> np.ndarray:
    found = aeseg.build_hierarchy(image(), model(), SEGMENTATION, device="cpu", blocks=BLOCKS)
    return np.asarray(found.regions(7))


def _store_state(path: Path) -> str:
    """Work goes on in any folder that there is; `write` tells whether to the same end."""
    return "begun" if path.exists() else "none"


def _write_store(path: Path) -> None:
    assert np.array_equal(np.asarray(_blocks(path).regions(7)), _block_labels()), "other labels"


OUTPUTS = {
    "model": Output(
        "a.aeseg.safetensors", lambda p: model(0).save(p), _model_state, lambda p: model(1).save(p)
    ),
    "hierarchy": Output(
        "a.aeseg.zarr", lambda p: tree(0).save(p), _tree_state, lambda p: tree(1).save(p)
    ),
    "labels.zarr": Output("labels.ome.zarr", _write_labels, _zarr_state),
    "labels.tif": Output("labels.tif", _write_labels, _tif_state),
    "batch": Output("results", _segment_files, _batch_state),
    "blocks": Output("store", _write_store, _store_state),
}
#: What is begun stays, to go on with.
GOES_ON = {"labels.zarr", "batch", "blocks"}


def make_ready() -> None:
    """Make what all outputs need, once."""
    for seed in (0, 1):
        tree(seed).tree  # noqa: B018 - is built when first asked for
    _block_labels()
    image_files()
