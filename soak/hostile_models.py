"""Model files that lie: what the reader of model files must refuse, or make a sound model of."""

from __future__ import annotations

import io
import json
import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from odd_values import Rng, as_text, changed, damaged, odd_values

if TYPE_CHECKING:
    from pathlib import Path

KEY = "napari-aeseg"
DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "U64", "C64"]
DTYPES += ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "V8", "object", ""]


@dataclass
class Parts:
    """A model file taken apart."""

    entries: dict[str, Any]
    header: Any
    data: bytes

    @classmethod
    def of(cls, raw: bytes) -> Parts:
        length = int.from_bytes(raw[:8], "little")
        entries = json.loads(raw[8 : 8 + length])
        header = json.loads(entries.pop("__metadata__")[KEY])
        return cls(entries, header, raw[8 + length :])

    def file(self) -> bytes:
        """Put the file together again."""
        entries = self.entries if isinstance(self.entries, dict) else {"entries": self.entries}
        text = as_text({"__metadata__": {KEY: as_text(self.header)}, **entries})
        return framed(text.encode("utf-8", "surrogatepass"), self.data)


def framed(head: bytes, data: bytes) -> bytes:
    """A safetensors file of its header and its data."""
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data


def make_good_models() -> list[bytes]:
    """Return good files of all kinds: unfinished, with prototypes, of volumes, of any channels."""
    import tempfile
    from pathlib import Path

    import torch

    from napari_aeseg import Prototypes, TrainingParams
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.autoencoder.trainer import Trainer
    from napari_aeseg.images.intensity import read_image

    kinds = Prototypes(
        np.random.default_rng(0).random((2, 10)),
        np.random.default_rng(1).random((10, 3)),
        5.0,
        ("gland", "stroma"),
        ("#ff0000", "#00ff00"),
    )
    common = {"levels": 2, "width": 2, "convolutions": 1, "crop_size": 16, "batch_size": 2}
    found = []
    rng = np.random.default_rng(2)
    for number, (shape, more) in enumerate(
        (
            ((24, 20), {"normalisation": "training", "steps": 5}),
            ((24, 20, 3), {"decoder": "unpooling", "steps": 2}),
            ((16, 20, 20), {"dimensions": "3D", "steps": 5}),
        )
    ):
        params = TrainingParams(**{**common, **more})
        image = read_image(rng.random(shape), "ZYX" if number == 2 else None, name="Bild.tif")
        trainer = Trainer([image], params, "cpu")
        if number == 0:
            trainer.intensity = image.intensity
        for _ in range(2):
            trainer.step()
        model = trainer.snapshot()
        if number == 1:
            model = Model(model.network, None, model.record, any_channels=True)
        model.prototypes = kinds if number == 0 else None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.aeseg.safetensors"
            model.save(path)
            found.append(path.read_bytes())
    torch.manual_seed(0)
    return found


def write_hostile_model(path: Path, good: list[bytes], rng: Rng) -> str:
    """Write one hostile file; return what is wrong with it."""
    raw = good[rng.integers(len(good))]
    other = good[rng.integers(len(good))]
    kinds = [_bytes, _header, _header, _header, _header, _entries, _entries, _names, _values]
    kinds += [_values, _heads, _architecture, _foreign]
    kind = kinds[rng.integers(len(kinds))]
    if kind is _foreign and rng.random() < 0.5:
        return _special(path, raw, rng)
    path.write_bytes(kind(raw, other, rng))
    return kind.__name__.strip("_")


def _bytes(raw: bytes, other: bytes, rng: Rng) -> bytes:
    for _ in range(int(rng.integers(1, 3))):
        raw = damaged(raw, rng, other)
    return raw


def _header(raw: bytes, _: bytes, rng: Rng) -> bytes:
    """Our own header, with other values."""
    parts = Parts.of(raw)
    for _ in range(int(rng.integers(1, 4))):
        parts.header = changed(parts.header, rng, least_depth=int(rng.random() < 0.97))
    return parts.file()


