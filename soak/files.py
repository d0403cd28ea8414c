"""Reads thousands of damaged files: models, hierarchies, folders of blocks, image files.

Each must be refused with an error of the package, or be read and usable: no crash, no hang, little
memory, nothing written elsewhere, no program started. A process of its own reads, and is watched.

    python soak/files.py --number 20000
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import faulthandler
import json
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Rng = np.random.Generator

#: Share of each kind; a hierarchy takes ten times as long to read as a model.
SHARES = {"model": 0.5, "image": 0.4, "hierarchy": 0.07, "blocks": 0.03}
#: How many of the ways in `replaced` are tried. Only models come from strangers: pipes, too.
REPLACEMENTS = {"model": 8, "image": 0, "hierarchy": 5, "blocks": 5}
#: Bytes that reading may take besides three times the size of the file.
MARGIN = 256 * 2**20
#: Bytes of addresses that reading may take: a promise of terabytes fails at once.
_ADDRESSES = 8 * 2**30
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: Seconds for one file, and for a process to make and read its good files.
_SECONDS, _SECONDS_TO_START = 60.0, 600.0


# Damage, the same for the same generator


def damage_bytes(data: bytes, rng: Rng) -> bytes:
    """Return bytes with a part cut out, put in, doubled or overwritten."""
    size = len(data)
    near = int(rng.integers(min(size, 300) or 1))  # headers are at the beginning or the end
    at = (near, max(0, size - 1 - near), int(rng.integers(size or 1)))[rng.integers(3)]
    length = int(rng.integers(1, 40))
    noise = bytes(rng.integers(0, 256, length, np.uint8))
    number = int(rng.choice([0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1]))
    width = int(rng.choice([2, 4, 8]))
    match rng.integers(7):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + noise + data[at:]
        case 2:
            return data[:at] + data[at + length :]
        case 3:
            return data[: at + length] + data[at:]
        case 4:
            return data[:at] + noise + data[at + length :]
        case 5:
            number %= 256**width
            return data[:at] + number.to_bytes(width, "little") + data[at + width :]
        case _:
            return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]


def odd_value(value: Any, rng: Rng) -> Any:
    """Return a JSON value near another one, or one that is meant nowhere."""
    odd = [None, True, 0, -1, 1, 7, 2**31, 2**40, 2**63, 10**400, 0.5, 1e308, float("nan")]
    odd += [-float("inf"), "", "12", "text", "\ud800", "\x1b[2J", "../../x", "/etc/passwd"]
    odd += ["A" * 300_000, [], {}, [0], [-1, 1.5], ["a"], [2**62] * 2, [0] * 5000, {"a": None}]
    odd += [str(value)[:50], [value]]
    if isinstance(value, int | float) and abs(value) < 1e100:
        odd += [value + 1, -value, value * 1000, value / 3] * 2
    elif isinstance(value, str | list):
        odd += [value[:-1], value[::-1], value * 2, value * 500] * 2
    return odd[rng.integers(len(odd))]


def damage_json(value: Any, rng: Rng) -> Any:
    """Return a JSON value with one part of it changed, renamed or removed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.05:
        return odd_value(value, rng)
    value = copy.copy(value)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[rng.integers(len(keys))]
    way = rng.random()
    if way < 0.1:
        del value[key]
    elif way < 0.2 and isinstance(value, dict):
        value[f"{key}x"] = value.pop(key)
    else:
        value[key] = damage_json(value[key], rng)
    return value


def damage_text(text: bytes, rng: Rng) -> bytes:
    """Damage JSON as a value, or as bytes where it is none."""
    if rng.random() < 0.02:
        return b'{"a":' * 20_000
    try:
        return json.dumps(damage_json(json.loads(text), rng)).encode()
    except (ValueError, RecursionError, OverflowError):
        return damage_bytes(text, rng)


