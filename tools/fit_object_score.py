"""Fit the weights of `napari_aeseg.regions.objects.score`, and print them with their scores.

    python tools/fit_object_score.py FOLDER [FOLDER ...]
    python tools/fit_object_score.py --volumes [FOLDER ...]

Each folder is one kind of image, or of volume: images/NAME.* and labels/NAME.*, 0 for background.
Only images whose licence allows it may be used. The score of a kind is the mean average
precision at IoU 0.5 with the weights of all other kinds ("left out") and of all ("fitted").
Weights of volumes are fitted to drawn ones alone; the volumes in folders are all left out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drawn_volumes import drawn_volume
from scipy.optimize import minimize
from skimage.io import imread
from skimage.transform import resize

from napari_aeseg.images.intensity import read_image
from napari_aeseg.regions.objects import detection as objects
from napari_aeseg.regions.objects.candidates import CONTRAST, FEATURES
from napari_aeseg.regions.objects.maps import brightness_of, stain_of
from napari_aeseg.regions.objects.score import agreement_of, regressors

_ROWS = 1000  # of each image, for objects and for other candidates
_RIDGE = 1.0
_LONGEST = 640
_DRAWN = 24
# Features that volumes are not scored by: they depend on size and blur.
_NOT_IN_VOLUMES = [FEATURES.index(name) for name in ("contrast_radius", "blur", "step")]


@dataclass
class Example:
    """A labelled image, its candidates, and how well each fits an object."""

    kind: str
    truth: np.ndarray
    search: objects.ObjectSearch
    overlaps: dict  # source -> the best IoU of each candidate, one array for each set

    @classmethod
    def of(cls, kind: str, pixels: np.ndarray, truth: np.ndarray, spacing=None) -> Example:
        """Find the candidates of an image (C, *space)."""
        stain = stain_of(pixels)
        maps = [brightness_of(pixels), *([] if stain is None else [stain])]
        search = objects.ObjectSearch(maps, spacing)
        # Drawn blobs are bright.
        sources = search.evidence() if kind != "drawn" else [(0, 1)]
        overlaps = {
            source: [best_overlap(c.parts, c.pixels, truth) for c in sets_of(search, source)]
            for source in sources
        }
        return cls(kind, truth, search, overlaps)


def forget_scores(examples: list[Example]) -> None:
    """Have candidates scored again: searches keep the scores with other weights."""
    for example in examples:
        example.search._scored_for = example.search._found = None


def sets_of(search: objects.ObjectSearch, source: tuple[int, int]) -> list:
    """All candidates of a source."""
    return search._candidates_of(source, objects.ObjectSettings(), 1, None)


def best_overlap(parts, pixels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Best intersection over union of each part with an object."""
    number = int(truth.max()) + 1
    size = np.bincount(truth.ravel(), minlength=number)
    pair = parts.part_of_pixel.astype(np.int64) * number + truth.ravel()
    shared = np.bincount(pair, minlength=len(parts) * number).reshape(len(parts), number)
    best = np.zeros(len(parts))
    for k in np.flatnonzero(size[1:]) + 1:
        inside = parts.totals(shared[:, k])
        best = np.maximum(best, inside / (pixels + size[k] - inside))
    return best


def fitted(features: np.ndarray, overlap: np.ndarray, weight: np.ndarray, ndim: int) -> np.ndarray:
    """Weights of a logistic regression with a ridge on standardised regressors."""
    target = np.clip((overlap - 0.4) / 0.4, 0, 1)
    values = regressors(features, ndim)
    if ndim == 3:
        values[:, _NOT_IN_VOLUMES] = 0
    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-9
    mean[-1], deviation[-1] = 0, 1
    values = (values - mean) / deviation

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = values @ w
        residual = weight * (1 / (1 + np.exp(-z.clip(-50, 50))) - target)
        penalty = np.append(w[:-1], 0)
        value = (weight * (np.logaddexp(0, z) - target * z)).sum() + _RIDGE / 2 * penalty @ penalty
        return value, values.T @ residual + _RIDGE * penalty

    w = minimize(loss, np.zeros(values.shape[1]), jac=True, method="L-BFGS-B").x
    w = w / deviation
    w[-1] -= w[:-1] @ mean[:-1]
    return w


