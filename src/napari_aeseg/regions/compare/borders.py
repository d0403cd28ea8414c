"""Sharp borders: averaging over neighbours blurs them, and single patches know where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_aeseg.progress import raise_if_stopped
from napari_aeseg.regions.patches.statistics import region_means
from napari_aeseg.regions.tree.ward import ward_tree

if TYPE_CHECKING:
    from napari_aeseg.progress import StopFlag
    from napari_aeseg.regions.tree.ward import SharedMerges

# Numbers of regions at which borders are sharpened, one after the other.
_REGIONS = (64, 48, 32, 24, 16)
# Patches change sides at most this often at each of them.
_ROUNDS = 6
# What one neighbour in a region counts, in units of the squared noise.
_NEIGHBOUR = 3.0


def refine_boundaries(
    averaged: np.ndarray,
    own: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray,
    stop: StopFlag | None = None,
    shared: SharedMerges | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Move patches to the neighbouring region that they themselves look like.

    Regions come from positions averaged over neighbours. Each patch that touches another region
    compares its own position, which is not averaged, with the mean of both [1]_, and neighbours
    count for their region. One that changes sides gets the averaged position of its new region.

    Parameters
    ----------
    averaged : ndarray of float, shape (P, E)
        Positions averaged over neighbours.
    own : ndarray of float, shape (P, E')
        Positions of the patches alone.
    edges : ndarray of int, shape (E, 2)
    weight : ndarray of float64, shape (P,)
        Sizes.
    stop : StopFlag, optional
        Checked at each number of regions.
    shared : SharedMerges, optional
        With which the first regions begin.

    Returns
    -------
    positions : ndarray of the type of `averaged`, shape (P, E)
    region : ndarray of int, shape (P,)
        The last regions, between which borders are sharp.

    Raises
    ------
    StoppedError
        When asked to stop.

    References
    ----------
    .. [1] J. Besag, On the statistical analysis of dirty pictures, Journal of the Royal Statistical
           Society B 48, 1986 (iterated conditional modes).

    Examples
    --------
    >>> own = np.repeat([0.0, 9.0], [40, 80])[:, np.newaxis]
    >>> edges = np.stack([np.arange(119), np.arange(1, 120)], axis=1)
    >>> blurred = np.repeat([0.0, 9.0], [43, 77])[:, np.newaxis]  # three patches on the wrong side
    >>> sharp, _ = refine_boundaries(blurred, own, edges, np.ones(120))
    >>> bool(np.array_equal(sharp > 4.5, own > 4.5))
    True
    """
    if not len(edges):
        return averaged, np.zeros(len(averaged), np.int64)
    edges = np.asfortranarray(edges)  # each end is looked up by itself
    region = _first_regions(averaged, edges, weight, stop, shared)
    result = averaged.copy()
    # Sums are kept up to date: few patches change sides, and adding all again takes long.
    blurred, alone = (_Sums.of(values, region, weight) for values in (averaged, own))
    sharp = blurred.copy()
    for number in _REGIONS:
        raise_if_stopped(stop, "tree")
        new = _fewer(region, sharp, edges, number)
        region, blurred, alone, sharp = (
            new[region],
            *(s.joined(new) for s in (blurred, alone, sharp)),
        )
        before = region
        region = _competed(before, own, edges, weight, alone)
        moved = np.flatnonzero(region != before)
        share, sides = weight[moved], (before[moved], region[moved])
        blurred.move(share, sides, averaged[moved], averaged[moved])
        centre = blurred.means[sides[1]].astype(result.dtype)
        sharp.move(share, sides, result[moved], centre)
        result[moved] = centre
    return result, region


