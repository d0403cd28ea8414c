"""Classes from strokes: a stroke says "this is gland", and all that looks like it becomes gland."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from napari_aeseg.errors import InputError
from napari_aeseg.prototypes import N_FEATURES, Prototypes, StrokeExamples, centres_of
from napari_aeseg.regions.compare.whitening import sampled_edges
from napari_aeseg.regions.cuts.pixel_classifier import BrightnessFeatures, spread_out
from napari_aeseg.regions.patches.statistics import region_means

if TYPE_CHECKING:
    from napari_aeseg.regions.compare.descriptor import Descriptor
    from napari_aeseg.regions.patches.graph import RegionGraph

#: Largest id of a class that is painted.
MOST_CLASSES = 255
# Tolerance of the whitening (see `whitening`) by which single patches are compared with strokes.
_TOLERANCE = 10.0
# Patches of one stroke are more alike than those of its class: distances count this much.
_SHARPNESS = 1 / 0.3
# Strength of the smoothing over neighbours, and its rounds: further ones change nothing.
_SMOOTHING, _ROUNDS = 2.0, 12
# No patch is surer than this: pixels may say otherwise.
_LEAST_PROBABILITY = 0.03
# Pixels of a class that are kept as examples.
_PIXELS = 300
# A scatter is estimated from its patches and as many that are typical of the image.
_TYPICAL = 2.0


def strokes_of_patches(marked: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the stroke 0 .. S-1 of each marked patch, and the class of each stroke.

    A stroke is what hangs together of one class; `marked`, shape (P,), are classes, 0 = unmarked.
    """
    same = edges[(marked[edges[:, 0]] == marked[edges[:, 1]]) & (marked[edges[:, 0]] > 0)]
    joined = sparse.csr_array((np.ones(len(same)), same.T), shape=(len(marked), len(marked)))
    _, component = sparse.csgraph.connected_components(joined, directed=False)
    patches = np.flatnonzero(marked)
    _, first, stroke = np.unique(component[patches], return_index=True, return_inverse=True)
    return stroke, marked[patches[first]]


def learned_prototypes(
    descriptor: Descriptor,
    edges: np.ndarray,
    marked: np.ndarray,
    minor: dict[int, np.ndarray],
    pixels: PixelExamples,
    names: tuple[str, ...] = (),
    colors: tuple[str, ...] = (),
) -> Prototypes:
    """Return prototypes of the classes of marked patches (P,), 0 = unmarked, with their examples.

    `minor` are the patches of classes that have the majority of no patch, each taken as one stroke.
    """
    if max(marked.max(initial=0), *minor, 0) > MOST_CLASSES:
        most = max(marked.max(initial=0), *minor, 0)
        raise InputError(f"A stroke has class {most}: give classes from 1 to {MOST_CLASSES}.")
    stroke, stroke_class = strokes_of_patches(marked, edges)
    rows = np.concatenate([np.flatnonzero(marked), *minor.values()]).astype(np.int64)
    added = [np.full(len(p), len(stroke_class) + i) for i, p in enumerate(minor.values())]
    stroke = np.concatenate([stroke, *added]).astype(np.int64)
    stroke_class = np.concatenate([stroke_class, list(minor)]).astype(np.float64)
    fine, whitening = descriptor.cache.at(1.0), whitening_of_patches(descriptor)
    means, scatter = [], []
    for moments, white in ((fine, whitening), (descriptor.moments, descriptor.whitening)):
        raw = moments.centred(rows).astype(np.float64) + moments.offset
        mean = region_means(raw, stroke, np.ones(len(rows)))
        within = (((raw - mean[stroke]) @ white) ** 2).sum()
        difference = moments.differences(sampled_edges(edges)) @ white
        typical = np.median((difference**2).sum(axis=1)) / 2 if len(difference) else 1.0
        number = len(rows) - len(stroke_class) + _TYPICAL
        scatter.append(max((within + _TYPICAL * typical) / number, 1e-6))
        means.append(mean)
    examples = StrokeExamples(
        stroke_class, means[0], means[1], whitening, np.array(scatter), *pixels
    )
    centres = centres_of(examples, int(stroke_class.max()))
    white, scale = np.asarray(descriptor.whitening, np.float64), float(descriptor.scale)
    return Prototypes(centres, white, scale, names, colors, examples)


def whitening_of_patches(descriptor: Descriptor) -> np.ndarray:
    """Return the map from `raw` of single patches to the space in which these are compared."""
    fine = descriptor.cache.at(1.0)
    return fine.map_of(fine.full_noise.map(_TOLERANCE, descriptor.weight))


def minor_classes(
    strokes: np.ndarray, patches: np.ndarray, marked: np.ndarray
) -> dict[int, np.ndarray]:
    """Return the patches of each class that has the majority of no patch, as thin parts have."""
    minor = np.setdiff1d(np.unique(strokes), np.append(marked, 0))
    return {int(k): np.unique(patches[strokes == k]) for k in minor}


