"""What a user without labels would take otherwise, from scikit-image and scikit-learn.

Each peer is a small function with the parameters that its documentation, or common practice, gives
for the task; where a setting cannot be known beforehand, the peer is a sweep over its settings, and
the bench keeps the best one. ``PEERS[kind][name](image, n)`` returns a list of label arrays, one
per setting (most have one). Images are grey ``(*space)`` or RGB ``(Y, X, 3)``; ``n`` is the true
number of classes or regions, for the kinds where it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, sparse
from scipy import ndimage as ndi
from skimage import color, feature, filters, measure, morphology, segmentation
from sklearn.cluster import AgglomerativeClustering, KMeans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Peer = Callable[[NDArray, int], list[NDArray]]

#: Clusters are fitted on so many pixels and then given to all: more does not move the centres.
FIT_PIXELS = 10_000
#: Numbers of clusters that are tried where the number is not given.
CLUSTER_COUNTS = (2, 3, 4, 6, 8, 12)
#: Numbers of regions at which the merging peers are cut where the number is not given.
REGION_COUNTS = (2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 65, 80, 100, 150)


# -- features ------------------------------------------------------------------------------------


def grey(image: NDArray) -> NDArray:
    """Brightness in 0..1."""
    if image.ndim == 3 and image.shape[-1] == 3:
        return color.rgb2gray(image)
    image = image.astype(float)
    return (image - image.min()) / max(np.ptp(image), 1e-9)


def colours(image: NDArray) -> NDArray:
    """Lab of an RGB image, else brightness; channels last, lightness spans 0..1."""
    if image.ndim == 3 and image.shape[-1] == 3:
        return color.rgb2lab(image) / 100
    return grey(image)[..., None]


def filter_bank(image: NDArray, sigmas: Sequence[float] = (1, 2, 4, 8)) -> NDArray:
    """Gaussian, gradient, Laplacian and structure tensor of each channel at each scale."""
    features = []
    for channel in np.moveaxis(colours(image), -1, 0):
        for sigma in sigmas:
            tensor = feature.structure_tensor(channel, sigma=sigma)
            eigenvalues = feature.structure_tensor_eigenvalues(tensor)
            features += [
                ndi.gaussian_filter(channel, sigma),
                ndi.gaussian_gradient_magnitude(channel, sigma),
                ndi.gaussian_laplace(channel, sigma),
                *np.sqrt(np.maximum(eigenvalues, 0)),
            ]
    return np.stack(features, axis=-1)


def gabor_bank(
    image: NDArray, wavelengths: Sequence[float] = (2.83, 5.66, 11.3, 22.6), directions: int = 6
) -> NDArray:
    """Magnitudes of Gabor filters one octave wide, smoothed over two wavelengths, and colour.

    Jain and Farrokhnia (1991) with twice the usual smoothing, which does best on texture mosaics.
    """
    picture = grey(image)
    margin = min(picture.shape) // 4
    # Reflected on both sides, and on the far side to a size that is fast to transform
    padding = [(margin, fft.next_fast_len(n + 2 * margin) - n - margin) for n in picture.shape]
    spectrum = fft.fft2(np.pad(picture, padding, mode="reflect").astype(np.complex64))
    y, x = (fft.fftfreq(n).astype(np.float32) for n in spectrum.shape)
    inside = tuple(slice(margin, margin + n) for n in picture.shape)
    features = []
    for wavelength in wavelengths:
        width = 3 / np.pi * np.sqrt(np.log(2) / 2) * wavelength
        for angle in np.pi * np.arange(directions) / directions:
            along = x * np.cos(angle) + y[:, None] * np.sin(angle)
            across = y[:, None] * np.cos(angle) - x * np.sin(angle)
            passed = np.exp(-2 * (np.pi * width) ** 2 * ((along - 1 / wavelength) ** 2 + across**2))
            magnitude = np.abs(fft.ifft2(spectrum * passed))
            features.append(ndi.gaussian_filter(magnitude, 2 * wavelength)[inside])
    if image.ndim > picture.ndim:
        features += [ndi.gaussian_filter(c, 1) for c in np.moveaxis(colours(image), -1, 0)]
    return np.stack(features, axis=-1)


def with_coordinates(features: NDArray) -> NDArray:
    """Features and the position, which keeps clusters together in space."""
    return np.concatenate([features, np.moveaxis(np.indices(features.shape[:-1]), 0, -1)], axis=-1)


def standardised(features: NDArray) -> NDArray:
    """One row per pixel, zero mean and unit variance."""
    rows = features.reshape(-1, features.shape[-1])
    return (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-9)


def region_means(features: NDArray, regions: NDArray) -> NDArray:
    """Mean of the standardised features in regions 0..n-1, shape (n, features)."""
    ids = regions.ravel()
    sums = [np.bincount(ids, column) for column in standardised(features).T]
    return np.stack(sums, axis=1) / np.bincount(ids)[:, None]


# -- clusters of pixels --------------------------------------------------------------------------


def kmeans(features: NDArray, n: int) -> NDArray:
    """K-means of the standardised pixels."""
    rows = standardised(features)
    chosen = np.random.default_rng(0).permutation(len(rows))[:FIT_PIXELS]
    model = KMeans(n, n_init=5, random_state=0).fit(rows[chosen])
    return model.predict(rows).reshape(features.shape[:-1]) + 1


def multi_otsu(picture: NDArray, n: int) -> NDArray:
    """Classes 1..n of brightness, or of any one feature."""
    # Many thresholds are searched exhaustively, in time ~ bins^(n-1); from 6 on it is minutes
    if n > 5:
        return kmeans(picture[..., None], n)
    bins = 256 if n <= 4 else 64
    return np.digitize(picture, filters.threshold_multiotsu(picture, n, nbins=bins)) + 1


def local_deviation(image: NDArray, size: int = 41) -> NDArray:
    """Standard deviation of brightness in a window."""
    picture = grey(image)
    mean = ndi.uniform_filter(picture, size)
    return np.sqrt(np.maximum(ndi.uniform_filter(picture**2, size) - mean**2, 0))


# -- merged regions ------------------------------------------------------------------------------


def superpixels(image: NDArray, size: int = 200) -> NDArray:
    """SLIC superpixels 0..n-1 of about this many pixels, or supervoxels."""
    picture = colours(image)
    in_colour = picture.shape[-1] == 3
    return segmentation.slic(
        # The usual compactness of 10 belongs to Lab in 0..100
        picture * 100 if in_colour else picture,
        n_segments=picture[..., 0].size // size,
        compactness=10 if in_colour else 1,
        convert2lab=False,
        channel_axis=-1,
        start_label=0,
    )


def ward(regions: NDArray, features: NDArray, counts: Sequence[int]) -> list[NDArray]:
    """Neighbouring superpixels merged by Ward's criterion on their mean features."""
    means = region_means(features, regions)
    model = AgglomerativeClustering(
        min(counts), connectivity=_touching(regions), compute_full_tree=True
    ).fit(means)
    return [_cut(model.children_, n)[regions] + 1 for n in counts]


