"""Segmentation quality on labelled images, of this project beside what a user would take otherwise.

    python benchmarks/quality.py --json out/quality.json
    python benchmarks/quality.py --sets superalloy_sem wbc_large --methods aeseg otsu --limit 3

Prints one table per kind of set and writes every single score, with timings, to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from skimage.io import imread
from skimage.transform import resize

import scores
from disturbances import DISTURBANCES
from peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"

MISSING = """\
There are no labelled images in {path}.
Give the folder with --data. It holds a folder per set, <set>/images/<stem>.tif or .png and
<set>/labels/<stem>.tif (labels_0, labels_1, ... with several annotators); the sets are
{sets}.
None of them are part of this repository."""


# -- what is measured ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Set:
    """A folder of labelled images."""

    kind: str
    #: Sets of one subject are left out together by leave_out.py.
    subject: str
    #: Truth values that mean "no truth here".
    ignore: tuple[int, ...] = ()
    #: Whether all labels but 0 are one class.
    foreground: bool = False


SETS = {
    "scratch_assay": Set("classes", "cell layer"),
    "superalloy_sem": Set("classes", "alloy"),
    "sandstone_ct": Set("classes", "rock"),
    "wbc_small": Set("classes", "blood"),
    "wbc_large": Set("classes", "blood"),
    "ebc_sem": Set("classes", "coating"),
    "vnc_em": Set("classes", "nerve tissue, EM"),
    "glas": Set("classes", "stained tissue", foreground=True),
    "texture_brodatz": Set("textures", "textures"),
    "texture_fabrics": Set("textures", "textures"),
    "texture_skimage": Set("textures", "textures"),
    "bsds500_val": Set("partitions", "photographs"),
    "dsb2018_fluo": Set("objects", "fluorescence nuclei"),
    "stardist_2d": Set("objects", "fluorescence nuclei"),
    "ctc_fluo_sim": Set("objects", "fluorescence nuclei"),
    "dsb2018_he_white": Set("objects", "stained tissue"),
    "dsb2018_he_purple": Set("objects", "stained tissue"),
    "monuseg": Set("objects", "stained tissue"),
    "dsb2018_brightfield": Set("objects", "cytology"),
    "tio2_sem": Set("objects", "particles"),
    "isbi2012_em": Set("objects", "nerve tissue, EM"),
    "stardist_3d": Set("objects 3D", "3D nuclei"),
    "bbbc050_3d": Set("objects 3D", "3D nuclei"),
    "plant_nuclei_3d": Set("objects 3D", "3D nuclei"),
    "plant_ovule_3d": Set("objects 3D", "3D cells"),
}


@dataclass(frozen=True)
class Sample:
    """One image and its truth, of one annotator or several."""

    stem: str
    image: NDArray
    truths: list[NDArray]
    ignore: tuple[int, ...]

    @property
    def n(self) -> int:
        """The true number of classes or regions."""
        return len(np.setdiff1d(self.truths[0], self.ignore))


def load(data: Path, name: str, limit: int | None, longest: int | None = None) -> list[Sample]:
    """The images of a set in the order of their names; see `shrunk` for larger 2D ones."""
    folder, about = data / name, SETS[name]
    several = sorted(folder.glob("labels_[0-9]*"))
    annotators = several or [folder / "labels"]
    files = sorted((folder / "images").iterdir())[:limit]
    samples = []
    for file in files:
        image = imread(file)
        truths = [imread(f / f"{file.stem}.tif") for f in annotators if _has(f, file.stem)]
        if longest and not about.kind.endswith("3D"):
            image, truths = shrunk(image, longest), [shrunk(t, longest, 0) for t in truths]
        if about.foreground:
            truths = [(truth > 0).astype(np.int64) for truth in truths]
        samples.append(Sample(file.stem, image, truths, about.ignore))
    return samples


def shrunk(image: NDArray, longest: int, order: int = 1) -> NDArray:
    """A 2D image brought down to so many pixels along its longer side; order 0 for labels."""
    side = max(image.shape[:2])
    if side <= longest:
        return image
    shape = tuple(round(n * (longest / side)) for n in image.shape[:2])
    small = resize(
        image, (*shape, *image.shape[2:]), order, anti_aliasing=order > 0, preserve_range=True
    )
    return small.astype(image.dtype)


def disturbed(samples: list[Sample], name: str) -> list[Sample]:
    """The samples under a disturbance, the same in every run."""
    disturb = DISTURBANCES[name]
    return [
        replace(s, image=disturb(s.image, s.truths[0], np.random.default_rng(i)))
        for i, s in enumerate(samples)
    ]


def _has(folder: Path, stem: str) -> bool:
    return (folder / f"{stem}.tif").exists()


@dataclass(frozen=True)
class Score:
    """A score that belongs to a kind of set."""

    measure: Callable[[Sample, NDArray], float]
    lower_is_better: bool = False


#: Lower is better, as for the variation of information.
BORDERS = Score(lambda s, found: scores.border_distance(s.truths[0], found), True)


def _objects() -> dict[str, Score]:
    return {
        "AP50": Score(lambda s, found: scores.average_precision(s.truths[0], found, 0.5)),
        "AP75": Score(lambda s, found: scores.average_precision(s.truths[0], found, 0.75)),
        "Dice": Score(lambda s, found: scores.dice(s.truths[0], found)),
    }


#: The first score of a kind is the one that methods are ranked by.
SCORES: dict[str, dict[str, Score]] = {
    "classes": {
        "mIoU": Score(lambda s, found: scores.mean_iou(s.truths[0], found, s.ignore)),
        "border distance": BORDERS,
    },
    "textures": {
        "covering": Score(lambda s, found: scores.covering(s.truths, found)),
        "border distance": BORDERS,
    },
    "partitions": {
        "covering": Score(lambda s, found: scores.covering(s.truths, found)),
        "PRI": Score(lambda s, found: scores.probabilistic_rand_index(s.truths, found)),
        "VoI": Score(lambda s, found: scores.variation_of_information(s.truths, found), True),
    },
    "objects": _objects(),
    "objects 3D": {
        **_objects(),
        "covering": Score(lambda s, found: scores.covering(s.truths, found)),
    },
}


# -- running -------------------------------------------------------------------------------------


def methods_for(kind: str, wanted: list[str]) -> dict[str, Callable]:
    """Name and maker of every method for a kind of set; this project comes first."""
    makers: dict[str, Callable] = {}
    makers.update(_ours(kind))
    for name, peer in PEERS[kind].items():
        makers[name] = lambda _images, peer=peer: lambda _kind, image, n: peer(image, n)
    return wanted_of(makers, wanted)


def wanted_of(makers: dict[str, Callable], wanted: list[str]) -> dict[str, Callable]:
    """Those whose name has one of the parts that are wanted; all if none are."""
    return {
        name: maker
        for name, maker in makers.items()
        if not wanted or any(part.lower() in name.lower() for part in wanted)
    }


def _ours(kind: str) -> dict[str, Callable]:
    """This project's methods, or none where only the peers can run."""
    try:
        from ours import methods_of
    except ImportError as error:
        print(f"Only the peers are measured: {error}", file=sys.stderr)
        return {}
    return methods_of(kind)


