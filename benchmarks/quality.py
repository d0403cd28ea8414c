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
from skimage import color
from skimage.io import imread

import scores
from peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

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
    #: Truth values that mean "no truth here".
    ignore: tuple[int, ...] = ()


SETS = {
    "scratch_assay": Set("classes"),
    "superalloy_sem": Set("classes"),
    "wbc_large": Set("classes"),
    "sandstone_ct": Set("classes"),
    "texture_brodatz": Set("textures"),
    "texture_skimage": Set("textures"),
    "bsds500_val": Set("partitions"),
    "dsb2018_fluo": Set("objects"),
    "dsb2018_he_white": Set("objects"),
    "isbi2012_em": Set("objects"),
    "stardist_3d": Set("objects 3D"),
    "plant_ovule_3d": Set("objects 3D"),
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


def load(data: Path, name: str, limit: int | None) -> list[Sample]:
    """The images of a set in the order of their names."""
    folder = data / name
    several = sorted(folder.glob("labels_[0-9]*"))
    annotators = several or [folder / "labels"]
    files = sorted((folder / "images").iterdir())[:limit]
    samples = []
    for file in files:
        truths = [imread(f / f"{file.stem}.tif") for f in annotators if _has(f, file.stem)]
        samples.append(Sample(file.stem, imread(file), truths, SETS[name].ignore))
    return samples


def _has(folder: Path, stem: str) -> bool:
    return (folder / f"{stem}.tif").exists()


@dataclass(frozen=True)
class Score:
    """A score that belongs to a kind of set."""

    measure: Callable[[Sample, NDArray], float]
    lower_is_better: bool = False


def _objects() -> dict[str, Score]:
    return {
        "AP50": Score(lambda s, found: scores.average_precision(s.truths[0], found, 0.5)),
        "AP75": Score(lambda s, found: scores.average_precision(s.truths[0], found, 0.75)),
        "Dice": Score(lambda s, found: scores.dice(s.truths[0], found)),
    }


#: The first score of a kind is the one that methods are ranked by.
SCORES: dict[str, dict[str, Score]] = {
    "classes": {"mIoU": Score(lambda s, found: scores.mean_iou(s.truths[0], found, s.ignore))},
    "textures": {"covering": Score(lambda s, found: scores.covering(s.truths, found))},
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


# -- robustness ----------------------------------------------------------------------------------


def uneven_light(sample: Sample, _rng: np.random.Generator) -> Sample:
    """Light that falls off along the diagonal, exponentially, to a fifth."""
    space = sample.truths[0].shape
    across = sum(np.meshgrid(*(np.linspace(0, 1, n) for n in space), indexing="ij")) / len(space)
    light = (5.0**-across).astype(np.float32)
    return replace(sample, image=sample.image * light.reshape(*space, *[1] * _channels(sample)))


def pure_colours(sample: Sample, rng: np.random.Generator) -> Sample:
    """Every region in one colour: equal lightness, different hue, not a trace of texture."""
    ids, inverse = np.unique(sample.truths[0], return_inverse=True)
    hue = 2 * np.pi * rng.permutation(len(ids)) / len(ids)
    lab = np.stack([np.full(len(ids), 65.0), 40 * np.cos(hue), 40 * np.sin(hue)], axis=1)
    painted = color.lab2rgb(lab)[inverse.reshape(sample.truths[0].shape)]
    return replace(sample, image=np.round(255 * painted).astype(np.uint8))


def noisy_background(sample: Sample, rng: np.random.Generator) -> Sample:
    """Noise behind the objects, with a deviation of the contrast that they have to it."""
    behind = sample.truths[0] == 0
    image = sample.image.astype(np.float32)
    contrast = abs(image[~behind].mean() - image[behind].mean())
    noise = rng.normal(0, contrast, image.shape).astype(np.float32)
    noise[~behind] = 0
    return replace(sample, image=image + noise)


def _channels(sample: Sample) -> int:
    """1 if the image has a channel axis, else 0."""
    return sample.image.ndim - sample.truths[0].ndim


#: Each test: what is done to an image, and the sets that it is done to.
DISTURBANCES = {
    "uneven light": (uneven_light, ("superalloy_sem", "texture_skimage", "dsb2018_fluo")),
    "pure colours": (pure_colours, ("texture_skimage", "texture_brodatz")),
    "noisy background": (noisy_background, ("dsb2018_fluo", "dsb2018_he_white")),
}


def disturbed(name: str, samples: list[Sample]) -> list[Sample]:
    """The samples under a disturbance, the same in every run."""
    disturb, _ = DISTURBANCES[name]
    return [disturb(s, np.random.default_rng(i)) for i, s in enumerate(samples)]


# -- running -------------------------------------------------------------------------------------


def methods_for(kind: str, wanted: list[str]) -> dict[str, Callable]:
    """Name and maker of every method for a kind of set; this project comes first."""
    makers: dict[str, Callable] = {}
    if ours := _ours():
        makers.update(ours)
    for name, peer in PEERS[kind].items():
        makers[name] = lambda _images, peer=peer: lambda _kind, image, n: peer(image, n)
    return {
        name: maker
        for name, maker in makers.items()
        if not wanted or any(part.lower() in name.lower() for part in wanted)
    }


def _ours() -> dict[str, Callable]:
    """This project's methods, or none where only the peers can run."""
    try:
        from ours import METHODS
    except ImportError as error:
        print(f"Only the peers are measured: {error}", file=sys.stderr)
        return {}
    return METHODS


def measure(kind: str, samples: list[Sample], maker: Callable) -> dict | None:
    """Scores of one method on the images of a set; None if the method is not for this kind."""
    started = time.perf_counter()
    method = maker([sample.image for sample in samples])
    prepared = time.perf_counter() - started
    values: dict[str, list[list[float]]] = {name: [] for name in SCORES[kind]}
    seconds = []
    for sample in samples:
        started = time.perf_counter()
        found = method(kind, sample.image, sample.n)
        seconds.append(time.perf_counter() - started)
        if not found:
            return None
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


def tasks(names: list[str], *, robustness: bool) -> Iterator[tuple[str, str]]:
    """Every set, clean (disturbance ""), then the robustness tests of the sets asked for."""
    for name in names:
        yield name, ""
    for disturbance, (_, on) in DISTURBANCES.items():
        yield from ((name, disturbance) for name in on if robustness and name in names)


def run(args: argparse.Namespace) -> list[dict]:
    """Measure all methods on all sets; the JSON file is written as results come in."""
    results = _earlier(args.json) if args.resume else []
    done = {(r["set"], r["disturbance"], r["method"]) for r in results}
    for name, disturbance in tasks(args.sets, robustness=args.robustness):
        kind = SETS[name].kind
        samples = load(args.data, name, args.limit)
        if disturbance:
            samples = disturbed(disturbance, samples)
        for method, maker in methods_for(kind, args.methods).items():
            if (name, disturbance, method) in done:
                continue
            measured = measure(kind, samples, maker)
            if measured is None:
                continue
            about = {"kind": kind, "set": name, "disturbance": disturbance, "method": method}
            results.append(about | measured)
            value = next(iter(measured["scores"].values()))["value"]
            print(f"{name:18s} {disturbance:17s} {method:35s} {value:.3f}", file=sys.stderr)
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
        clean = [r for r in results if r["kind"] == kind and not r["disturbance"]]
        for score, about in by_name.items():
            for value, title in VIEWS.items():
                cells = {(r["method"], r["set"]): r["scores"][score][value] for r in clean}
                if cells and (value == "value" or any(r["settings"] > 1 for r in clean)):
                    parts.append(table(f"{kind}: {score}, {title}", cells, kind, about))
    parts += [robustness_table(name, results) for name in DISTURBANCES]
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
    lines += [_row("method", [*sets, "mean", "ratio", "lost"])]
    lines += [_row("---", ["---:"] * (len(sets) + 3))]
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
        lines.append(_row(method, [*found, _number(mean), _number(ratio, 2), str(lost)]))
    return "\n".join(lines)


def robustness_table(disturbance: str, results: list[dict]) -> str:
    """Score under a disturbance over the clean score, for every method that has both."""
    by_key = {(r["method"], r["set"], r["disturbance"]): _first_score(r) for r in results}
    names = [s for s in DISTURBANCES[disturbance][1] if any(s == key[1] for key in by_key)]
    methods = dict.fromkeys(m for m, s, d in by_key if s in names and d == disturbance)
    if not methods:
        return ""
    lines = [f"### robustness: {disturbance} (clean > disturbed, ratio)", ""]
    lines += [_row("method", [*names, "lowest ratio"]), _row("---", ["---:"] * (len(names) + 1))]
    for m in methods:
        texts, ratios = [], []
        for s in names:
            clean, under = by_key.get((m, s, "")), by_key.get((m, s, disturbance))
            if clean is None or under is None:
                texts.append("")
                continue
            ratios.append(under / max(clean, 1e-9))
            texts.append(f"{_number(clean)} > {_number(under)}, {_number(ratios[-1], 2)}")
        lines.append(_row(m, [*texts, _number(min(ratios, default=None), 2)]))
    return "\n".join(lines)


def _first_score(result: dict) -> float:
    return next(iter(result["scores"].values()))["value"]


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _row(first: str, cells: list[str]) -> str:
    return f"| {first:36s} | " + " | ".join(f"{cell:>16s}" for cell in cells) + " |"


# -- command line --------------------------------------------------------------------------------


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="PART", help="parts of names; default all"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "quality.json")
    parser.add_argument("--limit", type=int, help="images per set")
    parser.add_argument(
        "--robustness",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also the three robustness tests",
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep what the JSON file has and measure the rest"
    )
    args = parser.parse_args(argv)
    missing = [name for name in args.sets if not (args.data / name / "images").is_dir()]
    if len(missing) == len(args.sets):
        parser.exit(2, MISSING.format(path=args.data, sets=", ".join(SETS)) + "\n")
    for name in missing:
        print(f"Left out: there is no {args.data / name / 'images'}.", file=sys.stderr)
    args.sets = [name for name in args.sets if name not in missing]
    return args


def main() -> None:
    args = parse()
    # Images that are flat, as in the robustness tests, make peers warn about 0 / 0
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message="Number of distinct clusters")
    print(tables(run(args)))
    print(f"\nEvery score: {args.json}")


if __name__ == "__main__":
    main()
