"""Folders of blocks that lie: work that somebody else would have us go on with."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from hostile_folders import files_in, odd_numbers, wild
from odd_values import Rng, as_text, changed, damaged

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, BLOCK = (64, 1056), 32


def image_and_model() -> tuple[np.ndarray, Any]:
    """What the work in these folders is about."""
    import napari_aeseg as aeseg

    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    params = aeseg.TrainingParams(levels=1, width=2, convolutions=1, crop_size=16, steps=1)
    return image, aeseg.train(image, params, device="cpu")


def go_on(folder: Path, image: np.ndarray, model: Any) -> Any:
    """Take up the work in a folder; return the hierarchy."""
    import napari_aeseg as aeseg

    grid = aeseg.SegmentationParams(patch_size=8, patches="grid", tile_size=64)
    blocks = aeseg.BlockParams(max_patches=400)
    return aeseg.build_hierarchy(image, model, grid, device="cpu", blocks=blocks, store=folder)


def make_good_folder(folder: Path, image: np.ndarray, model: Any) -> Path:
    """Do the work but for one block."""
    import napari_aeseg as aeseg

    grid = aeseg.SegmentationParams(patch_size=8, patches="grid", tile_size=64)
    blocks = aeseg.BlockParams(block_size=BLOCK * 2, max_patches=400)
    path = folder / "store"
    aeseg.build_hierarchy(image, model, grid, device="cpu", blocks=blocks, store=path)
    return path


def write_hostile_blocks(path: Path, good: Path, rng: Rng) -> str:
    """Write one hostile folder; return what is wrong with it."""
    shutil.copytree(good, path)
    if rng.random() < 0.5:
        files = sorted((path / "blocks").glob("*.npz"))
        files[rng.integers(len(files))].unlink()
    kinds = [_run, _run, _npz_bytes, _npz_values, _npz_values, _npz_values, _npz_members]
    kinds += [_npz_zip, _coarsening, _metadata, _ids, _links_in, _any_file]
    kind = kinds[rng.integers(len(kinds))]
    kind(path, rng)
    return kind.__name__.strip("_")


def _run(path: Path, rng: Rng) -> None:
    file = path / "run.json"
    known = json.loads(file.read_text())
    match rng.integers(5):
        case 0:
            file.write_bytes(damaged(file.read_bytes(), rng))
            return
        case 1:
            blocks = [[0, 64], [-64, 64], [1, 1], [64], [64, 64, 64], [2**62, 2**62], [1e400, 64]]
            blocks += ["64", [True, 64], [64.5, 64], [], None, [10**400, 64], [float("nan"), 64]]
            blocks += [[63, 64], [64, 128], [32, 32], {"64": 1, "1056": 2}]
            known["block"] = blocks[rng.integers(len(blocks))]
        case 2:
            file.write_text("[" * int(rng.choice([10, 100_000])))
            return
        case _:
            known = changed(known, rng)
    file.write_text(as_text(known))


def _some_npz(path: Path, rng: Rng) -> Path:
    files = sorted((path / "blocks").glob("*.npz"))
    return files[rng.integers(len(files))]


def _npz_bytes(path: Path, rng: Rng) -> None:
    file = _some_npz(path, rng)
    file.write_bytes(damaged(file.read_bytes(), rng, _some_npz(path, rng).read_bytes()))


def _loaded(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as found:
        return dict(found)


def _save(file: Path, arrays: dict[str, np.ndarray], rng: Rng) -> None:
    with file.open("wb") as stream:
        (np.savez_compressed if rng.random() < 0.2 else np.savez)(stream, **arrays)


def _npz_values(path: Path, rng: Rng) -> None:
    """Other numbers, shapes and types."""
    file = path / "coarsening.npz" if rng.random() < 0.1 else _some_npz(path, rng)
    arrays = _loaded(file)
    for _ in range(int(rng.integers(1, 3))):
        name = list(arrays)[rng.integers(len(arrays))]
        values = arrays[name]
        match rng.integers(8):
            case 0:
                arrays[name] = values.astype(str(rng.choice(["f4", "f8", "i1", "c16", "S9", "?"])))
            case 1:
                arrays[name] = values[..., :-1] if values.ndim and values.shape[-1] else values
            case 2:
                arrays[name] = values[:0] if values.ndim else values
            case 3:
                arrays[name] = np.concatenate([values, values]) if values.ndim else values[None]
            case 4 if values.dtype.kind == "f":
                arrays[name] = wild(values, rng)
            case _:
                many = values.size > 0 and values.ndim > 0
                arrays[name] = odd_numbers(values, rng) if many else np.full_like(values, 10**9)
    _save(file, arrays, rng)


def _npz_members(path: Path, rng: Rng) -> None:
    """Missing, further and pickled arrays."""
    file = path / "coarsening.npz" if rng.random() < 0.2 else _some_npz(path, rng)
    arrays = _loaded(file)
    name = list(arrays)[rng.integers(len(arrays))]
    match rng.integers(4):
        case 0:
            del arrays[name]
        case 1:
            arrays["../../out"] = np.zeros(3)
        case 2:
            arrays[name] = np.array([{"a": 1}, None], dtype=object)
        case _:
            arrays[str(rng.choice(["level", "face_2_0", "edges", "x" * 5000]))] = arrays[name]
    _save(file, arrays, rng)


def _npz_zip(path: Path, rng: Rng) -> None:
    """Archives that unpack to gigabytes, promise terabytes, are locked, or are none."""
    file = path / "coarsening.npz" if rng.random() < 0.3 else _some_npz(path, rng)
    arrays = _loaded(file)
    name = list(arrays)[rng.integers(len(arrays))]
    stream = io.BytesIO()
    kind = rng.integers(6)
    with zipfile.ZipFile(
        stream, "w", zipfile.ZIP_DEFLATED if kind < 2 else zipfile.ZIP_STORED
    ) as z:
        for key, values in arrays.items():
            raw = io.BytesIO()
            np.save(raw, values)
            data = raw.getvalue()
            if key == name:
                shape = {0: (2**22,), 1: (2**40,), 2: (2**40, 2**20), 3: (2**62, 0)}.get(int(kind))
                if shape is not None:
                    head = io.BytesIO()
                    dtype = values.dtype.str
                    np.lib.format.write_array_header_1_0(
                        head, {"descr": dtype, "fortran_order": False, "shape": shape}
                    )
                    size = 2**22 * values.dtype.itemsize if kind == 0 else 64
                    data = head.getvalue() + bytes(size if rng.random() < 0.2 else 64)
                if kind == 4:
                    data = damaged(data, rng)
            z.writestr(f"{key}.npy", data)
    whole = bytearray(stream.getvalue())
    if kind == 5:  # flags and methods in the directory at the end
        at = whole.find(b"PK\x01\x02")
        place = at + int(rng.choice([6, 8, 10, 20, 24, 42]))
        whole[place] ^= int(rng.integers(1, 256))
    file.write_bytes(bytes(whole))


def _coarsening(path: Path, rng: Rng) -> None:
    """How patches are joined, with blocks left to do it in."""
    for file in sorted((path / "blocks").glob("*.npz"))[: int(rng.integers(1, 4))]:
        file.unlink()
    file = path / "coarsening.npz"
    arrays = _loaded(file)
    match rng.integers(4):
        case 0:
            file.write_bytes(damaged(file.read_bytes(), rng))
            return
        case 1:
            odd = [0.0, -1.0, np.nan, np.inf, 1e-300, 1e300, 1.0, "12", True]
            name = str(
                rng.choice(
                    [
                        "pixels_per_patch",
                        "calibration/scale",
                        "calibration/contrast",
                        "calibration/unit",
                    ]
                )
            )
            arrays[name] = np.array(odd[rng.integers(len(odd))])
        case _:
            names = [name for name, values in arrays.items() if values.size > 1]
            name = names[rng.integers(len(names))]
            values = arrays[name]
            arrays[name] = [
                *(values.T, values[:-1], wild(values, rng), values * 0, -values),
                *(odd_numbers(values, rng) for _ in range(3)),
            ][rng.integers(8)]
    _save(file, arrays, rng)


def _metadata(path: Path, rng: Rng) -> None:
    """What zarr is told of the patch ids."""
    file = path / str(rng.choice(["patches", "patches_2"])) / "zarr.json"
    metadata = json.loads(file.read_text())
    match rng.integers(8):
        case 0:
            metadata["shape"] = [2**40, 2**40]
        case 1:
            metadata["chunk_grid"]["configuration"]["chunk_shape"] = [2**20, 2**20]
        case 2:
            metadata["data_type"] = str(rng.choice(["int8", "uint32", "float32", "string"]))
            metadata["fill_value"] = "" if metadata["data_type"] == "string" else 0
        case 3:
            metadata["fill_value"] = int(rng.choice([7, 10**6, -1, 2**31 - 1]))
        case 4:
            separator = str(rng.choice([".", "../../"]))
            metadata["chunk_key_encoding"]["configuration"]["separator"] = separator
        case 5:
            metadata["codecs"] = metadata["codecs"][:1]
        case 6:
            metadata["shape"] = metadata["shape"][::-1]
        case _:
            metadata = changed(metadata, rng)
    file.write_text(as_text(metadata))


def _ids(path: Path, rng: Rng) -> None:
    """Patch ids that no block has."""
    import zarr

    name = str(rng.choice(["patches", "patches_2"]))
    if rng.random() < 0.5:
        array = zarr.open_array(str(path / name), mode="r+")
        array[:8, :8] = int(rng.choice([-1, -(2**31), 2**31 - 1, 70, 500, 10**6]))
        return
    chunks = [p for p in files_in(path / name) if p.name != "zarr.json"]
    file = chunks[rng.integers(len(chunks))]
    if rng.random() < 0.2:
        file.unlink()
    else:
        file.write_bytes(damaged(file.read_bytes(), rng))


def _links_in(path: Path, rng: Rng) -> None:
    """Folders that lie elsewhere, where others' files would be written over."""
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    name = str(rng.choice(["patches", "patches_2", "blocks", "patches/c", "patches/c/0"]))
    match rng.integers(4):
        case 0:
            moved = outside / name.replace("/", "_")
            shutil.move(path / name, moved)
            (path / name).symlink_to(moved, target_is_directory=True)
        case 1:
            chunks = [p for p in files_in(path / "patches") if p.name != "zarr.json"]
            for file in chunks:
                moved = outside / f"{file.parent.name}_{file.name}"
                shutil.move(file, moved)
                file.symlink_to(moved)
        case 2:
            (path / "coarsening.part").symlink_to(outside / "coarsening")
        case _:
            shutil.rmtree(path / "patches")
            if rng.random() < 0.5:
                (path / "patches").mkdir()


def _any_file(path: Path, rng: Rng) -> None:
    if rng.random() < 0.5:
        files = files_in(path)
        file = files[rng.integers(len(files))]
        if rng.random() < 0.3:
            file.unlink()
        else:
            file.write_bytes(damaged(file.read_bytes(), rng))
        return
    files = [p for p in files_in(path) if p.suffix in (".npz", ".json")]
    file = files[rng.integers(len(files))]
    if file.name != "zarr.json":
        file.unlink()
        match rng.integers(3):
            case 0:
                file.symlink_to("/dev/zero")
            case 1:
                os.mkfifo(file)
            case _:
                file.mkdir()
