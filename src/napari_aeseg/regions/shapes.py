"""Sizes and shapes of labelled parts of an image, such as objects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import marching_cubes, mesh_surface_area, perimeter

from napari_aeseg.regions.objects.candidates import radius_of

if TYPE_CHECKING:
    from napari_aeseg.images.axes import Axes

# An image is one of objects if there are so many, and they explain more of the variance than this.
_MANY, _EXPLAINED = 10, 0.5


def object_diameters(labels: np.ndarray, axes: Axes) -> np.ndarray:
    """Return the equivalent diameter of each object, in each frame, in shortest sides of a pixel.

    Examples
    --------
    >>> from napari_aeseg.images.axes import read_axes
    >>> square = np.pad(np.ones((20, 20), int), 4)
    >>> object_diameters(square, read_axes(square.shape, "YX")).round(1).tolist()
    [22.6]
    """
    time = axes.space.index("T") if "T" in axes.space else None
    frames = [labels] if time is None else np.moveaxis(labels, time, 0)
    sizes = np.concatenate([np.bincount(frame.ravel())[1:] for frame in frames])
    letters = axes.space.replace("T", "")
    sides = dict(zip(axes.space, axes.spacing or (1.0,) * len(axes.space), strict=True))
    pixel = np.array([sides[letter] for letter in letters])
    volume = float(np.prod(pixel / pixel.min())) if "Z" in letters else 1.0
    return 2 * radius_of(sizes[sizes > 0] * volume, len(letters))


def objects_stand_out(labels: np.ndarray, brightness: np.ndarray) -> bool:
    """Return whether an image is one of objects: ten or more explain most of its brightness.

    That is, more than half of the variance of brightness lies between pixels in objects and others.

    Examples
    --------
    >>> squares = np.kron(np.arange(16).reshape(4, 4), np.pad(np.ones((6, 6), int), 2))
    >>> objects_stand_out(squares, squares > 0), objects_stand_out(squares, np.eye(40))
    (True, False)
    """
    inside = labels > 0
    if np.count_nonzero(np.bincount(labels.ravel())[1:]) < _MANY or inside.all():
        return False
    values, share = np.asarray(brightness, np.float32), float(inside.mean())
    difference = float(values[inside].mean()) - float(values[~inside].mean())
    return share * (1 - share) * difference**2 > _EXPLAINED * float(values.var())


def shape_columns(rows: np.ndarray, number: int, sides: Sequence[float]) -> dict[str, np.ndarray]:
    """Return columns of a table on the shapes of labels.

    Parameters
    ----------
    rows : ndarray of int, of two or three axes
        Of each pixel, 1 .. `number`; 0 is left out.
    sides : sequence of float
        Of a pixel, along each axis.

    Returns
    -------
    dict of ndarray of float, shape (number,)
        "equivalent_diameter"; "perimeter", or "surface" in volumes; "major_axis" and "minor_axis"
        of the ellipse (ellipsoid) with the same moments; "eccentricity" of the ellipse;
        "solidity", the share of the convex hull that is filled.

    Examples
    --------
    >>> columns = shape_columns(np.pad(np.ones((10, 40), int), 2), 1, (0.5, 0.5))
    >>> {name: round(float(values[0]), 2) for name, values in columns.items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'equivalent_diameter': 11.28, 'perimeter': 48.0, 'major_axis': 23.09, 'minor_axis': 5.77,
     'eccentricity': 0.97, 'solidity': 1.0}
    """
    size = np.bincount(rows.ravel(), minlength=number + 1)[1:] * np.prod(sides)
    places = ndimage.find_objects(rows, number)
    masks = [rows[place] == k for k, place in enumerate(places, 1)]
    around, hull = np.array([_outline_and_hull(mask, sides) for mask in masks]).reshape(-1, 2).T
    longest, shortest = _axes_of_ellipses(rows, number, sides)
    columns = {
        "equivalent_diameter": 2 * radius_of(size, rows.ndim),
        "perimeter" if rows.ndim == 2 else "surface": around,
        "major_axis": longest,
        "minor_axis": shortest,
    }
    if rows.ndim == 2:
        columns["eccentricity"] = np.sqrt(1 - (shortest / longest) ** 2)
    return {**columns, "solidity": np.minimum(size / hull, 1)}


def _outline_and_hull(mask: np.ndarray, sides: Sequence[float]) -> tuple[float, float]:
    """Length (area) of an outline, and area (volume) of the convex hull."""
    mask = np.pad(mask, 1)
    outline = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    # Middles of pixel faces: the corners would make staircases of smooth outlines.
    faces = np.concatenate([np.eye(mask.ndim), -np.eye(mask.ndim)]) / 2
    points = (outline[:, np.newaxis] + faces).reshape(-1, mask.ndim) * sides
    hull = ConvexHull(np.unique(points, axis=0)).volume
    if mask.ndim == 3:
        vertices, triangles, *_ = marching_cubes(mask.astype(np.float32), 0.5, spacing=tuple(sides))
        return float(mesh_surface_area(vertices, triangles)), float(hull)
    # Counted in pixels; where these are not square, their mean side is as good as can be.
    return float(perimeter(mask) * np.sqrt(np.prod(sides))), float(hull)


def _axes_of_ellipses(
    rows: np.ndarray, number: int, sides: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Longest and shortest axis of the ellipses (ellipsoids) with the same moments."""
    inside, ndim = np.nonzero(rows), rows.ndim
    row = rows[inside] - 1
    count = np.bincount(row, minlength=number)
    at = [index * side for index, side in zip(inside, sides, strict=True)]
    at = [a - (np.bincount(row, a, number) / count)[row] for a in at]
    covariance = np.empty((number, ndim, ndim))
    for i, j in combinations_with_replacement(range(ndim), 2):
        covariance[:, i, j] = np.bincount(row, at[i] * at[j], number) / count
        covariance[:, j, i] = covariance[:, i, j]
    # A pixel is a box, not a point.
    covariance[:, range(ndim), range(ndim)] += np.square(sides) / 12
    lengths = 2 * np.sqrt((ndim + 2) * np.linalg.eigvalsh(covariance))
    return lengths[:, -1], lengths[:, 0]
