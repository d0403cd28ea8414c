"""Reads hostile files in a process of its own, and says what became of each.

Started by files.py; gets a line ``KIND SEED`` for each file and answers with a line of JSON.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import hostile_blocks
import hostile_folders
import hostile_models
from watched import MARGIN, Watch, forget_peak, limit_addresses, memory_now, peak_memory

_LONGEST_TEXT = 1500


class Reader:
    """Makes hostile files, reads them, and uses what could be read.

    Parameters
    ----------
    home : Path
        For good files and hostile ones; the only place where anything may be written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models = hostile_models.make_good_models()
        (home / "good").mkdir()
        self.hierarchies = hostile_folders.make_good_hierarchies(home / "good")
        self.image, self.model = hostile_blocks.image_and_model()
        self.blocks = hostile_blocks.make_good_folder(home / "good", self.image, self.model)
        self.watch = Watch()
        self._warm()
        limit_addresses()

    def _warm(self) -> None:
        """Use each good file twice: everything is imported and all lasting memory is taken."""
        from napari_aeseg.errors import ModelFileError, sanitized

        sanitized("\x1b")
        for _ in range(2):
            for raw in self.models:
                path = self.home / "good" / "a.aeseg.safetensors"
                path.write_bytes(raw)
                self._use("model", path)
            for path in self.hierarchies:
                self._use("hierarchy", path)
            copy = self.home / "good" / "copy"
            shutil.copytree(self.blocks, copy)
            next((copy / "blocks").glob("*.npz")).unlink()
            self._use("blocks", copy)
            shutil.rmtree(copy)
            path.write_bytes(b"no model") if path.is_file() else None
            with contextlib.suppress(ModelFileError):
                bad = self.home / "good" / "bad"
                bad.write_bytes(b"no model")
                self._use("model", bad)
            for kind in ("model", "hierarchy", "blocks"):
                for seed in range(10**6, 10**6 + 12):
                    self.read(kind, seed)

    def read(self, kind: str, seed: int) -> dict[str, Any]:
        """Make one hostile file, read it, and say what came of it."""
        case = self.home / "case"
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir()
        rng = np.random.default_rng([seed, len(kind)])
        if kind == "model":
            path = case / "a.aeseg.safetensors"
            what = hostile_models.write_hostile_model(path, self.models, rng)
        elif kind == "hierarchy":
            path = case / "a.aeseg.zarr"
            what = hostile_folders.write_hostile_hierarchy(path, self.hierarchies, rng)
        else:
            path = case / "store"
            what = hostile_blocks.write_hostile_blocks(path, self.blocks, rng)
        size = _size(path)
        # Blocks are written where the work is, everything else is only read, or saved in `out`.
        target = path if kind == "blocks" else case / "out"
        (case / "out").mkdir()
        forget_peak()
        before, start = memory_now(), time.perf_counter()
        with self.watch.looking(target) as seen:
            outcome, text = self._outcome(kind, path)
        taken = peak_memory() - before
        problems = [text] if outcome == "wrong" else []
        problems += [f"it {event}" for event in sorted(set(seen))[:5]]
        if taken > MARGIN + 3 * size:
            problems.append(f"takes {taken / 2**20:.0f} MiB for {size / 2**20:.1f} MiB of files")
        return {
            "kind": kind,
            "seed": seed,
            "what": what,
            "outcome": outcome,
            "text": text[-3000:],
            "problems": problems,
            "taken": taken,
            "seconds": time.perf_counter() - start,
        }

    def _outcome(self, kind: str, path: Path) -> tuple[str, str]:
        from napari_aeseg.errors import HierarchyFileError, InputError, ModelFileError

        try:
            self._use(kind, path)
        except (HierarchyFileError, InputError, ModelFileError) as error:
            text = str(error)
            if wrong := _unclear(text, path):
                return "wrong", f"{wrong}: {type(error).__name__}: {ascii(text)[:600]}"
            return "refused", f"{type(error).__name__}: {text}"
        except FileNotFoundError as error:
            if path.exists():
                return "wrong", _traceback()
            return "refused", str(error)
        except BaseException:
            return "wrong", _traceback()
        return "loaded", ""

    def _use(self, kind: str, path: Path) -> None:
        """Read a file and use what it gives; an AssertionError says what is not sound."""
        {"model": self._use_model, "hierarchy": self._use_hierarchy, "blocks": self._use_blocks}[
            kind
        ](path)

    def _use_model(self, path: Path) -> None:
        import torch

        from napari_aeseg import load_model

        state = torch.random.get_rng_state()
        model = load_model(path)
        assert torch.equal(state, torch.random.get_rng_state()), "reading draws random numbers"
        architecture = model.architecture
        space = (16, 20) if architecture.dimensions == 2 else (8, 16, 12)
        axes = "CYX" if architecture.dimensions == 2 else "CZYX"
        image = np.random.default_rng(0).random((architecture.channels, *space))
        for source in ("encoder", "decoder"):
            features = model.features(image, axes=axes, source=source, device="cpu")
            assert np.isfinite(features).all(), "features that are not finite"
        assert np.isfinite(model.reconstruct(image, axes=axes, device="cpu")).all(), "no numbers"
        _use_checkpoint(model)
        _use_record(model)
        if model.prototypes is not None:
            kinds = model.prototypes
            assert np.isfinite(kinds.centres).all()
            assert np.isfinite(kinds.whitening).all()
        again = path.parent / "out" / "again.aeseg.safetensors"
        if again.parent.is_dir():
            model.save(again)
            assert load_model(again).fingerprint == model.fingerprint, "changes when it is saved"
        _told("info", path)

    def _use_hierarchy(self, path: Path) -> None:
        from napari_aeseg import load_hierarchy

        tree = load_hierarchy(path)
        _use_tree(tree)
        again = path.parent / "out" / "again.aeseg.zarr"
        if again.parent.is_dir():
            tree.save(again)
            load_hierarchy(again)
        _told("info", path)

    def _use_blocks(self, path: Path) -> None:
        tree = hostile_blocks.go_on(path, self.image, self.model)
        assert tree.axes.space_shape == self.image.shape
        _use_tree(tree)


