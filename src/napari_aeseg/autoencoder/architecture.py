"""How a network is built, and what follows from it: the size of its cells, how far it looks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

#: What `TrainingParams` calls by the same name.
AS_IN_PARAMS = ("levels", "width", "convolutions", "decoder")


@dataclass(frozen=True, slots=True)
class Architecture:
    """All that is needed to build the network again.

    Parameters
    ----------
    channels : int
        Channels of the image.
    levels : int
        Levels of convolutions and pooling; each halves the resolution.
    width : int
        Channels of level 1; level i has ``width * 2 ** (i - 1)``.
    convolutions : int
        Convolutions in each level, of 3 x 3 pixels or 3 x 3 x 3 voxels.
    decoder : {"transposed", "unpooling"}
        How resolution is regained.
    dimensions : {2, 3}
        Whether it sees planes or volumes; their axes are Y and X, or Z, Y and X.
    z_levels : int
        Of volumes, how many of the first levels leave Z alone, because voxels are longer in Z:
        they convolve and pool slice by slice. 0 in 2D.

    Examples
    --------
    >>> Architecture(channels=1, dimensions=3, z_levels=1).total_stride
    (4, 8, 8)
    """

    channels: int
    levels: int = 3
    width: int = 16
    convolutions: int = 2
    decoder: Literal["transposed", "unpooling"] = "transposed"
    dimensions: int = 2
    z_levels: int = 0

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the image (level 0) and of each level."""
        return (self.channels, *(self.width * 2**i for i in range(self.levels)))

    @property
    def _untouched(self) -> tuple[int, ...]:
        """How many of the first levels leave each axis alone."""
        return (self.z_levels, 0, 0)[-self.dimensions :]

    @property
    def total_stride(self) -> tuple[int, ...]:
        """How many pixels one value of the code stands for, along each axis."""
        return tuple(2 ** (self.levels - n) for n in self._untouched)

    def receptive_radius(self, *, decoded: bool) -> tuple[int, ...]:
        """Pixels around a pixel that can change its features at the deepest level, for each axis.

        Each convolution reaches one cell of its level, each pooling or un-pooling of two cells at
        most one cell of the finer level.
        """
        one_way = ((self.convolutions + 1) * (n - 1) for n in self.total_stride)
        if not decoded:
            return tuple(one_way)
        # An axis that no level looks along has no reach.
        both = zip(one_way, self.total_stride, strict=True)
        return tuple(2 * reach + n if reach else 0 for reach, n in both)

    def window(self, level: int) -> tuple[int, ...]:
        """Cells along each axis that the pooling after a level, from 1, takes the maximum of."""
        return tuple(1 if level <= n else 2 for n in self._untouched)

    def kernel(self, level: int) -> tuple[int, ...]:
        """Cells along each axis that a convolution of a level, from 1, looks at."""
        return tuple(1 if level <= n else 3 for n in self._untouched)

    def stride(self, level: int) -> tuple[int, ...]:
        """Pixels along each axis that one value of a level stands for; level 0 is the image.

        Examples
        --------
        >>> [Architecture(channels=1).stride(level) for level in range(4)]
        [(1, 1), (1, 1), (2, 2), (4, 4)]
        """
        return tuple(2 ** max(level - 1 - n, 0) for n in self._untouched)

    def as_dict(self) -> dict[str, int | str]:
        """Return plain values for a file header; in 2D as ever, without a word on dimensions."""
        values = asdict(self)
        if self.dimensions == 2:
            del values["dimensions"], values["z_levels"]
        return values


def z_levels_for(ratio: float, levels: int) -> int:
    """Return how many levels are to leave Z alone until voxels are about as long as wide.

    Parameters
    ----------
    ratio : float
        Length of a voxel along Z, in units of its width.
    levels : int
        Of the network.

    Examples
    --------
    >>> [z_levels_for(ratio, levels=3) for ratio in (0.5, 1, 2, 5, 100)]
    [0, 0, 1, 2, 3]
    """
    return min(max(round(math.log2(ratio)), 0), levels)