def _entries(raw: bytes, _: bytes, rng: Rng) -> bytes:
    """Other dtypes, shapes and places of tensors."""
    parts = Parts.of(raw)
    names = list(parts.entries)
    entry = parts.entries[names[rng.integers(len(names))]]
    size = len(parts.data)
    match rng.integers(8):
        case 0:
            entry["dtype"] = str(rng.choice(DTYPES))
        case 1:
            shapes = [[2**62, 0], [2**63, 0], [0], [], [2**40], [-1], [2**64], [1] * 70, [1] * 5000]
            shapes += [entry["shape"][::-1], [2**32, 2**32], [0] * 3000, [1.0], ["1"], None, [[1]]]
            entry["shape"] = shapes[rng.integers(len(shapes))]
        case 2:
            pairs = [
                [0, size],
                [0, 0],
                [size, size],
                [size, 0],
                [-1, 3],
                [0, 2**63],
                [2**62, 2**63],
            ]
            pairs += [parts.entries[names[0]]["data_offsets"], [0], [0, 1, 2], [1.5, 3], None]
            entry["data_offsets"] = pairs[rng.integers(len(pairs))]
        case 3:  # says nothing: any shape with a 0 in it fits
            name = str(rng.choice(["prototypes.more", "resume.more", "encoder.9", "resume."]))
            shape = [[0, 2**62], [2**63, 0], [0, 2**63 - 1], [0] * 200, [0]][rng.integers(5)]
            dtype = str(rng.choice(DTYPES))
            parts.entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}
        case 4:  # an empty one in place of one with values, in a file that is whole
            begin, end = entry["data_offsets"]
            parts.data = parts.data[:begin] + parts.data[end:]
            for one in parts.entries.values():
                one["data_offsets"] = [n - (n >= end) * (end - begin) for n in one["data_offsets"]]
            entry["data_offsets"] = [begin, begin]
            entry["shape"] = [[0], [0, 2**62], [2**62, 0], [0] * 60][rng.integers(4)]
        case 5:  # promises terabytes
            entry["shape"], entry["data_offsets"] = [2**40], [0, 2**42]
        case 6:
            parts.entries = changed(parts.entries, rng)
        case _:
            del parts.entries[names[rng.integers(len(names))]]
    return parts.file()


def _names(raw: bytes, _: bytes, rng: Rng) -> bytes:
    parts = Parts.of(raw)
    names = list(parts.entries)
    old = names[rng.integers(len(names))]
    new = ["../../../tmp/out", "/etc/passwd", "a/b", "", "resume.", "prototypes.", "x" * 200_000]
    new += [
        "__metadata__",
        "resume.exp_avg.readout.bias",
        "prototypes.centres",
        "\x00",
        "\ud800",
        names[0],
        "é",
    ]
    name = new[rng.integers(len(new))]
    if rng.random() < 0.3:  # twice the same name, which no dict has
        text = as_text({"__metadata__": {KEY: as_text(parts.header)}, **parts.entries})
        again = f', "{old}": {as_text(parts.entries[names[rng.integers(len(names))]])}}}'
        return framed((text[:-1] + again).encode(), parts.data)
    parts.entries[name] = parts.entries.pop(old)
    return parts.file()


def _values(raw: bytes, _: bytes, rng: Rng) -> bytes:
    """Weights, moments and prototypes that are no numbers, or numbers beyond all bounds."""
    parts = Parts.of(raw)
    names = list(parts.entries)
    data = bytearray(parts.data)
    numbers = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e20, 1e10, 1e-45, -1.0, 0.0]
    number = numbers[rng.integers(len(numbers))]
    for name in names if rng.random() < 0.3 else [names[rng.integers(len(names))]]:
        entry = parts.entries[name]
        if entry["dtype"] not in ("F32", "F64"):
            continue
        begin, end = entry["data_offsets"]
        dtype = "<f8" if entry["dtype"] == "F64" else "<f4"
        values = np.frombuffer(bytes(data[begin:end]), dtype).copy()
        if rng.random() < 0.5:
            values[rng.integers(len(values))] = number
        else:
            values[:] = number
        data[begin:end] = values.tobytes()
    parts.data = bytes(data)
    return parts.file()