class PixelExamples(NamedTuple):
    """The part of `StrokeExamples` that is about pixels."""

    pixel_class: np.ndarray
    pixels: np.ndarray
    brightness: np.ndarray
    pixel_mean: np.ndarray
    pixel_covariance: np.ndarray


def no_pixels() -> PixelExamples:
    """Return the examples of an image in blocks, whose pixels are not at hand."""
    mean, covariance = np.zeros(N_FEATURES), np.eye(N_FEATURES)
    return PixelExamples(
        np.empty(0), np.empty((0, N_FEATURES)), np.array([0.0, 1.0]), mean, covariance
    )


def pixel_examples(strokes: np.ndarray, features: BrightnessFeatures) -> PixelExamples:
    """Return some pixels of each class, evenly spaced over its strokes."""
    flat = strokes.ravel()
    of_class = [np.flatnonzero(flat == k) for k in np.unique(flat) if k > 0]
    place = np.sort(np.concatenate([spread_out(places, _PIXELS) for places in of_class]))
    brightness = np.array([features.mean, features.spread])
    pixels, (mean, covariance) = features.at(place), features.moments()
    return PixelExamples(flat[place].astype(np.float64), pixels, brightness, mean, covariance)


def log_probabilities(
    prototypes: Prototypes, descriptor: Descriptor, graph: RegionGraph
) -> np.ndarray:
    """Return how likely each patch is of each of the classes that have strokes, (P, K).

    Every stroke stands for a part of its class: the nearest one counts, by the appearance of the
    patch and that of its surroundings. Then probabilities are averaged over neighbours that look
    alike [1]_. `descriptor` is of the prototypes' scale.

    References
    ----------
    .. [1] L. Grady, Random walks for image segmentation, IEEE Transactions on Pattern Analysis and
           Machine Intelligence 28, 2006.
    """
    examples = prototypes.examples
    assert examples is not None  # noqa: S101 - the caller has checked
    distance = np.zeros((graph.number, len(examples.stroke_class)))
    spaces = (
        (descriptor.cache.at(1.0), examples.fine_whitening, examples.fine),
        (descriptor.moments, prototypes.whitening, examples.coarse),
    )
    for (moments, white, strokes), scatter in zip(spaces, examples.scatter, strict=True):
        centre = strokes.mean(axis=0)
        positions = moments.mapped(white, centre)
        distance += squared_distances(positions, (strokes - centre) @ white) / scatter / 2
    likelihood = -_SHARPNESS * distance
    score = np.stack(
        [
            np.logaddexp.reduce(likelihood[:, examples.stroke_class == k], axis=1)
            - np.log((examples.stroke_class == k).sum())
            for k in examples.classes
        ],
        axis=1,
    )
    smooth = _averaged_over_neighbours(probabilities(score), descriptor.values, graph.edges)
    return np.asarray(np.log(smooth + _LEAST_PROBABILITY))


def squared_distances(positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return squared distances, (P, S), of positions (P, E) from centres (S, E)."""
    positions = positions.astype(np.float64)
    square = (positions**2).sum(axis=1)[:, np.newaxis] + (centres**2).sum(axis=1)
    return np.maximum(square - 2 * positions @ centres.T, 0)


def probabilities(score: np.ndarray) -> np.ndarray:
    """Return scores (..., K) as probabilities of the K classes."""
    exponential = np.exp(score - score.max(axis=-1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=-1, keepdims=True))


def uncertainty_of(score: np.ndarray) -> np.ndarray:
    """Return 1 less the lead of the likeliest class over the next, float32, of scores (..., K)."""
    if score.shape[-1] == 1:
        return np.zeros(score.shape[:-1], np.float32)
    two = np.sort(probabilities(score), axis=-1)[..., -2:]
    return np.asarray(1 - (two[..., 1] - two[..., 0]), np.float32)


def _averaged_over_neighbours(
    probability: np.ndarray, positions: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """Average probabilities (P, K) over neighbours by how alike these are."""
    if not len(edges):
        return probability
    square = ((positions[edges[:, 0]] - positions[edges[:, 1]]).astype(np.float64) ** 2).sum(axis=1)
    alike = np.exp(-square / (np.median(square) + 1e-12))
    a, b = edges.T
    ends = (np.concatenate([a, b]), np.concatenate([b, a]))
    number = len(probability)
    weights = sparse.csr_array((np.tile(alike, 2), ends), shape=(number, number))
    total = np.asarray(weights.sum(axis=1))[:, np.newaxis] + 1 / _SMOOTHING
    smooth = probability
    for _ in range(_ROUNDS):
        smooth = (weights @ smooth + probability / _SMOOTHING) / total
    return np.asarray(smooth)
