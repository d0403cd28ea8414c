"""Command line: ``napari-aeseg demo | train | segment | info``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from napari_aeseg.errors import AesegError, InputError, StoppedError
from napari_aeseg.params import BASE_MODEL, PRESETS, SegmentationParams, TrainingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.events import Progress
    from napari_aeseg.regions.hierarchy import Hierarchy

_P = TypeVar("_P", bound="BaseModel")
_MODEL_SUFFIX = ".aeseg.safetensors"
# What the demo cuts each sample into: a method of the hierarchy and its argument.
_DEMO_CUTS: dict[str, tuple[str, int | None]] = {
    "tissue": ("classes", 3),
    "retina": ("regions", 12),
    "coins": ("objects", None),
    "textures": ("regions", 7),
}
_DEMO_STEPS = 150


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 1 an error said on stderr."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (KeyboardInterrupt, StoppedError):
        print("napari-aeseg: interrupted", file=sys.stderr)
        return 130
    except (AesegError, OSError) as error:
        print(f"napari-aeseg: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-aeseg",
        description="Label-free segmentation: learn an autoencoder from the images, "
        "merge patches that look alike.",
    )
    commands = parser.add_subparsers(required=True, metavar="demo | train | segment | info")

    demo = commands.add_parser("demo", help="train and segment sample images, show them in napari")
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--output", type=Path, default=Path("out/demo"), help="folder for the results"
    )
    demo.add_argument("--no-window", action="store_true", help="do not open napari at the end")
    _add_device(demo)

    train = commands.add_parser("train", help="train a model on image files")
    train.set_defaults(run=_train)
    train.add_argument("images", nargs="+", type=Path, help="image files")
    train.add_argument("--output", type=Path, required=True, help=f"model file (*{_MODEL_SUFFIX})")
    start = train.add_mutually_exclusive_group()
    start.add_argument(
        "--init",
        type=_model_or_base,
        help="model file to start from, or 'base' for the one that comes along",
    )
    start.add_argument(
        "--resume", type=Path, metavar="MODEL", help="unfinished model file to go on with"
    )
    train.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="parameters to begin with; the options below change single ones. "
        + " ".join(f"{name}: {preset.description}" for name, preset in PRESETS.items()),
    )
    train.add_argument(
        "--autosave",
        type=float,
        metavar="SECONDS",
        help="write the model so far every so many seconds, to be resumed if need be",
    )
    _add_common(train)
    _add_params(train, TrainingParams)

    segment = commands.add_parser("segment", help="segment image files")
    segment.set_defaults(run=_segment)
    segment.add_argument("images", nargs="+", type=Path, help="image files")
    segment.add_argument("--output", type=Path, required=True, help="folder for the results")
    segment.add_argument(
        "--model",
        type=_model_or_base,
        help="model file, or 'base' for the one that comes along; without it, a model is trained "
        "on the images",
    )
    cut = segment.add_mutually_exclusive_group()
    cut.add_argument("--regions", type=int, help="number of connected regions (default: suggested)")
    cut.add_argument("--threshold", type=float, help="dissimilarity 0 .. 1 up to which to merge")
    cut.add_argument("--classes", type=int, help="number of classes")
    cut.add_argument(
        "--objects", action="store_true", help="separate objects, such as nuclei or particles"
    )
    segment.add_argument("--table", action="store_true", help="write measurements as CSV as well")
    _add_common(segment)
    _add_params(segment, SegmentationParams)

    info = commands.add_parser("info", help="print what a model file holds")
    info.set_defaults(run=_info)
    info.add_argument("model", type=_model_or_base, help=f"model file (*{_MODEL_SUFFIX}) or 'base'")
    info.add_argument("--json", action="store_true", help="the whole header, as JSON")
    return parser


def _model_or_base(text: str) -> Path | str:
    """Return the path of a model file; only the very word means the model that comes along."""
    return text if text == BASE_MODEL else Path(text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    parser.add_argument("--axes", help="one letter per dimension, such as YXC (default: inferred)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def _add_params(parser: argparse.ArgumentParser, kind: type[BaseModel]) -> None:
    """Add an option for every parameter of a stage."""
    group = parser.add_argument_group(f"{kind.__name__}")
    for name, field in kind.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        text = f"{field.description} (default: {field.default})".replace("%", "%%")
        if field.annotation is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        else:
            group.add_argument(option, type=_reader(field), metavar=_metavar(field), help=text)


def _reader(field: FieldInfo) -> Callable[[str], Any]:
    """Return what turns the text of an option into a value; pydantic checks it afterwards."""
    if "tuple" in str(field.annotation):
        return lambda text: tuple(int(part) for part in text.split(","))
    return str


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not None and all(
        isinstance(a, str) for a in get_args(field.annotation)
    ):
        return "{" + ",".join(get_args(field.annotation)) + "}"
    return "N[,N...]" if "tuple" in str(field.annotation) else "VALUE"


def _params(options: argparse.Namespace, kind: type[_P]) -> _P:
    """Build the parameters of a stage from the options that were given."""
    return kind(**_given(options, kind))


def _given(options: argparse.Namespace, kind: type[BaseModel]) -> dict[str, Any]:
    """Return the parameters that were given as options."""
    values = {n: getattr(options, n) for n in kind.model_fields}
    return {n: v for n, v in values.items() if v is not None}


class _Bars:
    """Shows events as progress bars on stderr, one per stage."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar: Any = None
        self._stage = ""

    def __call__(self, event: Progress) -> None:
        if event.message:
            self._tqdm.write(event.message, file=sys.stderr)
        if event.total == 1:  # a bar of one step is noise
            return
        if event.stage != self._stage:
            self.close()
            self._stage = event.stage
            self._bar = self._tqdm(
                total=event.total,
                desc=f"{event.stage} ({event.device})",
                # In a log file every refresh is a line of its own.
                mininterval=0.1 if sys.stderr.isatty() else 10,
            )
        loss = getattr(event, "loss", None)
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self._bar.update(event.done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""


def _train_on(
    images: list[Any],
    names: list[str],
    options: argparse.Namespace,
    params: TrainingParams | None,
    axes: list[str | None],
    autosave: Path | None = None,
    **more: Any,
) -> Model:
    """Train with progress bars, write snapshots to `autosave`, and say how it went."""
    from napari_aeseg.events import drain
    from napari_aeseg.pipeline import train_steps

    bars = _Bars()

    def progress(event: Progress) -> None:
        bars(event)
        snapshot: Model | None = getattr(event, "snapshot", None)
        if snapshot is not None and autosave is not None:
            snapshot.save(autosave)

    work = train_steps(images, params, axes, options.device, names=names, **more)
    try:
        model = drain(work, progress)
    finally:
        bars.close()
    record = model.record
    print(
        f"trained {record.steps} steps on {', '.join(names)} in {record.seconds:.1f} s "
        f"on {record.device}; loss {record.losses[-1]:.4f}"
    )
    return model


def _build(
    image: Any,
    name: str,
    model: Model,
    options: argparse.Namespace,
    params: SegmentationParams,
    axes: str | None,
) -> Hierarchy:
    from napari_aeseg.events import drain
    from napari_aeseg.pipeline import hierarchy_steps

    bars, start = _Bars(), time.perf_counter()
    try:
        tree = drain(hierarchy_steps(image, model, params, axes, options.device, name=name), bars)
    finally:
        bars.close()
    print(
        f"{name}: {tree.axes}; {tree.n_patches} patches merged "
        f"in {time.perf_counter() - start:.1f} s"
    )
    return tree


def _refuse_existing(paths: list[Path], options: argparse.Namespace) -> None:
    existing = [str(p) for p in paths if p.exists()]
    if existing and not options.overwrite:
        raise InputError(
            f"{', '.join(existing)} exists already; choose another --output or add --overwrite."
        )


def _read_all(options: argparse.Namespace) -> tuple[list[Any], list[str | None]]:
    from napari_aeseg.images.files import read_file

    read = [read_file(path) for path in options.images]
    return [image for image, _ in read], [options.axes or axes for _, axes in read]


def _train(options: argparse.Namespace) -> None:
    path: Path = options.output
    if not path.name.endswith(_MODEL_SUFFIX):
        path = path.with_name(path.name + _MODEL_SUFFIX)
    params = _training_params(options)
    _refuse_existing([path], options)
    images, axes = _read_all(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _stop_at_interrupt() as stop:
        model = _train_on(
            images,
            [p.name for p in options.images],
            options,
            params,
            axes,
            autosave=path,
            init=options.resume or options.init,
            resume=options.resume is not None,
            stop=stop,
            snapshot_seconds=options.autosave,
        )
        model.save(path)
    print(f"wrote {path}")
    if model.unfinished:
        print(f"the training is unfinished; go on with --resume {path}")
        raise KeyboardInterrupt


def _training_params(options: argparse.Namespace) -> TrainingParams | None:
    """Return what was asked for: preset, then single options; None to resume with the model's."""
    changes = {} if options.preset is None else PRESETS[options.preset].changes
    given = {**changes, **_given(options, TrainingParams)}
    if options.resume is None:
        return TrainingParams(**given)
    if not given and options.preset is None:
        return None
    from napari_aeseg.pipeline import load_model

    # So that an error names only what differs.
    defaults = TrainingParams().model_dump() if options.preset is not None else {}
    return TrainingParams(**{**load_model(options.resume).record.params, **defaults, **given})


@contextmanager
def _stop_at_interrupt() -> Iterator[Event]:
    """Let Ctrl-C set an event, so that what was learnt can be kept; a second one interrupts."""
    stop = Event()

    def heard(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("stopping; what was learnt is kept (Ctrl-C again to give it up)", file=sys.stderr)

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _segment(options: argparse.Namespace) -> None:
    from napari_aeseg.images.files import overlay, write_labels, write_picture
    from napari_aeseg.pipeline import load_model

    params = _params(options, SegmentationParams)
    for name in ("regions", "classes"):
        if (number := getattr(options, name)) is not None and number < 1:
            raise InputError(f"--{name} {number}: give a whole number of 1 or more.")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold {options.threshold}: give a number from 0 to 1.")
    stems = [p.name.removesuffix(p.suffix) for p in options.images]
    if len(set(stems)) < len(stems):
        raise InputError("Two of the images have the same name: their results would collide.")
    folder: Path = options.output
    model_path = folder / f"model{_MODEL_SUFFIX}"
    planned = [folder / f"{stem}_labels.tif" for stem in stems]
    planned += [folder / f"{stem}_overlay.png" for stem in stems]
    planned += [folder / f"{stem}_table.csv" for stem in stems if options.table]
    planned += [model_path] if options.model is None else []
    _refuse_existing(planned, options)
    images, axes = _read_all(options)
    names = [p.name for p in options.images]
    folder.mkdir(parents=True, exist_ok=True)
    if options.model is not None:
        model = load_model(options.model)
    else:
        model = _train_on(images, names, options, TrainingParams(), axes)
        model.save(model_path)
        print(f"wrote {model_path}")
    for image, stem, name, letters in zip(images, stems, names, axes, strict=True):
        tree = _build(image, name, model, options, params, letters)
        labels = _cut(tree, options)
        write_labels(labels, folder / f"{stem}_labels.tif")
        written = [f"{stem}_labels.tif"]
        if tree.axes.space == "YX":
            write_picture(overlay(image, labels, tree.axes.letters), folder / f"{stem}_overlay.png")
            written.append(f"{stem}_overlay.png")
        if options.table:
            tree.table(labels).to_csv(folder / f"{stem}_table.csv", index=False)
            written.append(f"{stem}_table.csv")
        print(f"{name}: {labels.max()} labels; wrote {', '.join(written)} in {folder}")


def _cut(tree: Hierarchy, options: argparse.Namespace) -> Any:
    if options.objects:
        return tree.objects()
    if options.classes is not None:
        return tree.classes(options.classes)
    if options.threshold is not None:
        return tree.regions(threshold=options.threshold)
    return tree.regions(tree.suggest_n_regions() if options.regions is None else options.regions)


def _demo(options: argparse.Namespace) -> None:
    from napari_aeseg.images.files import overlay, write_labels, write_picture
    from napari_aeseg.samples import SAMPLES

    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    for name, (what, number) in _DEMO_CUTS.items():
        image = SAMPLES[name]()
        print(f"\n{name}: {image.shape} {image.dtype}")
        model = _train_on([image], [name], options, TrainingParams(steps=_DEMO_STEPS), [None])
        model.save(folder / f"{name}{_MODEL_SUFFIX}")
        tree = _build(image, name, model, options, SegmentationParams(), None)
        labels = getattr(tree, what)(number)
        write_labels(labels, folder / f"{name}_labels.tif")
        write_picture(overlay(image, labels, tree.axes.letters), folder / f"{name}_overlay.png")
        print(f"{name}: {labels.max()} {what}; wrote {name}_* in {folder}")
    print(f"\nAll done in {time.perf_counter() - start:.0f} s. Results are in {folder.resolve()}")
    if options.no_window:
        return
    if not _has_display():
        print("There is no display: napari is not opened.")
        return
    try:
        from napari_aeseg._napari.demo_window import show
    except ImportError as error:
        print(f"napari cannot be opened here ({error}).")
        return
    show(folder, list(_DEMO_CUTS))


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _info(options: argparse.Namespace) -> None:
    from napari_aeseg.autoencoder.model_file import load_model_file, read_header

    header = read_header(options.model)
    if options.json:
        print(json.dumps(header, indent=2))
        return
    # Loading checks all that is printed below.
    model = load_model_file(options.model)
    record = model.record
    rows = {
        "format": f"{header['format_version']} (napari-aeseg {header['package_version']}, "
        f"torch {header['torch_version']})",
        "network": ", ".join(f"{k} {v}" for k, v in model.architecture.as_dict().items()),
        "channels": "any number" if model.any_channels else "as in training",
        "intensity": "each image by its own percentiles"
        if model.intensity is None
        else f"as the training images: {model.intensity.low} to {model.intensity.high}",
        "images": "; ".join(f"{i['name']} {tuple(i['shape'])} {i['axes']}" for i in record.images),
        "training": f"{record.steps} steps in {record.seconds:.1f} s on {record.device}"
        f"{', unfinished: can be resumed' * model.unfinished}",
        "loss": f"{record.losses[0]:.4f} at first, {record.losses[-1]:.4f} at last"
        if record.losses
        else "none",
        "parameters": ", ".join(f"{k} {v}" for k, v in record.params.items()),
        "notes": "; ".join(record.notes) or "none",
        "prototypes": "none"
        if model.prototypes is None
        else f"{len(model.prototypes.centres)} classes {', '.join(model.prototypes.names)}".strip(),
    }
    for name, value in rows.items():
        print(f"{name:11} {value}")


if __name__ == "__main__":
    sys.exit(main())