def _touching(regions: NDArray) -> sparse.csr_array:
    """Adjacency of regions 0..n-1 that share a border."""
    n = regions.max() + 1
    along_axis = [
        (np.delete(regions, -1, axis).ravel(), np.delete(regions, 0, axis).ravel())
        for axis in range(regions.ndim)
    ]
    pairs = np.concatenate(along_axis, axis=1)
    table = sparse.coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(n, n)).tocsr()
    return table + table.T


def _cut(children: NDArray, n: int) -> NDArray:
    """Cluster 0..n-1 of every leaf when a tree of merges stops at n clusters."""
    leaves = len(children) + 1
    cluster = np.arange(2 * leaves - 1)
    for merge in reversed(range(leaves - n)):
        cluster[children[merge]] = cluster[leaves + merge]
    return np.unique(cluster[:leaves], return_inverse=True)[1]


def felzenszwalb(image: NDArray, scale: float, min_size: int) -> NDArray:
    """Efficient graph-based segmentation, labels 1.."""
    return 1 + segmentation.felzenszwalb(
        image if image.ndim == 3 else grey(image),
        scale=scale,
        sigma=0.8,
        min_size=min_size,
        channel_axis=-1 if image.ndim == 3 else None,
    )


def classes_of_regions(regions: NDArray, features: NDArray, n: int) -> NDArray:
    """Regions 1.. grouped by appearance into n classes, wherever they lie; big ones count more."""
    means = region_means(features, regions - 1)
    weights = np.bincount(regions.ravel() - 1)
    model = KMeans(min(n, len(means)), n_init=10, random_state=0)
    return model.fit_predict(means, sample_weight=weights)[regions - 1] + 1


