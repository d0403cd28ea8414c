"""Image files of all kinds, damaged in all ways, and what must come of them: pixels or an error."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import struct
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as imageio
import numpy as np
import tifffile
import zarr
from hypothesis import strategies as st

from napari_aeseg import AesegError
from napari_aeseg.cli import main
from napari_aeseg.io.images import open_file, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


GREY = np.random.default_rng(0).integers(0, 250, (40, 44)).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
STACK = np.stack([GREY, GREY[:, ::-1]] * 2).astype(np.uint16)
# A file must be read or refused within so many seconds of a processor.
LONGEST = 60
# What promises more is worked on in blocks, for as long as that takes; it is not tried here.
MOST_PIXELS = 10**6
OME = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "nm"}
TIFFS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "strips": (GREY, {"rowsperstrip": 7}),
    "tiles": (GREY, {"tile": (16, 16), "compression": "zlib"}),
    "predictor": (STACK, {"compression": "zlib", "predictor": True, "photometric": "minisblack"}),
    "rgb": (RGB, {"photometric": "rgb"}),
    "big": (STACK, {"bigtiff": True, "photometric": "minisblack"}),
    "float": (GREY / 7, {"byteorder": ">"}),
    "imagej": (STACK, {"imagej": True, "resolution": (4, 2), "metadata": {"spacing": 2}}),
    "ome": (STACK, {"ome": True, "metadata": OME, "photometric": "minisblack"}),
    "lzma": (GREY, {"compression": "lzma"}),
}
PICTURES = {"png": GREY, "colour.png": RGB, "deep.png": STACK[0], "jpg": RGB, "bmp": GREY}
PICTURES |= {"gif": STACK.astype(np.uint8), "webp": RGB}
ZARRS = ("2", "3", "sharded", "multiscale 0.4", "multiscale 0.5")
NUMBERS = (0, 1, 2, 7, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63 - 1, 2**64 - 1)


@cache
def whole(kind: str) -> bytes:
    """Return a file that is not damaged."""
    file = io.BytesIO()
    if kind in TIFFS:
        image, options = TIFFS[kind]
        tifffile.imwrite(file, image, **options)
        return file.getvalue()
    return imageio.imwrite("<bytes>", PICTURES[kind], extension=f".{kind.split('.')[-1]}")


def write_zarr(kind: str, path: Path) -> None:
    """Write a zarr array or image that is not damaged."""
    if not kind.startswith("multiscale"):
        more: dict[str, Any] = {"zarr_format": 2 if kind == "2" else 3, "chunks": (16, 16)}
        if kind == "sharded":
            more["shards"] = (32, 32)
        zarr.create_array(store=str(path), data=GREY, **more)
        return
    version = kind.split()[1]
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=STACK, chunks=(1, 16, 44))
    about = {
        "version": version,
        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": [2, 0.5, 0.5]}],
            }
        ],
    }
    listed = {"multiscales": [about]}
    group.attrs.update(listed if version == "0.4" else {"ome": listed})


@dataclass(frozen=True)
class Damaged:
    """A kind of file, and by which random numbers it is damaged."""

    kind: str
    number: int


def cases() -> st.SearchStrategy[Damaged]:
    """Return any kind of file with any damage."""
    kinds = [*TIFFS, *TIFFS, *PICTURES, *ZARRS]
    return st.builds(Damaged, st.sampled_from(kinds), st.integers(0, 2**32 - 1))


def write(case: Damaged, folder: Path) -> Path:
    """Write a damaged file into a folder."""
    rng = np.random.default_rng(case.number)
    if case.kind in ZARRS:
        path = folder / "a.zarr"
        write_zarr(case.kind, path)
        damage_zarr(path, rng)
        return path
    path = folder / ("a.tif" if case.kind in TIFFS else f"a.{case.kind.split('.')[-1]}")
    content = whole(case.kind)
    ways = [cut_off, *[overwritten] * 3, number_written, left_out, repeated, mixed]
    ways += [entry_changed] * 6 if case.kind in TIFFS else []
    for _ in range(rng.integers(1, 4)):
        content = ways[rng.integers(len(ways))](content, rng)
    path.write_bytes(content)
    return path


def cut_off(content: bytes, rng: np.random.Generator) -> bytes:
    """Lose the end."""
    return content[: rng.integers(len(content) + 1)]


def overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes, mostly of the beginning or the end."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if changed:
            changed[place(len(changed), rng)] = rng.integers(256)
    return bytes(changed)


def place(length: int, rng: np.random.Generator) -> int:
    """Return a place: near the beginning, near the end, or anywhere."""
    near = int(rng.integers(min(length, 300)))
    return (near, length - 1 - near, int(rng.integers(length)))[rng.integers(3)]


def number_written(content: bytes, rng: np.random.Generator) -> bytes:
    """Write an unlikely number somewhere."""
    form = ("<H", "<I", "<Q", ">I")[rng.integers(4)]
    size = struct.calcsize(form)
    if len(content) < size:
        return content
    at = min(place(len(content), rng), len(content) - size)
    value = NUMBERS[rng.integers(len(NUMBERS))] % 2 ** (8 * size)
    return content[:at] + struct.pack(form, value) + content[at + size :]


def entry_changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Write an unlikely number as the tag, type, count or value of an entry of a TIFF file."""
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[rng.integers(len(file.pages))]
            tags = list(page.tags)
            at, order = tags[rng.integers(len(tags))].offset, file.byteorder
            big = file.is_bigtiff
    except Exception:
        return number_written(content, rng)
    starts, forms = ((0, 2, 4, 12), "HHQQ") if big else ((0, 2, 4, 8), "HHII")
    part = (0, 1, 2, 3, 3, 3)[rng.integers(6)]
    form = order + forms[part]
    value = NUMBERS[rng.integers(len(NUMBERS))] if part else rng.integers(250, 350)
    if part == 1:
        value = rng.integers(0, 20)
    packed = struct.pack(form, int(value) % 2 ** (8 * struct.calcsize(form)))
    at += starts[part]
    return content[:at] + packed + content[at + len(packed) :]


