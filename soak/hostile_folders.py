"""Saved hierarchies that lie, their checksums made right again by whoever made them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from odd_values import Rng, as_text, changed, damaged, odd_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "napari-aeseg"


def make_good_hierarchies(folder: Path) -> list[Path]:
    """Save good hierarchies of all kinds: with a tree and without, a volume, one in blocks."""
    from dataclasses import replace

    import napari_aeseg as aeseg

    rng = np.random.default_rng(0)
    params = aeseg.TrainingParams(levels=2, width=2, convolutions=1, crop_size=16, steps=2)
    grid = aeseg.SegmentationParams(patch_size=4, patches="grid", tile_size=32)
    found = []
    for number, (shape, axes) in enumerate((((24, 20, 2), "YXC"), ((3, 16, 16), "ZYX"))):
        image = rng.random(shape)
        model = aeseg.train(image, params, axes=axes, device="cpu")
        tree = aeseg.build_hierarchy(image, model, grid, axes=axes, device="cpu")
        tree = replace(tree, notes=("Light was evened out.",)).prepare()
        if number == 0:
            tree = replace(tree, axes=tree.axes.with_voxel_size((0.5, 0.5), "micrometer")).prepare()
            bare = replace(tree)  # what it has computed is not copied
            bare.save(folder / "bare.aeseg.zarr")
            found.append(folder / "bare.aeseg.zarr")
        path = folder / f"{number}.aeseg.zarr"
        tree.save(path)
        found.append(path)
    image = rng.random((64, 1100))
    model = aeseg.train(image, params, device="cpu")
    blocks = aeseg.BlockParams(block_size=64, max_patches=100)
    big = aeseg.build_hierarchy(image, model, grid, device="cpu", blocks=blocks)
    big.save(folder / "blocks.aeseg.zarr")
    return [*found, folder / "blocks.aeseg.zarr"]


def write_hostile_hierarchy(path: Path, good: list[Path], rng: Rng) -> str:
    """Write one hostile folder; return what is wrong with it."""
    shutil.copytree(good[rng.integers(len(good))], path)
    kinds = [_any_file, _header, _header, _header, _unsigned, _metadata, _metadata, _values]
    kinds += [_values, _values, _values, _chunk, _chunk, _links, _shapes, _others, _bomb]
    kind = kinds[rng.integers(len(kinds))]
    kind(path, rng)
    return kind.__name__.strip("_")


def header_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "zarr.json").read_text())["attributes"][KEY]


def signed(path: Path, header: Any) -> None:
    """Write a header with a checksum that fits."""
    file = path / "zarr.json"
    whole = json.loads(file.read_text())
    if isinstance(header, dict):
        header.pop("sha256", None)
        try:
            text = json.dumps(header, sort_keys=True)
            header["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        except (RecursionError, ValueError, TypeError):
            pass
    whole["attributes"][KEY] = header
    file.write_text(as_text(whole))


def files_in(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def arrays_in(path: Path) -> list[str]:
    return sorted(header_of(path)["arrays"])


def read(path: Path, name: str) -> np.ndarray:
    """The values of an array of one chunk along each axis; of a larger one its first chunk."""
    from numcodecs import Blosc

    entry = header_of(path)["arrays"][name]
    dtype = np.dtype(entry["dtype"])
    data = (path / name).joinpath("c", *["0"] * len(entry["shape"])).read_bytes()
    return np.frombuffer(Blosc().decode(data[:-4]), dtype).reshape(entry["chunks"]).copy()


def packed(data: bytes, typesize: int) -> bytes:
    from numcodecs import Blosc

    return Blosc("zstd", 3, Blosc.SHUFFLE).encode(np.frombuffer(data, f"V{typesize}"))


def with_crc(data: bytes) -> bytes:
    from numcodecs.checksum32 import CRC32C

    return bytes(CRC32C(location="end").encode(data))


def put(path: Path, name: str, values: np.ndarray, header: dict[str, Any] | None = None) -> None:
    """Put another array of one chunk into a folder, with all that is said of it."""
    header = header_of(path) if header is None else header
    values = np.ascontiguousarray(values)
    file = path / name / "zarr.json"
    metadata = json.loads(file.read_text())
    chunks = [max(1, n) for n in values.shape]
    metadata["shape"], metadata["data_type"] = list(values.shape), values.dtype.name
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunks
    file.write_text(json.dumps(metadata))
    shutil.rmtree(path / name / "c", ignore_errors=True)
    if values.size:
        chunk = (path / name).joinpath("c", *["0"] * values.ndim)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_bytes(with_crc(packed(values.tobytes(), values.dtype.itemsize)))
    header["arrays"][name] = {
        "shape": list(values.shape),
        "dtype": values.dtype.name,
        "chunks": chunks,
        "blake2b": hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest(),
    }
    signed(path, header)


def _any_file(path: Path, rng: Rng) -> None:
    files = files_in(path)
    for _ in range(int(rng.integers(1, 3))):
        file, other = (files[i] for i in rng.integers(len(files), size=2))
        match rng.integers(6):
            case 0:
                file.unlink(missing_ok=True)
            case 1:
                shutil.copy(other, file) if file != other and other.exists() else None
            case 2:
                (file.parent / str(rng.choice(["0", "1", "c", "zarray", ".zattrs"]))).mkdir(
                    exist_ok=True
                ) if not (file.parent / "0").exists() else None
            case _:
                if file.exists():
                    file.write_bytes(
                        damaged(
                            file.read_bytes(), rng, other.read_bytes() if other.exists() else b""
                        )
                    )


def _header(path: Path, rng: Rng) -> None:
    header = header_of(path)
    for _ in range(int(rng.integers(1, 4))):
        header = changed(header, rng, least_depth=int(rng.random() < 0.97))
    signed(path, header)


def _unsigned(path: Path, rng: Rng) -> None:
    file = path / "zarr.json"
    whole = json.loads(file.read_text())
    file.write_text(as_text(changed(whole, rng)))


def _metadata(path: Path, rng: Rng) -> None:
    """What zarr is told of an array."""
    names = arrays_in(path)
    file = path / names[rng.integers(len(names))] / "zarr.json"
    metadata = json.loads(file.read_text())
    values = odd_values(rng)
    bytes_ = {"name": "bytes", "configuration": {"endian": "little"}}
    match rng.integers(10):
        case 0:
            metadata["chunk_key_encoding"] = {
                "name": str(rng.choice(["v2", "default", "numcodecs.pickle"])),
                "configuration": {"separator": str(rng.choice([".", "/", "../"]))},
            }
            for chunk in (file.parent / "c").rglob("*"):  # where zarr would look then
                if chunk.is_file():
                    place = chunk.relative_to(file.parent / "c").parts
                    for name in ("c." + ".".join(place), ".".join(place)):
                        (file.parent / name).write_bytes(_huge(rng))
        case 1:
            names = ["pickle", "numcodecs.pickle", "vlen-bytes", "zstd", "gzip", "transpose"]
            names += ["sharding_indexed", "numcodecs.lzma", "os.system", "../x", "crc32c", "blosc"]
            codec = {"name": str(rng.choice(names)), "configuration": values[rng.integers(50)]}
            metadata["codecs"].insert(int(rng.integers(4)), codec)
        case 2:
            metadata["codecs"] = [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [1] * len(metadata["shape"]),
                        "codecs": metadata["codecs"],
                        "index_codecs": [bytes_, {"name": "crc32c"}],
                    },
                }
            ]
        case 3:
            metadata["shape"] = [2**40] * len(metadata["shape"])
        case 4:
            metadata["chunk_grid"]["configuration"]["chunk_shape"] = [2**40] * len(
                metadata["shape"]
            )
        case 5:
            kinds = ["object", "int32", "float64", "bool", "r16", "string", "numpy.datetime64", ""]
            metadata["data_type"] = str(rng.choice(kinds))
        case 6:
            metadata["storage_transformers"] = [{"name": "x", "configuration": {}}]
        case 7:
            metadata["codecs"][0]["configuration"]["endian"] = "big"
        case _:
            metadata = changed(metadata, rng)
    file.write_text(as_text(metadata))


def odd_numbers(values: np.ndarray, rng: Rng) -> np.ndarray:
    """An array with other numbers in it, of the same shape and dtype."""
    if values.dtype.kind == "f":
        most = float(np.finfo(values.dtype).max)
        odd = [np.nan, np.inf, -np.inf, most, -most, most**0.5, most**0.25, 1e-300, 0.0, -1.0, 1e9]
    else:
        odd = [0, -1, 1, 2, 6, 7, len(values), len(values) - 1, 2**31 - 1, -(2**31), 99]
        if values.dtype.itemsize == 8:
            odd += [2**62, -(2**62), 2**63 - 1]
    number = odd[rng.integers(len(odd))]
    flat = values.ravel()
    with np.errstate(all="ignore"):
        match rng.integers(7):
            case 0:
                flat[:] = number
            case 1:
                flat = rng.permutation(flat)
            case 2:
                flat = flat[::-1].copy()
            case 3:
                flat = (flat * np.array(rng.choice([-1, 0, 2, 1000])).astype(flat.dtype)).astype(
                    flat.dtype
                )
            case 4:
                rows = rng.permutation(len(values))
                flat = values[rows].ravel()
            case _:
                for _ in range(int(rng.integers(1, 5))):
                    flat[rng.integers(len(flat))] = number
    return flat.reshape(values.shape)


def _values(path: Path, rng: Rng) -> None:
    """Other numbers, with all checksums of them."""
    header = header_of(path)
    small = [
        n for n, e in header["arrays"].items() if e["shape"] == e["chunks"] and all(e["shape"])
    ]
    for _ in range(int(rng.integers(1, 3))):
        name = small[rng.integers(len(small))]
        make = _MEANT.get(name)
        values = read(path, name)
        if make is not None and rng.random() < 0.6:
            values = make(values, rng)
        else:
            values = odd_numbers(values, rng)
        put(path, name, values)


def _random_tree(children: np.ndarray, rng: Rng) -> np.ndarray:
    """A tree that is one, but joins what does not touch; sometimes a chain."""
    leaves = len(children) + 1
    left = list(rng.permutation(leaves))
    chain = rng.random() < 0.3
    made = np.empty_like(children)
    for merge in range(leaves - 1):
        a = left.pop(-1 if chain else int(rng.integers(len(left))))
        b = left.pop(int(rng.integers(len(left))))
        made[merge] = a, b
        left.append(leaves + merge)
    return made


def _costs(cost: np.ndarray, rng: Rng) -> np.ndarray:
    top = [0.0, 1e-320, 1.0, 1e150, 1.7e308][rng.integers(5)]
    return np.sort(rng.random(len(cost))) * top


def _fewer_edges(edges: np.ndarray, rng: Rng) -> np.ndarray:
    """Others than those of the patches, but sorted pairs that hold together."""
    number = int(edges.max()) + 1
    chain = np.stack([np.arange(number - 1), np.arange(1, number)], axis=1)
    pairs = np.sort(rng.integers(0, number, (len(edges), 2)), axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    chained = chain[:, 0] * number + chain[:, 1]
    further = np.setdiff1d(pairs[:, 0] * number + pairs[:, 1], chained)
    further = rng.permutation(further)[: len(edges) - len(chain)]
    keys = np.sort(np.concatenate([chained, further]))
    made = np.stack([keys // number, keys % number], axis=1)
    return made if len(made) == len(edges) else edges


def _scattered(patches: np.ndarray, rng: Rng) -> np.ndarray:
    """Patches whose pixels lie anywhere."""
    return rng.permutation(patches.ravel()).reshape(patches.shape)


def wild(values: np.ndarray, rng: Rng) -> np.ndarray:
    """Finite numbers of any size that the dtype holds."""
    power = rng.uniform(-40, 38, values.shape)
    info = np.finfo if values.dtype.kind == "f" else np.iinfo
    most = float(info(values.dtype).max)
    return np.minimum(10**power, most).astype(values.dtype)


_MEANT: dict[str, Callable[[np.ndarray, Rng], np.ndarray]] = {
    "tree/children": _random_tree,
    "tree/cost": _costs,
    "graph/edges": _fewer_edges,
    "graph/border": wild,
    "patches": _scattered,
    "statistics/mean": wild,
    "statistics/second": wild,
    "statistics/intensity": wild,
    "statistics/count": wild,
    "brightness": lambda values, rng: wild(values, rng).clip(0, 6e4).astype(values.dtype),
}


def _huge(rng: Rng) -> bytes:
    """A chunk of a few bytes that says it unpacks to gigabytes, and does."""
    head = bytes([2, 1, 0x91, 4])
    size = int(rng.choice([2**31 - 17, 2**30, 2**28]))
    head += size.to_bytes(4, "little") + (2**20).to_bytes(4, "little") + (64).to_bytes(4, "little")
    return with_crc(head + bytes(48))


def _chunk(path: Path, rng: Rng) -> None:
    """Damage inside a compressed chunk, with a checksum that fits it."""
    chunks = [p for p in files_in(path) if p.name != "zarr.json"]
    file = chunks[rng.integers(len(chunks))]
    data = bytearray(file.read_bytes()[:-4])
    match rng.integers(6):
        case 0:
            field = int(rng.choice([0, 1, 2, 3, 4, 8, 12, 16, 20]))
            value = int(rng.choice([0, 1, 16, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, len(data)]))
            width = 1 if field < 4 else 4
            data[field : field + width] = (value % 256**width).to_bytes(width, "little")
        case 1:
            data = bytearray(_huge(rng)[:-4])
        case 2:
            data[2] = int(rng.integers(256))  # which compressor, and how bytes lie
        case _:
            head = data[:16]
            data = bytearray(damaged(bytes(data), rng))
            if rng.random() < 0.7:
                data[:16] = head
                if rng.random() < 0.5:
                    data[12:16] = len(data).to_bytes(4, "little")
    file.write_bytes(with_crc(bytes(data)))


def _links(path: Path, rng: Rng) -> None:
    """Links out of the folder, and what is no file."""
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret").write_bytes(b"secret" * 100)
    files = files_in(path)
    file = files[rng.integers(len(files))]
    match rng.integers(7):
        case 0:
            file.unlink()
            file.symlink_to(outside / "secret")
        case 1:
            file.unlink()
            file.symlink_to("/dev/zero")
        case 2:
            file.unlink()
            os.mkfifo(file)
        case 3:
            file.unlink()
            file.symlink_to(file)
        case 4:
            file.unlink()
            file.mkdir()
        case 5:
            name = path / arrays_in(path)[0].split("/")[0]
            shutil.rmtree(name)
            name.symlink_to(outside, target_is_directory=True)
        case _:
            file.chmod(0)


def _shapes(path: Path, rng: Rng) -> None:
    """Terabytes, promised in all places at once."""
    from napari_aeseg.io.zarr_folder import chunks_of

    header = header_of(path)
    axes = header["axes"]
    long = int(rng.choice([2**20, 2**31, 2**40, 2**62]))
    kind = rng.integers(4)
    if kind == 0:
        axes["shape"] = [
            n if a == "C" else long for n, a in zip(axes["shape"], axes["letters"], strict=False)
        ]
    elif kind == 1:
        axes["shape"] = [
            n if a != "X" else long for n, a in zip(axes["shape"], axes["letters"], strict=False)
        ]
    elif kind == 2:
        header["patches"] = int(rng.choice([2**31 - 1, 2**20]))
    else:
        header["features"], header["edges"] = 2**20, 2**40
    if header["steps"] is not None and rng.random() < 0.5:
        header["steps"] = [2**i for i in range(int(rng.choice([1, 3, 40, 300])))]
        if rng.random() < 0.2:
            header["steps"] = [1] * 100_000
    space = [n for n, a in zip(axes["shape"], axes["letters"], strict=False) if a != "C"]
    sizes = {"P": header["patches"], "F": header["features"], "E": header["edges"]}
    from napari_aeseg.regions.hierarchy_file import ARRAYS

    for name, entry in header["arrays"].items():
        shape = list(entry["shape"])
        if name.startswith("coarse/"):
            step = int(name.split("/")[1])
            shape = [-(-n // step) if i >= len(space) - 2 else n for i, n in enumerate(space)]
        elif ARRAYS[name][1] == "space":
            shape = space
        else:
            letters = {**sizes, "M": sizes["P"] - 1}
            shape = [letters.get(k, n) for k, n in zip(ARRAYS[name][1], shape, strict=False)]
        entry["shape"], entry["chunks"] = shape, list(chunks_of(tuple(shape)))
        file = path / name / "zarr.json"
        metadata = json.loads(file.read_text())
        metadata["shape"] = shape
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = entry["chunks"]
        file.write_text(json.dumps(metadata))
    signed(path, header)


def _bomb(path: Path, rng: Rng) -> None:
    """An image that really unpacks to gigabytes, from some kilobytes; all checksums are right."""
    from napari_aeseg.io.zarr_folder import chunks_of

    header = header_of(path)
    if header["steps"] is not None or header["axes"]["letters"] != "YXC":
        return _values(path, rng)
    shape = (2**14, 2**14) if rng.random() < 0.3 else (2**12, 2**12)
    header["axes"]["shape"][:2] = shape
    chunks = chunks_of(shape)
    for name in ("patches", "brightness"):
        entry = header["arrays"][name]
        dtype = np.dtype(entry["dtype"])
        size = int(np.prod(chunks)) * dtype.itemsize
        chunk = path.parent / "chunk"
        chunk.write_bytes(with_crc(packed(bytes(size), dtype.itemsize)))
        shutil.rmtree(path / name / "c")
        for row in range(shape[0] // chunks[0]):
            (path / name / "c" / str(row)).mkdir(parents=True)
            for column in range(shape[1] // chunks[1]):
                os.link(chunk, path / name / "c" / str(row) / str(column))
        chunk.unlink()
        entry["shape"], entry["chunks"] = list(shape), list(chunks)
        file = path / name / "zarr.json"
        metadata = json.loads(file.read_text())
        metadata["shape"] = list(shape)
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = list(chunks)
        file.write_text(json.dumps(metadata))
    signed(path, header)
    return None


def _others(path: Path, rng: Rng) -> None:
    """Folders that are none of ours, or hardly."""
    match rng.integers(6):
        case 0:
            shutil.rmtree(path)
            path.write_bytes(b"a file")
        case 1:
            (path / "zarr.json").unlink()
        case 2:
            (path / "zarr.json").write_text("[" * int(rng.choice([10, 100_000])))
        case 3:
            (path / "zarr.json").write_text('{"attributes": {}}')
        case 4:
            piece = str(rng.choice(["{},", "[],", '"ab",', "1.5,"]))
            text = (
                f'{{"attributes": {{"{KEY}": [{piece * int(rng.choice([1000, 4_000_000]))} 0]}}}}'
            )
            (path / "zarr.json").write_text(text)
        case _:
            header = header_of(path)
            header["format_version"] = int(rng.integers(2, 9))
            values = odd_values(rng)
            header["package_version"] = values[rng.integers(len(values))]
            signed(path, header)