def damage_model(data: bytes, rng: Rng) -> bytes:
    """Damage the header of safetensors, ours within it, the numbers, or any bytes."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    match rng.integers(4):
        case 0:
            return damage_bytes(data, rng)
        case 1:
            header = damage_json(header, rng)
        case 2:
            ours = header["__metadata__"]["napari-aeseg"]
            header["__metadata__"]["napari-aeseg"] = damage_text(ours.encode(), rng).decode()
        case _:
            values = np.frombuffer(body[: len(body) // 4 * 4], "<f4").copy()
            odd = np.float32([np.nan, np.inf, -np.inf, 3e38, 1e20, 0.0])[rng.integers(6)]
            values[rng.integers(len(values)) :][: int(rng.choice([1, 9, 10**6]))] = odd
            body = values.tobytes() + body[len(body) // 4 * 4 :]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def damage(path: Path, rng: Rng, replacements: int = 8) -> str:
    """Damage a file, or a file of a folder, or put something else there; return how."""
    outside = path.parents[1] / "outside"
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    texts = [p for p in files if p.suffix in (".json", ".zattrs", ".zarray", ".zgroup")]
    texts += [p for p in files if p.name in (".zattrs", ".zarray", ".zgroup")]
    files = texts if texts and rng.random() < 0.6 else files
    file = files[rng.integers(len(files))]
    data = file.read_bytes()
    if replacements and rng.random() < 0.06:
        file.unlink()
        return replaced(file, data, outside, int(rng.integers(replacements)))
    for _ in range(int(rng.integers(1, 4))):
        if file.suffix == ".safetensors" and data[8:9] == b"{":
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
                data = damage_model(data, rng)
        elif file in texts and rng.random() < 0.7:
            data = damage_text(data, rng)
        elif data:
            data = damage_bytes(data, rng)
    file.write_bytes(data)
    return "changed"


def replaced(file: Path, data: bytes, outside: Path, way: int) -> str:
    """Put something else where a file was; return what."""
    match way:
        case 0:
            return "removed"
        case 1:
            file.mkdir()
            return "a folder"
        case 2:
            (outside / file.name).write_bytes(data)
            file.symlink_to(outside / file.name)
            return "a link"
        case 3:
            file.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
            return "a pickle"
        case 4:
            file.write_bytes(b"PK\x03\x04" + data)
            return "another file"
        case 5:
            os.mkfifo(file)
            return "a pipe"
        case 6:
            file.symlink_to("/dev/zero")
            return "an endless file"
        case _:
            file.write_bytes(data)
            os.truncate(file, 2**40)
            return "a terabyte"


# Good files, and how they are used


class GoodFiles:
    """Files of some kinds, made once in a folder."""

    def __init__(self, folder: Path, kinds: Iterable[str] = tuple(SHARES)) -> None:
        import napari_aeseg as aeseg

        self.image = np.random.default_rng(0).random((64, 1056)).astype(np.float32)
        self.grid = aeseg.SegmentationParams(patch_size=8, patches="grid", tile_size=64)
        params = aeseg.TrainingParams(
            levels=2, width=2, convolutions=1, crop_size=16, batch_size=2, steps=3
        )
        stop = threading.Event()
        model = aeseg.train(self.image, params.updated(normalisation="training"), device="cpu")
        parts = [model]  # then one that can be resumed, and one of volumes
        parts.append(
            aeseg.train(
                self.image,
                params,
                device="cpu",
                stop=stop,
                progress=lambda event: stop.set() if event.stage == "train" else None,
            )
        )
        volume = self.image[:, :512].reshape(16, 32, 64)
        parts.append(aeseg.train(volume, params.updated(dimensions="3D"), "ZYX", device="cpu"))
        self.model = aeseg.train(self.image, params, device="cpu")
        tree = aeseg.build_hierarchy(self.image[:, :64], model, self.grid, device="cpu")
        model.prototypes = tree.prototypes(2)
        self.paths: dict[str, list[Path]] = {kind: [] for kind in kinds}
        trees = {"small": tree}
        if "model" in kinds:
            for number, part in enumerate(parts):
                self.paths["model"].append(folder / f"{number}.aeseg.safetensors")
                part.save(self.paths["model"][-1])
        if "blocks" in kinds:
            self.paths["blocks"] = [folder / "store"]
            self.go_on(folder / "store")
            trees["large"] = aeseg.build_hierarchy(
                self.image, model, self.grid, device="cpu", blocks=aeseg.BlockParams(block_size=64)
            )
        if "hierarchy" in kinds:
            for name, hierarchy in trees.items():
                self.paths["hierarchy"].append(folder / f"{name}.aeseg.zarr")
                hierarchy.save(self.paths["hierarchy"][-1])
        if "image" in kinds:
            self.paths["image"] = write_images(folder)

    def go_on(self, path: Path) -> Any:
        """Take up the work in a folder of blocks; return the hierarchy."""
        import napari_aeseg as aeseg

        blocks = aeseg.BlockParams(block_size=64, max_patches=400)
        return aeseg.build_hierarchy(
            self.image, self.model, self.grid, device="cpu", blocks=blocks, store=path
        )

    def use(self, kind: str, path: Path) -> None:
        """Read a file and use what it holds; AssertionError if that is not sound."""
        from napari_aeseg import load_hierarchy, load_model

        if kind == "model":
            use_model(load_model(path), path.parent)
        elif kind == "hierarchy":
            tree = load_hierarchy(path)
            use_hierarchy(tree)
            tree.save(path.parent / "again.aeseg.zarr")
        elif kind == "blocks":
            use_hierarchy(self.go_on(path))
        else:
            use_image(path)


def write_images(folder: Path) -> list[Path]:
    """Write small images in all kinds of files; return their paths."""
    import imageio.v3 as imageio
    import tifffile
    import zarr

    grey = np.random.default_rng(0).integers(0, 250, (40, 44)).astype(np.uint8)
    rgb = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)
    stack = np.stack([grey, grey[:, ::-1]] * 2).astype(np.uint16)
    plain: dict[str, Any] = {"photometric": "minisblack"}
    ome = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "nm"}
    tiffs: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "strips": (grey, {"rowsperstrip": 7}),
        "tiles": (grey, {"tile": (16, 16), "compression": "zlib"}),
        "predictor": (stack, {"compression": "zlib", "predictor": True, **plain}),
        "rgb": (rgb, {"photometric": "rgb"}),
        "big": (stack, {"bigtiff": True, **plain}),
        "float": (grey / 7, {"byteorder": ">"}),
        "imagej": (stack, {"imagej": True, "resolution": (4, 2), "metadata": {"spacing": 2}}),
        "ome": (stack, {"ome": True, "metadata": ome, **plain}),
    }
    pictures = {"grey.png": grey, "rgb.png": rgb, "deep.png": stack[0], "rgb.jpg": rgb}
    pictures |= {"grey.bmp": grey, "movie.gif": stack.astype(np.uint8), "rgb.webp": rgb}
    for name, (image, options) in tiffs.items():
        tifffile.imwrite(folder / f"{name}.tif", image, **options)
    for name, image in pictures.items():
        imageio.imwrite(folder / name, image)
    for version in (2, 3):
        store = str(folder / f"zarr{version}.zarr")
        zarr.create_array(store=store, data=grey, chunks=(16, 16), zarr_format=version)
    group = zarr.open_group(str(folder / "ome.zarr"), mode="w", zarr_format=3)
    group.create_array("0", data=stack, chunks=(1, 16, 44))
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2, 0.5, 0.5]}]}
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scales = [{"version": "0.5", "axes": axes, "datasets": [level]}]
    group.attrs.update({"ome": {"multiscales": scales}})
    return [folder / f"{name}.tif" for name in tiffs] + [
        folder / name for name in [*pictures, "zarr2.zarr", "zarr3.zarr", "ome.zarr"]
    ]


def use_model(model: Any, folder: Path) -> None:
    """Encode and reconstruct an image, save the model again."""
    from napari_aeseg import load_model

    flat = model.architecture.dimensions == 2
    shape = (model.architecture.channels, *((16, 20) if flat else (8, 16, 12)))
    image, axes = np.random.default_rng(0).random(shape), "CYX" if flat else "CZYX"
    for source in ("encoder", "decoder"):
        assert np.isfinite(model.features(image, axes=axes, source=source, device="cpu")).all()
    assert np.isfinite(model.reconstruct(image, axes=axes, device="cpu")).all()
    assert np.isfinite([*model.record.losses, model.record.seconds]).all()
    again = folder / "again.aeseg.safetensors"
    model.save(again)
    assert load_model(again).fingerprint == model.fingerprint


def use_hierarchy(tree: Any) -> None:
    """Cut, measure and compare a hierarchy."""
    number = tree.n_patches
    for n in sorted({1, min(3, number), number}):
        labels = np.asarray(tree.regions(n))
        assert (labels.dtype, labels.shape) == (np.int32, tree.axes.space_shape)
        assert tree.is_lazy or len(np.unique(labels)) == n
    assert np.isfinite(tree.merge_thresholds).all()
    np.asarray(tree.classes(min(2, number)))
    assert len(tree.table(tree.regions(min(3, number))))
    assert 1 <= tree.suggest_n_regions() <= number
    if not tree.is_lazy:
        tree.objects(min_size=2)
    np.asarray(tree.reweighted(balance=0.8, scale=6.0).regions(min(3, number)))


def use_image(path: Path) -> None:
    """Open an image without loading it, look at its first pixel, load it."""
    from napari_aeseg import InputError
    from napari_aeseg.io.images import open_file, read_file

    array = open_file(path, largest=0).array
    try:
        np.asarray(array[(0,) * array.ndim])
    except Exception as error:  # of the library: work in blocks names the part that fails
        raise InputError(f"{path.name}: {error}") from error
    read_file(path)


# The process that reads


class Watch:
    """Lists writing elsewhere, programs and connections; its hook cannot be removed again."""

    EVENTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen",
              "socket.connect", "socket.getaddrinfo")  # fmt: skip

    def __init__(self) -> None:
        self._folder = ""
        self._seen: list[str] = []
        sys.addaudithook(self._on_event)

    @contextlib.contextmanager
    def outside(self, folder: Path) -> Iterator[list[str]]:
        """List what is done outside of a folder from now on."""
        self._seen, self._folder = [], os.path.realpath(folder)
        try:
            yield self._seen
        finally:
            self._folder = ""

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._folder:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if event in self.EVENTS or (writes and self._is_away(arguments[0])):
            self._seen.append(f"{event} {str(arguments[0])[:80]}")

    def _is_away(self, path: Any) -> bool:
        if isinstance(path, int):  # was opened before
            return False
        real = os.path.realpath(os.fsdecode(path))
        return not real.startswith(self._folder) and real != os.devnull


def status(name: str) -> int:
    """Return bytes of memory of this process, by the system's name for them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@contextlib.contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Give a list that holds, at the end, the bytes taken at most."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, peak = status("VmRSS"), [0]
    yield peak
    peak[0] = status("VmHWM") - before