def _first_regions(
    averaged: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray,
    stop: StopFlag | None,
    shared: SharedMerges | None,
) -> np.ndarray:
    """Region of each patch: where borders are before they are sharpened."""
    part = np.arange(len(averaged)) if shared is None else shared.region
    if shared is not None:
        averaged = region_means(averaged, part, weight)
        pair = part[edges]
        low, high = pair.min(axis=1), pair.max(axis=1)
        key = np.unique((low * len(averaged) + high)[low != high])
        edges = np.stack([key // len(averaged), key % len(averaged)], axis=1)
        weight = np.bincount(part, weight)
    tree = ward_tree(edges, averaged, weight, stop)
    return (tree.cut(min(_REGIONS[0], tree.leaves)) - 1)[part]


@dataclass(slots=True)
class _Sums:
    """Patches and weight of each region (R,), and weighted sums of its patches' rows (R, D)."""

    patches: np.ndarray
    size: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, region: np.ndarray, weight: np.ndarray) -> _Sums:
        size = np.bincount(region, weight)
        total = region_means(values, region, weight) * size[:, np.newaxis]
        return cls(np.bincount(region), size, total)

    def copy(self) -> _Sums:
        return _Sums(self.patches.copy(), self.size.copy(), self.total.copy())

    @property
    def means(self) -> np.ndarray:
        """Mean of each region, 0 for one that has lost all its patches."""
        return self.total / np.where(self.patches > 0, self.size, 1)[:, np.newaxis]

    def joined(self, new: np.ndarray) -> _Sums:
        """Return the sums when region i becomes a part of region ``new[i]``."""
        total = np.zeros((int(new.max()) + 1, self.total.shape[1]))
        np.add.at(total, new, self.total)
        patches = np.bincount(new, self.patches).astype(np.int64)
        return _Sums(patches, np.bincount(new, self.size), total)

    def move(
        self,
        weight: np.ndarray,
        sides: tuple[np.ndarray, np.ndarray],
        old: np.ndarray,
        new: np.ndarray,
    ) -> None:
        """Take patches with their old rows from one side and give them to the other with new."""
        before, after = sides
        number, share = len(self.size), weight[:, np.newaxis]
        self.total += _added(after, new * share, number) - _added(before, old * share, number)
        self.size += np.bincount(after, weight, number) - np.bincount(before, weight, number)
        self.patches += np.bincount(after, minlength=number)
        self.patches -= np.bincount(before, minlength=number)
        empty = self.patches == 0  # what rounding leaves is nothing
        self.size[empty], self.total[empty] = 0, 0


def _added(region: np.ndarray, rows: np.ndarray, number: int) -> np.ndarray:
    """Sums of the rows of each region; np.add.at takes ten times as long."""
    belongs = np.zeros((number, len(region)))
    belongs[region, np.arange(len(region))] = 1
    return belongs @ rows


def _fewer(region: np.ndarray, sums: _Sums, edges: np.ndarray, number: int) -> np.ndarray:
    """Region 0 .. `number` - 1 of each region when neighbours merge by Ward's criterion."""
    present = sums.patches > 0
    new = np.maximum(np.cumsum(present) - 1, 0)  # empty ones are joined to any
    region = new[region]
    pairs = _touching(region, edges)
    if region.max() < number or not len(pairs):
        return new
    tree = ward_tree(pairs, sums.means[present], sums.size[present])
    return (tree.cut(number) - 1)[new]


def _touching(region: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return which of a few regions touch: each pair once, shape (E', 2)."""
    first, second = region[edges[:, 0]], region[edges[:, 1]]
    apart = first != second
    first, second = first[apart], second[apart]
    number = int(region.max()) + 1
    touch = np.bincount(
        np.minimum(first, second) * number + np.maximum(first, second), minlength=number**2
    )
    return np.argwhere(touch.reshape(number, number))


def _competed(
    region: np.ndarray, own: np.ndarray, edges: np.ndarray, weight: np.ndarray, sums: _Sums
) -> np.ndarray:
    """Let patches at borders take sides until none changes; `sums` of their rows follow.

    After the first round, only those are asked again that have changed sides or touch one that has:
    the means hardly move.
    """
    region = region.copy()
    asked = np.ones(len(region), bool)
    for _ in range(_ROUNDS):
        which, best = _best_sides(region, own, edges, sums.means, asked)
        moving = best != region[which]
        if not moving.any():
            break
        which, best = which[moving], best[moving]
        sums.move(weight[which], (region[which], best), own[which], own[which])
        region[which] = best
        moved = np.zeros(len(region), bool)
        moved[which] = True
        asked[:] = moved
        asked[edges[moved[edges[:, 1]], 0]] = True
        asked[edges[moved[edges[:, 0]], 1]] = True
    return region


def _best_sides(
    region: np.ndarray, own: np.ndarray, edges: np.ndarray, centre: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Patches asked that touch another region, and the region that suits each of them best."""
    a, b = edges.T
    apart = region[a] != region[b]
    at_border = np.zeros(len(region), bool)
    at_border[a[apart]] = at_border[b[apart]] = True
    at_border &= asked
    which, number = np.flatnonzero(at_border), len(centre)
    if not len(which):
        return which, which
    # Small numbers are sorted faster.
    place = np.cumsum(at_border, dtype=np.int32 if len(which) * number < 2**31 else np.int64) - 1
    region = region.astype(place.dtype)
    near_a, near_b = np.flatnonzero(at_border[a]), np.flatnonzero(at_border[b])
    # One number for a patch and a region: how often it occurs tells how many neighbours are there.
    # A patch's own region is always an option, and taken when others are as good.
    stay = place[which] * number + region[which]
    key = np.concatenate(
        [
            place[a[near_a]] * number + region[b[near_a]],
            place[b[near_b]] * number + region[a[near_b]],
            stay,
        ]
    )
    key.sort()
    begins = np.flatnonzero(np.diff(key, prepend=-1))
    around = np.diff(begins, append=len(key)).astype(np.float64)
    key = key[begins]
    around[np.searchsorted(key, stay)] -= 1 - 1e-9
    # Squared distances, but for what is the same for all regions.
    distance = (centre**2).sum(axis=1) - 2 * (own[which] @ centre.astype(own.dtype).T)
    cost = distance.ravel()[key] - _NEIGHBOUR * around
    patch = key // number
    least = np.minimum.reduceat(cost, np.flatnonzero(np.diff(patch, prepend=-1)))
    best = np.flatnonzero(cost == least[patch])[::-1]
    chosen = np.empty(len(which), np.int64)
    chosen[patch[best]] = key[best] % number  # of equal ones, the first
    return which, chosen