def rows(example: Example, sources: list, both: bool) -> tuple[np.ndarray, ...]:
    """Features, overlaps and weights of candidates; objects and others weigh the same in all."""
    features, overlap = [], []
    for source in sources:
        sets = sets_of(example.search, source)
        typical = example.search._typical(sets, objects.ObjectSettings(), 1, None)
        for c, of_set in zip(sets, example.overlaps[source], strict=True):
            agreement = agreement_of(
                c.radius, c.features[:, CONTRAST], typical.radius, typical.contrast
            )
            values = np.concatenate([c.features, agreement], axis=1) if both else c.features
            features.append(values[c.possible])
            overlap.append(of_set[c.possible])
    features, overlap = np.concatenate(features), np.concatenate(overlap)
    rng = np.random.default_rng(0)
    chosen, weights = [], []
    for group in (np.flatnonzero(overlap > 0.4), np.flatnonzero(overlap <= 0.4)):
        some = rng.permutation(group)[:_ROWS]
        chosen.append(some)
        weights.append(np.full(len(some), 500 / max(len(some), 1)))
    chosen = np.concatenate(chosen)
    return features[chosen], overlap[chosen], np.concatenate(weights)


def best_sources(example: Example) -> list:
    """The sources that objects are taken from."""
    if example.kind == "drawn":
        return list(example.overlaps)
    return objects.best_sources(example.search.evidence(), objects.ObjectSettings())


def fit(examples: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Weights of both scores."""
    tables = [rows(e, list(e.overlaps), False) for e in examples]
    ndim = examples[0].truth.ndim
    objects.FROM_LOOKS[ndim] = fitted(*map(np.concatenate, zip(*tables, strict=True)), ndim)
    forget_scores(examples)
    tables = [rows(e, best_sources(e), True) for e in examples if e.truth.any()]
    objects.FROM_BOTH[ndim] = fitted(*map(np.concatenate, zip(*tables, strict=True)), ndim)
    return objects.FROM_LOOKS[ndim], objects.FROM_BOTH[ndim]


def average_precision(truth: np.ndarray, labels: np.ndarray) -> float:
    """TP / (TP + FP + FN) where matches have an IoU above 0.5; 1 when both are empty."""
    pairs, shared = np.unique(np.stack([truth.ravel(), labels.ravel()]), axis=1, return_counts=True)
    size, found_size = np.bincount(truth.ravel()), np.bincount(labels.ravel())
    inside = pairs.min(axis=0) > 0
    a, b = pairs[:, inside]
    matched = int((shared[inside] / (size[a] + found_size[b] - shared[inside]) > 0.5).sum())
    number = int((size[1:] > 0).sum() + (found_size[1:] > 0).sum())
    return matched / (number - matched) if number else 1.0


def examples_of(folder: Path) -> list[Example]:
    """Labelled images of one kind; large ones are brought down to `_LONGEST`."""
    examples = []
    for path in sorted((folder / "images").iterdir()):
        image, truth = imread(path), imread(next((folder / "labels").glob(f"{path.stem}.*")))
        axes = "YXC" if image.ndim > truth.ndim else "ZYX"[-truth.ndim :]
        if truth.ndim == 2 and max(truth.shape) > _LONGEST:
            scale = _LONGEST / max(truth.shape)
            shape = tuple(round(n * scale) for n in truth.shape)
            image = resize(
                image, shape + image.shape[2:], anti_aliasing=True, preserve_range=True
            ).astype(image.dtype)
            truth = resize(truth, shape, order=0, anti_aliasing=False, preserve_range=True)
        examples.append(Example.of(folder.name, read_image(image, axes).pixels, truth.astype(int)))
    return examples


def scores(examples: list[Example]) -> str:
    """Mean average precision of each kind."""
    forget_scores(examples)
    kinds = dict.fromkeys(example.kind for example in examples)
    of_kind = {
        kind: np.mean(
            [average_precision(e.truth, e.search.find()) for e in examples if e.kind == kind]
        )
        for kind in kinds
    }
    return ", ".join(f"{kind} {score:.3f}" for kind, score in of_kind.items())


def main(folders: list[str]) -> None:
    """Fit images or volumes, and print scores and weights."""
    if folders[0] == "--volumes":
        volumes = [drawn_volume(seed) for seed in range(_DRAWN)]
        drawn = [
            Example.of("drawn", read_image(volume, "ZYX").pixels, labels, spacing)
            for volume, labels, spacing in volumes
        ]
        print_weights(fit(drawn))
        for folder in folders[1:]:
            print("left out:", scores(examples_of(Path(folder))))
        print("fitted:", scores(drawn))
        return
    examples = [example for folder in folders for example in examples_of(Path(folder))]
    for kind in dict.fromkeys(example.kind for example in examples):
        fit([example for example in examples if example.kind != kind])
        print("left out:", scores([example for example in examples if example.kind == kind]))
    weights = fit(examples)
    print("fitted:", scores(examples))
    print_weights(weights)


def print_weights(weights: tuple[np.ndarray, np.ndarray]) -> None:
    """Print the weights of both scores as they are in the source."""
    for name, values in zip(("FROM_LOOKS", "FROM_BOTH"), weights, strict=True):
        print(name, ", ".join(f"{value:.3g}" for value in values))


if __name__ == "__main__":
    main(sys.argv[1:])