class Reader:
    """Damages copies of good files and reads them, all in one folder."""

    def __init__(self, home: Path, kinds: Iterable[str] = tuple(SHARES)) -> None:
        self.case = home / "case"
        for name in ("good", "outside"):
            (home / name).mkdir()
        self.good = GoodFiles(home / "good", kinds)
        self.watch = Watch()
        # What is imported once, and memory that stays, is no fault of a file.
        for kind, paths in self.good.paths.items():
            for path in paths:
                self.good.use(kind, self._copy(path))
            self.read(kind, 0)
        resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + _ADDRESSES,) * 2)

    def _copy(self, path: Path) -> Path:
        shutil.rmtree(self.case, ignore_errors=True)
        self.case.mkdir()
        copied = self.case / path.name
        shutil.copytree(path, copied) if path.is_dir() else shutil.copy(path, copied)
        return copied

    def read(self, kind: str, seed: int) -> dict[str, Any]:
        """Damage one file, read it, and return what came of it."""
        rng = np.random.default_rng([seed, len(kind)])
        paths = self.good.paths[kind]
        path = self._copy(paths[rng.integers(len(paths))])
        how = damage(path, rng, REPLACEMENTS[kind])
        size = sum(p.stat().st_blocks * 512 for p in self.case.rglob("*") if p.is_file())
        with peak_memory() as peak, self.watch.outside(self.case) as seen:
            outcome, text = self._outcome(kind, path)
        problems = [text] if outcome == "wrong" else [f"it did {event}" for event in seen[:5]]
        if peak[0] > MARGIN + 3 * size:
            problems.append(f"takes {peak[0] >> 20} MiB for files of {size >> 10} KiB")
        answer = {"kind": kind, "seed": seed, "file": path.name, "how": how}
        return answer | {"outcome": outcome, "problems": problems, "MiB": peak[0] >> 20}

    def _outcome(self, kind: str, path: Path) -> tuple[str, str]:
        from napari_aeseg import AesegError

        try:
            self.good.use(kind, path)
        except (AesegError, FileNotFoundError) as error:
            text = str(error)
            if len(text) > 1500 or not text.replace("\n", "").isprintable():
                return "wrong", f"{type(error).__name__}: {ascii(text)[:600]}"
            if isinstance(error, AesegError) or not path.exists():
                return "refused", text
            return "wrong", traceback.format_exc()[-3000:]
        except BaseException:
            return "wrong", traceback.format_exc()[-3000:]
        return "read", ""