def left_out(content: bytes, rng: np.random.Generator) -> bytes:
    """Lose something in the middle."""
    first, last = sorted(rng.integers(len(content) + 1, size=2))
    return content[:first] + content[min(last, first + 200) :]


def repeated(content: bytes, rng: np.random.Generator) -> bytes:
    """Have something twice."""
    first, last = sorted(rng.integers(len(content) + 1, size=2))
    return content[:last] + content[first:last] + content[last:]


def mixed(content: bytes, rng: np.random.Generator) -> bytes:
    """Go on with another file."""
    kinds = [*TIFFS, *PICTURES]
    other = whole(kinds[rng.integers(len(kinds))])
    at = rng.integers(min(len(content), len(other)) + 1)
    return content[:at] + other[at:]


def damage_zarr(path: Path, rng: np.random.Generator) -> None:
    """Damage a file of a zarr folder, lose it, or change what its metadata say."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    about = [p for p in files if p.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup")]
    for _ in range(rng.integers(1, 4)):
        file = files[rng.integers(len(files))]
        way = rng.integers(8)
        if way < 5:
            file = about[rng.integers(len(about))]
        if not file.exists():
            continue
        if way < 4:
            with contextlib.suppress(ValueError):
                text = json.dumps(changed(json.loads(file.read_bytes()), rng))
                file.write_text(text)
        elif way == 7:
            file.unlink()
        else:
            bytes_changed = (cut_off, overwritten, left_out)[rng.integers(3)]
            file.write_bytes(bytes_changed(file.read_bytes(), rng))


VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 7, 10**6, 10**9, 10**15, 2**63, 1e300, float("nan"), "", "0", "../0"),
    *(
        "/etc",
        "<f8",
        "|O",
        "|S4",
        "gzip",
        "blosc",
        "bytes",
        "é" * 9,
        [],
        {},
        [1],
        [0, 0],
        [10**9] * 2,
    ),
    *([16, 16, 16], {"name": "x"}, {"id": "zlib"}, "NaN", [[[[]]]], ["y"] * 2, ["y", "x"]),
)


def changed(value: Any, rng: np.random.Generator) -> Any:
    """Return a value of JSON in which one thing is something else, or gone."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return VALUES[rng.integers(len(VALUES))]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[rng.integers(len(keys))]
    copy = value.copy()
    if rng.random() < 0.1:
        del copy[key]
    else:
        copy[key] = changed(value[key], rng)
    return copy


class _OutOfTimeError(BaseException):
    """No `Exception`: whoever catches those must not take it for a damaged file."""


@contextlib.contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """End what takes longer with an AssertionError; without such signals, let it go on."""
    if not hasattr(signal, "SIGPROF"):
        yield
        return

    def end(*_: object) -> None:
        raise _OutOfTimeError

    before = signal.signal(signal.SIGPROF, end)
    # Again and again: in a callback, nobody would hear it.
    signal.setitimer(signal.ITIMER_PROF, seconds, 5)
    try:
        yield
    except _OutOfTimeError as error:
        raise AssertionError(f"it took more than {seconds} s of a processor") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def try_file(case: Damaged, model_path: Path) -> Counter[str]:
    """Open a damaged file in all ways; raise AssertionError if what is said is not right."""
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, bounded(LONGEST):
        folder = Path(name)
        path = write(case, folder)
        for work in (open_file, opened_lazily, read_file):
            done["opened" if is_read(work, path) else "refused"] += 1
        commands = [["info", str(path)]]
        if case.number % 4 == 0 and promised(path) <= MOST_PIXELS:
            output = ("labels", "labels.tif")[case.number // 4 % 2]
            commands.append(
                [
                    *("segment", str(path), "--model", str(model_path), "--device", "cpu"),
                    *("--output", str(folder / output), "--block-size", "32"),
                ]
            )
        for command in commands:
            done["commands ended well" if ran(command) else "commands refused"] += 1
    return done


def promised(path: Path) -> int:
    """Return how many pixels a file says that it has; 0 if it says nothing."""
    try:
        return int(open_file(path, largest=0).array.size)
    except AesegError:
        return 0


def opened_lazily(path: Path) -> np.ndarray:
    """Open a file without loading it, and look at its first pixel."""
    array = open_file(path, largest=0).array
    try:
        return np.asarray(array[(0,) * array.ndim])
    except Exception as error:
        raise AesegError(str(error)) from error


def is_read(work: Callable[[Path], Any], path: Path) -> bool:
    """Return whether a file is read; raise AssertionError unless it is refused in words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            work(path)
        except AesegError:
            return False
        return True


def ran(command: list[str]) -> bool:
    """Return whether a command ended well; raise AssertionError unless it said why not."""
    out, err = io.StringIO(), io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.simplefilter("ignore")
        code = main(command)
    assert code in (0, 1), code
    assert code == 0 or "napari-aeseg: " in err.getvalue(), err.getvalue()
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return code == 0
