"""``napari-aeseg demo``: train on sample images, segment them, show them in napari."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from napari_aeseg.cli.options import add_device
from napari_aeseg.cli.progress import print_training, run_with_progress
from napari_aeseg.params import MODEL_SUFFIX, TrainingParams

# How each sample is cut: a method of the hierarchy and its argument.
_CUTS: dict[str, tuple[str, int | None]] = {
    "tissue": ("classes", 3),
    "retina": ("regions", 12),
    "coins": ("objects", None),
    "textures": ("regions", 7),
}
_STEPS = 50  # as good as 150 without the base model


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--output", type=Path, default=Path("out/demo"), help="folder for the results"
    )
    parser.add_argument("--no-window", action="store_true", help="do not open napari at the end")
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    for name in _CUTS:
        _segment_sample(name, folder, options.device)
    print(f"\nAll done in {time.perf_counter() - start:.0f} s. Results are in {folder.resolve()}")
    if not options.no_window:
        _show(folder)
    return 0


def _segment_sample(name: str, folder: Path, device: str) -> None:
    from napari_aeseg.api import hierarchy_steps, train_steps
    from napari_aeseg.io.atomic_write import atomic_write
    from napari_aeseg.io.images import overlay, write_picture
    from napari_aeseg.io.labels import write_label_image
    from napari_aeseg.samples import SAMPLES

    image = SAMPLES[name]()
    print(f"\n{name}: {image.shape} {image.dtype}")
    params = TrainingParams(steps=_STEPS)
    model = run_with_progress(
        train_steps([image], params, device=device, init="base", names=[name])
    )
    print_training(model, [name])
    model.save(folder / f"{name}{MODEL_SUFFIX}")
    start = time.perf_counter()
    tree = run_with_progress(hierarchy_steps(image, model, device=device, name=name))
    seconds = time.perf_counter() - start
    print(f"{name}: {tree.axes}; {tree.n_patches} patches merged in {seconds:.1f} s")
    mode, number = _CUTS[name]
    labels = getattr(tree, mode)(number)
    with atomic_write(folder / f"{name}_labels.tif") as part:
        write_label_image(labels, part, tree.axes)
    with atomic_write(folder / f"{name}_overlay.png") as part:
        write_picture(overlay(image, labels, tree.axes.letters), part)
    print(f"{name}: {labels.max()} {mode}; wrote {name}_* in {folder}")


def _show(folder: Path) -> None:
    if not _has_display():
        print("There is no display: napari is not opened.")
        return
    try:
        from napari_aeseg._napari.manifest.demo_window import show
    except ImportError as error:
        print(f"napari cannot be opened here ({error}).")
        return
    show(folder, list(_CUTS))


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