def _use_checkpoint(model: Any) -> None:
    """Go on with a training as far as AdamW's first step."""
    if model.checkpoint is None:
        return
    import torch

    from napari_aeseg.autoencoder.resume import set_moments

    optimizer = torch.optim.AdamW(model.network.parameters())
    set_moments(model.network, optimizer, model.record.steps, model.checkpoint.moments)
    for weight in model.network.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def _use_record(model: Any) -> None:
    record = model.record
    assert isinstance(record.steps, int)
    assert record.steps >= 0
    assert all(isinstance(loss, int | float) and np.isfinite(loss) for loss in record.losses)
    assert all(isinstance(note, str) for note in (*record.notes, record.device))
    assert all(isinstance(i["name"], str) and isinstance(i["axes"], str) for i in record.images)
    assert np.isfinite(record.seconds)
    assert isinstance(record.params, dict)
    assert repr(model)


def _use_tree(tree: Any) -> None:
    """Ask all that can be asked of a hierarchy."""
    number = tree.n_patches
    for n in sorted({1, min(3, number), number}):
        labels = _checked(tree, tree.regions(n))
        if not tree.is_lazy:
            assert len(np.unique(labels)) == n, f"{len(np.unique(labels))} regions, not {n}"
            assert labels.min() == 1
    thresholds = tree.merge_thresholds
    assert np.isfinite(thresholds).all(), "thresholds that are no numbers"
    assert (np.diff(thresholds) >= 0).all(), "thresholds fall"
    _checked(tree, tree.regions(threshold=0.3))
    tree.threshold_at(min(3, number))
    classes = min(2, tree._class_tree[1].leaves)
    _checked(tree, tree.classes(classes))
    markers = np.zeros(tree.axes.space_shape, int)
    markers.flat[[0, -1]] = 1, 2
    with _lazily(tree):
        _checked(tree, tree.from_markers(markers))
    for painted in (tree.border_strength(), tree.merge_height(), tree.feature_colors()):
        assert np.isfinite(np.asarray(painted)).all(), "painted what is no number"
    for level in tree.map_to_pyramid(np.arange(number)):
        np.asarray(level)
    table = tree.table(tree.region_of_patch(min(3, number)) if tree.is_lazy else tree.regions(1))
    assert len(table)
    assert np.isfinite(tree.prototypes(classes).centres).all(), "prototypes that are no numbers"
    if not tree.is_lazy:
        tree.objects(min_size=2)
        tree.objects(1, classes, min_size=2)
    assert 1 <= tree.suggest_n_regions() <= number
    tree.classes(prototypes=tree.prototypes(classes))
    _checked(tree, tree.reweighted(balance=0.8, scale=6.0).regions(min(3, number)))


@contextlib.contextmanager
def _lazily(tree: Any) -> Any:
    """Markers where no image could be read are refused, and rightly so."""
    from napari_aeseg import InputError

    try:
        yield
    except InputError as error:
        if not tree.is_lazy or "All markers are where" not in str(error):
            raise


def _checked(tree: Any, labels: Any) -> np.ndarray:
    found = np.asarray(labels)
    assert found.dtype == np.int32, found.dtype
    assert found.shape == tree.axes.space_shape, found.shape
    assert found.min() >= 0, "labels below 0"
    return found


def _told(*arguments: Any) -> None:
    """What the command line says is text that a terminal does nothing but show."""
    from napari_aeseg.cli import main

    for more in ([], ["--json"]):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main([*map(str, arguments), *more])
        assert code == 0, said.getvalue()[-500:]
        bad = [c for c in said.getvalue() if not c.isprintable() and c != "\n"]
        assert not bad, f"the command line prints {bad[:5]!r}"


def _unclear(text: str, path: Path) -> str:
    """Say what is wrong with the text of an error, if anything is."""
    if len(text) > _LONGEST_TEXT:
        return f"text of {len(text)} letters"
    if any(not c.isprintable() and c != "\n" for c in text):
        return "text that a terminal would obey"
    # When it is used, a model has no file any more.
    if path.name not in text and not text.startswith("The model makes numbers of this image"):
        return "text that does not name the file"
    return ""


def _size(path: Path) -> int:
    """Bytes that a file or folder takes on the disk."""
    if not path.exists() or path.is_fifo() or path.is_char_device():
        return 0
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.lstat().st_blocks * 512 for file in files)


def _traceback() -> str:
    lines = traceback.format_exc().splitlines()
    return "\n".join(line[:300] for line in lines[-40:])


def main() -> None:
    """Answer until there is nothing more to read."""
    faulthandler.enable()
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer
    import warnings

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="aeseg-soak-") as home:
        tempfile.tempdir = home
        reader = Reader(Path(home))
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            kind, seed = line.split()
            print(json.dumps(reader.read(kind, int(seed))), file=answers, flush=True)


if __name__ == "__main__":
    main()