def measure(kind: str, samples: list[Sample], maker: Callable) -> dict:
    """Scores of one method on the images of a set."""
    started = time.perf_counter()
    method = maker([sample.image for sample in samples])
    prepared = time.perf_counter() - started
    values: dict[str, list[list[float]]] = {name: [] for name in SCORES[kind]}
    seconds = []
    for sample in samples:
        started = time.perf_counter()
        found = method(kind, sample.image, sample.n)
        seconds.append(time.perf_counter() - started)
        for name, score in SCORES[kind].items():
            values[name].append([score.measure(sample, labels) for labels in found])
    return {
        "prepare_seconds": prepared,
        "seconds_per_image": float(np.mean(seconds)),
        "settings": len(found),
        "scores": {
            name: _summary(values[name], samples, score.lower_is_better)
            for name, score in SCORES[kind].items()
        },
    }


def _summary(values: list[list[float]], samples: list[Sample], lower_is_better: bool) -> dict:
    result = scores.sweep(values, lower_is_better=lower_is_better)
    return {
        "value": result.ods,
        "per_image_best": result.ois,
        "setting": result.setting,
        "images": {s.stem: float(v) for s, v in zip(samples, result.per_image, strict=True)},
    }


def run(args: argparse.Namespace, methods: Callable[[str, list[str]], dict]) -> list[dict]:
    """Measure `methods` of each kind on all sets; the JSON file is written as results come in."""
    results = _earlier(args.json) if args.resume else []
    done = {(r["set"], r["method"]) for r in results}
    for name in args.sets:
        kind = SETS[name].kind
        samples = load(args.data, name, args.limit, args.longest)
        if args.disturbance:
            samples = disturbed(samples, args.disturbance)
        for method, maker in methods(kind, args.methods).items():
            if (name, method) in done:
                continue
            measured = measure(kind, samples, maker)
            about = {"kind": kind, "set": name, "method": method}
            results.append(about | measured)
            value = next(iter(measured["scores"].values()))["value"]
            print(f"{name:18s} {method:35s} {value:.3f}", file=sys.stderr)
            write(args.json, results)
    return results


