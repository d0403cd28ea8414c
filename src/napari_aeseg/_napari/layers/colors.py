"""Colours of classes, in the list of classes and on the preview."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap, label_colormap

from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import layer_pixels

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.utils.colormaps.colormap import LabelColormapBase as LabelColormap

# Okabe and Ito's palette, which people with any colour vision can tell apart, without its black.
_FIRST = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")

# The seed of napari's label colours whose first twelve differ most (napari's default, .5, begins
# with two browns and two ochres).
_SEED = 0.74
# Of outlines: hues to choose from, how many are used, part of the pixels that are most like a hue.
_N_HUES, _N_OUTLINES, _LIKE_IT = 12, 5, 0.05
_VIVID = 0.8  # least saturation of strokes
# Pale colours have less saturation than this; their strokes are as dark as that, as vivid ones of
# the same hue exist.
_PALE, _DARK = 0.4, 0.45
_MOST_ROWS = 50  # along each axis, that are looked at


def class_color(number: int) -> str:
    """Return the colour of class `number` (from 1) where the user has chosen none.

    Examples
    --------
    >>> class_color(1), class_color(8)
    ('#e69f00', '#62e639')
    """
    if number <= len(_FIRST):
        return _FIRST[number - 1]
    # Then hues that step by the golden ratio, so that neighbours differ.
    return to_hex(colorsys.hsv_to_rgb((number * 0.618034 + 0.35) % 1, 0.75, 0.9))


def to_hex(color: Sequence[float]) -> str:
    """Return a colour of red, green and blue from 0 to 1 as "#rrggbb"."""
    return "#" + "".join(f"{round(float(part) * 255):02x}" for part in color[:3])


def check_colors(colors: Sequence[str]) -> None:
    """Raise `InputError` unless all are written as "#rrggbb"."""
    for color in colors:
        if not re.fullmatch("#[0-9a-fA-F]{6}", color):
            raise InputError(f"class_colors: {color!r}: give colours as '#rrggbb'.")


@lru_cache(maxsize=16)
def class_colormap(colors: tuple[str, ...]) -> DirectLabelColormap:
    """Return the colormap in which label i has ``colors[i - 1]``, always the same object."""
    table: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    table.update(enumerate(colors, 1))
    return DirectLabelColormap(color_dict=table)


def with_one_white(colormap: LabelColormap, largest: int, label: int) -> DirectLabelColormap:
    """Return the colours of labels up to the largest, but one of them in white."""
    labels = np.arange(1, largest + 1)
    table: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    table.update(zip(labels.tolist(), colormap.map(labels), strict=True))
    return DirectLabelColormap(color_dict={**table, label: "white"})


def label_colors() -> CyclicLabelColormap:
    """Return colours for any number of labels, for a layer of its own."""
    return label_colormap(seed=_SEED)


@lru_cache(maxsize=1)
def cyclic_colormap() -> CyclicLabelColormap:
    """Return `label_colors`, always the same object."""
    return label_colors()


def stroke_colors(class_colors: Sequence[str] | None = None) -> CyclicLabelColormap:
    """Return the colours of strokes: those of classes, as "#rrggbb", if strokes are classes.

    Others are `label_colors` as bright and vivid as can be, pale ones dark. A stroke then stands
    out from the segment around it, which has its colour half transparent.
    """
    if class_colors is not None:
        return CyclicLabelColormap(colors=["transparent", *class_colors])
    colormap = label_colors()
    colors = colormap.colors.copy()
    for color in colors[1:]:
        hue, saturation, _ = colorsys.rgb_to_hsv(*color[:3])
        value = _DARK if saturation < _PALE else 1
        color[:3] = colorsys.hsv_to_rgb(hue, max(saturation, _VIVID), value)
    return CyclicLabelColormap(
        colors=colors, controls=colormap.controls, interpolation=colormap.interpolation
    )


def some_colors(image: Image) -> np.ndarray:
    """Return the colours of a few pixels all over an RGB layer, from 0 to 1, shape (N, 3)."""
    pixels = layer_pixels(image)
    for axis, size in enumerate(pixels.shape[:-1]):
        step = -(-size // _MOST_ROWS)
        pixels = pixels[(slice(None),) * axis + (slice(None, None, step),)]
    values = np.asarray(pixels).reshape(-1, pixels.shape[-1])[:, :3]
    return values / (255 if values.dtype.kind in "ui" else 1)


def outline_colors(pixels: np.ndarray) -> CyclicLabelColormap:
    """Return label colours that stand out from a colour image: a purple line on purple is none.

    `pixels` are some of the image's colours, from 0 to 1, shape (N, 3). Of twelve bright hues,
    those are taken that are farthest from the pixels that are most like them, in CIELAB.
    """
    from skimage.color import rgb2lab

    hues = np.array([colorsys.hsv_to_rgb(i / _N_HUES, 1, 1) for i in range(_N_HUES)], np.float32)
    difference = np.linalg.norm(rgb2lab(hues)[:, None] - rgb2lab(pixels)[None], axis=2)
    apart = np.quantile(difference, _LIKE_IT, axis=1)
    best = hues[np.sort(np.argsort(-apart)[:_N_OUTLINES])]
    colors = np.ones((_N_OUTLINES + 1, 4), np.float32)
    colors[1:, :3] = best
    colors[0] = 0  # the background
    controls = np.linspace(0, 1, len(colors) + 1)
    return CyclicLabelColormap(colors=colors, controls=controls, interpolation="zero")


def colors_of_labels(number: int, class_colors: Sequence[str] | None) -> np.ndarray:
    """Return the colours that a preview gives labels 1 to `number`, from 0 to 1, (number, 3).

    `class_colors` are those of classes, as "#rrggbb"; other labels have those of `cyclic_colormap`.
    """
    colormap = cyclic_colormap() if class_colors is None else class_colormap(tuple(class_colors))
    return np.asarray(colormap.map(np.arange(1, number + 1)))[:, :3]