def read_files(connection: Any, errors: str, kinds: tuple[str, ...]) -> None:
    """Answer each (kind, seed) until the connection is closed."""
    import torch

    file = os.open(errors, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):  # what libraries print
        os.dup2(file, stream)
    faulthandler.enable()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)  # tifffile reports all that it finds
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="aeseg-files-") as home, contextlib.suppress(EOFError):
        reader = Reader(Path(home), kinds)
        tempfile.tempdir = str(reader.case)
        connection.send({})
        while True:
            connection.send(reader.read(*connection.recv()))


# The process that watches it


class ReaderProcess:
    """A process that reads files, and the next one when it died or hung."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.started = 0
        self._kinds = tuple(kinds)
        self._process: Any = None

    def read(self, kind: str, seed: int) -> dict[str, Any]:
        """Have one file read; a death or a hang is an outcome too."""
        if self._process is None:
            self._start()
        self._connection.send((kind, seed))
        answer = self._receive(_SECONDS)
        if answer is None:
            outcome, text = self.end()
            answer = {"kind": kind, "seed": seed, "outcome": outcome, "problems": [text], "MiB": 0}
        return answer

    def _start(self) -> None:
        self.started += 1
        self._errors = tempfile.NamedTemporaryFile("r")
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        with patch.dict(os.environ, {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}):
            arguments = other, self._errors.name, self._kinds
            self._process = context.Process(target=read_files, args=arguments)
            self._process.start()
        other.close()
        if self._receive(_SECONDS_TO_START) is None:
            raise RuntimeError(f"Good files cannot be read: {self.end()[1]}")

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        try:
            return self._connection.recv() if self._connection.poll(seconds) else None
        except EOFError:
            return None

    def end(self) -> tuple[str, str]:
        """End the process; return whether it died or hung, and what it wrote last."""
        if self._process is None:
            return "", ""
        self._connection.close()
        self._process.join(5)
        outcome = f"died ({self._process.exitcode})"
        if self._process.is_alive():
            outcome = "hung"
            self._process.kill()
            self._process.join()
        self._process = None
        with self._errors as errors:
            return outcome, f"{outcome}: {errors.read()[-3000:]}"


def read_damaged_files(
    number: int, seed: int = 0, shares: dict[str, float] = SHARES, verbose: bool = False
) -> dict[str, Any]:
    """Read so many damaged files; return counts, and all that went wrong."""
    # Kinds take turns: a part of the work is a sample of all.
    turns = sorted(
        ((i + 0.5) / share, kind, i)
        for kind, share in shares.items()
        for i in range(round(number * share))
    )
    counts: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    most: Counter[str] = Counter()
    start = time.perf_counter()
    process = ReaderProcess(shares)
    for done, (_, kind, i) in enumerate(turns, 1):
        answer = process.read(kind, seed * 10**6 + i + 1)
        counts[f"{kind} {answer['outcome']}"] += 1
        most[kind] = max(most[kind], answer["MiB"])
        if answer["problems"]:
            failures.append(answer)
            if verbose:
                print(json.dumps(answer, indent=1).replace("\\n", "\n"), flush=True)
        if verbose and done % 500 == 0:
            print(f"{done} files in {time.perf_counter() - start:.0f} s", flush=True)
    process.end()
    seconds = round(time.perf_counter() - start)
    return {
        "files": len(turns), "seed": seed, "counts": dict(sorted(counts.items())),
        "MiB": dict(most), "processes": process.started, "failures": failures, "seconds": seconds,
    }  # fmt: skip


def main() -> int:
    """Read files as the command line says; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=20_000, help="of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(SHARES))
    parser.add_argument("--json", type=Path, help="file for the counts")
    options = parser.parse_args()
    shares = {options.only: 1.0} if options.only else SHARES
    report = read_damaged_files(options.number, options.seed, shares, verbose=True)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1))
    for name, count in report["counts"].items():
        print(f"{count:7} {name}")
    wrong = len(report["failures"])
    print(f"{report['files']} files in {report['seconds']} s, {wrong} wrong, MiB: {report['MiB']}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