def felzenszwalb_with(image: NDArray, n: int) -> NDArray:
    """The scale that gives about n regions."""
    sizes = np.geomspace(10, 30_000, 15)
    partitions = [felzenszwalb(image, size, grey(image).size // 500) for size in sizes]
    return min(partitions, key=lambda labels: abs(np.log(labels.max() / n)))


# -- objects -------------------------------------------------------------------------------------


def distance_watershed(foreground: NDArray, min_distance: int, min_size: int) -> NDArray:
    """Touching objects split at the necks: watershed from the peaks of the distance transform."""
    foreground = morphology.remove_small_objects(foreground, max_size=min_size)
    foreground = ndi.binary_fill_holes(foreground)
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(foreground), 1)
    parts = measure.label(foreground, connectivity=1)
    peaks = feature.peak_local_max(
        distance, min_distance=min_distance, labels=parts, exclude_border=False
    )
    markers = np.zeros(foreground.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return segmentation.watershed(-distance, markers, mask=foreground)


def _watershed_sweep(
    image: NDArray, foreground_of: Callable[[NDArray], NDArray], *, both_signs: bool = True
) -> list[NDArray]:
    """Distance watershed over smoothing, polarity, distance between peaks and smallest size."""
    picture = grey(image)
    distances = (3, 5, 8, 12, 20) if picture.ndim == 2 else (2, 3, 5, 8)
    return [
        distance_watershed(foreground, distance, min_size)
        for sigma in (1, 2)
        for sign in ((1, -1) if both_signs else (1,))
        for foreground in [foreground_of(sign * ndi.gaussian_filter(picture, sigma))]
        for distance in distances
        for min_size in (20, 60)
    ]


def _above_otsu(picture: NDArray) -> NDArray:
    return picture > filters.threshold_otsu(picture)


def _above_lower_otsu(picture: NDArray) -> NDArray:
    """Above the lower of two thresholds: keeps dim objects beside bright ones."""
    return picture > filters.threshold_multiotsu(picture, 3)[0]


def _above_local_mean(picture: NDArray) -> NDArray:
    """Above a mean over about 100 pixels, and clearly so."""
    mean = ndi.gaussian_filter(picture, min(35, min(picture.shape) / 4))
    return picture > mean + 0.25 * picture.std()


def kmeans_watershed(image: NDArray, _n: int = 0) -> list[NDArray]:
    """The rarer of two clusters of the filter bank, split at the necks."""
    labels = kmeans(filter_bank(image), 2)
    foreground = labels == (1 if np.mean(labels == 1) < 0.5 else 2)
    distances = (3, 5, 8, 12, 20) if labels.ndim == 2 else (2, 3, 5, 8)
    return [distance_watershed(foreground, d, s) for d in distances for s in (20, 60)]


# -- the peers of each kind ----------------------------------------------------------------------


def _one(function: Callable[[NDArray, int], NDArray]) -> Peer:
    """A peer without settings."""
    return lambda image, n: [function(image, n)]


def _felzenszwalb_classes(image: NDArray, n: int) -> NDArray:
    return classes_of_regions(felzenszwalb(image, 50, 50), filter_bank(image), n)


def _ward_classes(image: NDArray, n: int) -> NDArray:
    """Ward of the superpixels, neighbours or not."""
    regions = superpixels(image)
    means = region_means(filter_bank(image), regions)
    return AgglomerativeClustering(n).fit_predict(means)[regions] + 1


def _cluster_sweep(cluster: Callable[[NDArray, int], NDArray]) -> Peer:
    """Clusters of pixels as a partition, for several numbers of them."""
    return lambda image, _n: [cluster(image, n) for n in CLUSTER_COUNTS]


CLASSES: dict[str, Peer] = {
    "multi-Otsu": _one(lambda image, n: multi_otsu(grey(image), n)),
    "local deviation + multi-Otsu": _one(lambda im, n: multi_otsu(local_deviation(im), n)),
    "k-means, filter bank": _one(lambda image, n: kmeans(filter_bank(image), n)),
    "k-means, filter bank to 16 px": _one(
        lambda image, n: kmeans(filter_bank(image, (1, 2, 4, 8, 16)), n)
    ),
    "k-means, Gabor bank": _one(lambda image, n: kmeans(gabor_bank(image), n)),
    "SLIC + Ward": _one(_ward_classes),
    "Felzenszwalb": _one(_felzenszwalb_classes),
}

TEXTURES: dict[str, Peer] = {
    "multi-Otsu": CLASSES["multi-Otsu"],
    "k-means, filter bank": _one(lambda im, n: kmeans(with_coordinates(filter_bank(im)), n)),
    "k-means, filter bank to 16 px": _one(
        lambda image, n: kmeans(with_coordinates(filter_bank(image, (1, 2, 4, 8, 16))), n)
    ),
    "k-means, Gabor bank": _one(lambda im, n: kmeans(with_coordinates(gabor_bank(im)), n)),
    "SLIC + Ward, filter bank": lambda im, n: ward(superpixels(im), filter_bank(im), [n]),
    "SLIC + Ward, Gabor bank": lambda im, n: ward(superpixels(im), gabor_bank(im), [n]),
    "Felzenszwalb": _one(felzenszwalb_with),
}

PARTITIONS: dict[str, Peer] = {
    "multi-Otsu": _cluster_sweep(lambda image, n: multi_otsu(grey(image), n)),
    "k-means, filter bank": _cluster_sweep(
        lambda image, n: kmeans(with_coordinates(filter_bank(image)), n)
    ),
    "k-means, Gabor bank": _cluster_sweep(
        lambda image, n: kmeans(with_coordinates(gabor_bank(image)), n)
    ),
    "SLIC + Ward": lambda im, _n: ward(superpixels(im), colours(im), REGION_COUNTS),
    "Felzenszwalb": lambda image, _n: [
        felzenszwalb(image, scale, min_size)
        for scale in np.geomspace(100, 3000, 8)
        for min_size in (100, 500, 1500)
    ],
}

OBJECTS: dict[str, Peer] = {
    "Otsu + distance watershed": lambda im, _n: _watershed_sweep(im, _above_otsu),
    "multi-Otsu + distance watershed": lambda im, _n: _watershed_sweep(im, _above_lower_otsu),
    "local mean + distance watershed": lambda im, _n: _watershed_sweep(im, _above_local_mean),
    "k-means, filter bank + watershed": kmeans_watershed,
}

PEERS: dict[str, dict[str, Peer]] = {
    "classes": CLASSES,
    "textures": TEXTURES,
    "partitions": PARTITIONS,
    "objects": OBJECTS,
    "objects 3D": OBJECTS,
}