def _architecture(raw: bytes, _: bytes, rng: Rng) -> bytes:
    """Networks that would take all memory when they are built."""
    parts = Parts.of(raw)
    known = parts.header["architecture"]
    for name in known:
        if rng.random() < 0.5:
            values = [10**9, 4096, 256, 6, 4, 3, 1, 0, -1, 2**63, "3", None, True, 2.0, "unpooling"]
            known[name] = values[rng.integers(len(values))]
    if rng.random() < 0.5:
        known |= {"channels": 4096, "levels": 6, "width": 256, "convolutions": 4}
    if rng.random() < 0.5:
        known |= {"dimensions": int(rng.integers(1, 5)), "z_levels": int(rng.integers(-1, 8))}
    return parts.file()


def _heads(raw: bytes, _: bytes, rng: Rng) -> bytes:
    """Headers that are long, deep, many, or say that they are longer than the file."""
    parts = Parts.of(raw)
    length = int.from_bytes(raw[:8], "little")
    head, data = raw[8 : 8 + length], raw[8 + length :]
    one = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    match rng.integers(9):
        case 0:
            says = [0, 1, 7, length - 1, length + 1, 10**8, 10**8 + 1, 2**32, 2**62, 2**64 - 1]
            return int(says[rng.integers(len(says))]).to_bytes(8, "little") + raw[8:]
        case 1:
            deep = int(rng.choice([200, 5000, 200_000]))
            return framed(b'{"a":' * deep + b"1" + b"}" * deep, data)
        case 2:
            number = int(rng.choice([1000, 30_000, 300_000], p=[0.84, 0.15, 0.01]))
            return framed(("{" + ",".join(map(one.format, range(number))) + "}").encode(), b"")
        case 3:
            number = int(rng.choice([1000, 30_000, 1_000_000], p=[0.84, 0.15, 0.01]))
            more = ",".join(map(one.format, range(number)))
            return framed(head.rstrip()[:-1] + b"," + more.encode() + b"}", data)
        case 4:
            text = head.decode()
            return framed((text[:-1] + ', "__metadata__": {"a": "b"}}').encode(), data)
        case 5:
            values = odd_values(rng)
            meta = values[rng.integers(len(values))]
            return framed(as_text({"__metadata__": meta, **parts.entries}).encode(), data)
        case 6:  # our own header, long
            piece = str(rng.choice(["{},", "[],", '"ab",', "1.5,", "null,", '{"a":[{}]},']))
            number = int(rng.choice([10**3, 10**5, 3 * 10**6], p=[0.84, 0.15, 0.01]))
            odd = f'{{"format_version": 1, "a": [{piece * number} 0]}}'
            return framed(as_text({"__metadata__": {KEY: odd}, **parts.entries}).encode(), data)
        case 7:
            texts = ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '"' * 9, "{}", "[]", "\x00"]
            texts += [
                f'{{"format_version": {v}}}' for v in ("1e999", "-0", "9" * 4000, "true", "[]")
            ]
            odd = texts[rng.integers(len(texts))]
            return framed(as_text({"__metadata__": {KEY: odd}, **parts.entries}).encode(), data)
        case _:
            parts.header["format_version"] = int(rng.integers(2, 9))
            values = odd_values(rng)
            parts.header["package_version"] = values[rng.integers(len(values))]
            return parts.file()


def _foreign(raw: bytes, _: bytes, rng: Rng) -> bytes:
    """Files of other kinds."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch /tmp/aeseg-was-here",)

    numpy_file = io.BytesIO()
    np.save(numpy_file, np.zeros(9))
    return [
        pickle.dumps(Evil()),
        numpy_file.getvalue(),
        b"PK\x03\x04" + raw,
        b"",
        raw[:8],
        bytes(rng.integers(0, 256, 4000, np.uint8)),
        b"<html>not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n",
    ][rng.integers(8)]


def _special(path: Path, raw: bytes, rng: Rng) -> str:
    """What is no ordinary file."""
    match rng.integers(6):
        case 0:
            os.mkfifo(path)
            return "fifo"
        case 1:
            path.mkdir()
            return "folder"
        case 2:
            path.symlink_to(path)
            return "loop of links"
        case 3:
            path.symlink_to("/dev/zero")
            return "endless device"
        case 4:
            path.write_bytes(raw)
            os.truncate(path, 2**40)
            return "terabyte of nothing"
        case _:
            path.write_bytes(raw)
            path.chmod(0)
            return "unreadable"