def write(path: Path, results: list[dict]) -> None:
    """Write results with what is needed to judge the timings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")


def _earlier(path: Path) -> list[dict]:
    return json.loads(path.read_text())["results"] if path.exists() else []


def machine() -> dict:
    """Processor and versions."""
    packages = ["napari-aeseg", "numpy", "scipy", "scikit-image", "scikit-learn", "torch", "higra"]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# -- tables --------------------------------------------------------------------------------------

#: The best setting for the whole set (ODS), and the best for each image (OIS).
VIEWS = {"value": "one setting for the set", "per_image_best": "best setting per image"}
#: The peer that ratios are to, where it is not the best one.
REFERENCE = {"objects": "Otsu + distance watershed", "objects 3D": "Otsu + distance watershed"}


def tables(results: list[dict]) -> str:
    """All tables, as Markdown."""
    parts = []
    for kind, by_name in SCORES.items():
        of_kind = [r for r in results if r["kind"] == kind]
        for score, about in by_name.items():
            for value, title in VIEWS.items():
                cells = {(r["method"], r["set"]): r["scores"][score][value] for r in of_kind}
                if cells and (value == "value" or any(r["settings"] > 1 for r in of_kind)):
                    parts.append(table(f"{kind}: {score}, {title}", cells, kind, about))
    return "\n\n".join(part for part in parts if part)


def table(title: str, cells: dict[tuple[str, str], float], kind: str, score: Score) -> str:
    """A row per method, a column per set, the mean, its ratio to a peer's, and sets lost to peers.

    Only methods that have all sets have a mean.
    """
    methods, sets = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    better = min if score.lower_is_better else max
    means = {
        method: float(np.mean([cells[method, s] for s in sets]))
        for method in methods
        if all((method, s) in cells for s in sets)
    }
    of_peers = {method: mean for method, mean in means.items() if method in PEERS[kind]}
    reference = REFERENCE.get(kind)
    if reference not in of_peers:
        reference = better(of_peers, key=of_peers.get) if of_peers else None
    lines = [f"### {title}", ""]
    if reference:
        lines += [f"Ratio: to the mean of {reference}. Lost: sets where some peer is better.", ""]
    lines += [row("method", [*sets, "mean", "ratio", "lost"])]
    lines += [row("---", ["---:"] * (len(sets) + 3))]
    for method in methods:
        mean = means.get(method)
        ratio = mean / of_peers[reference] if reference and mean is not None else None
        lost = sum(
            better(value, cells[peer, s]) != value
            for s in sets
            if (value := cells.get((method, s))) is not None
            for peer in [better(of_peers, key=lambda p, s=s: cells[p, s], default=None)]
            if peer
        )
        found = [_number(cells.get((method, s))) for s in sets]
        lines.append(row(method, [*found, _number(mean), _number(ratio, 2), str(lost)]))
    return "\n".join(lines)


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def row(first: str, cells: list[str]) -> str:
    return f"| {first:36s} | " + " | ".join(f"{cell:>16s}" for cell in cells) + " |"


# -- command line --------------------------------------------------------------------------------


def parser(
    text: str, result: str, sets: Sequence[str] = tuple(SETS), longest: int | None = None
) -> argparse.ArgumentParser:
    """The options of a script that measures on these sets and writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=DATA, help="folder of the labelled sets")
    add("--sets", nargs="+", default=list(sets), choices=SETS, metavar="SET")
    add("--json", type=Path, default=ROOT / "out" / result)
    add("--limit", type=int, help="images per set")
    add("--longest", type=int, default=longest, help="larger 2D images are brought down to it")
    return parser


def add_methods(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options of `run`."""
    add = parser.add_argument
    add("--methods", nargs="+", default=[], metavar="PART", help="parts of names; default all")
    add("--disturbance", choices=DISTURBANCES, help="make the images harder; default none")
    add("--resume", action="store_true", help="keep what the JSON file has, measure the rest")
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None = None) -> argparse.Namespace:
    """The options given, without the sets that have no folder."""
    args = parser.parse_args(argv)
    missing = [name for name in args.sets if not (args.data / name / "images").is_dir()]
    if len(missing) == len(args.sets):
        parser.exit(2, MISSING.format(path=args.data, sets=", ".join(SETS)) + "\n")
    for name in missing:
        print(f"Left out: there is no {args.data / name / 'images'}.", file=sys.stderr)
    args.sets = [name for name in args.sets if name not in missing]
    return args


def main() -> None:
    args = parse(add_methods(parser(__doc__, "quality.json")))
    # Flat images make peers warn about 0 / 0
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message="Number of distinct clusters")
    print(tables(run(args, methods_for)))
    print(f"\nEvery score: {args.json}")


if __name__ == "__main__":
    main()
