"""Tables of Labels layers: colour a layer by a column of its features, export them."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap, ensure_colormap

from napari_aeseg._napari.layers.colors import class_color, label_colors, to_hex
from napari_aeseg._napari.layers.image_input import METADATA_KEY, unwrapped
from napari_aeseg.errors import InputError
from napari_aeseg.images.napari_layers import unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from napari.layers import Layer
    from napari.viewer import Viewer

LABEL = "label"
_STOPS = 5  # colours of the legend of numbers
_MOST_ROWS = 1_000_000  # of a layer's features; a table with a row for each label may be shorter


@dataclass(frozen=True)
class Legend:
    """What the colours of a column mean."""

    colors: tuple[str, ...]  # as "#rrggbb", of the words, or from the lowest number to the highest
    words: tuple[str, ...] = ()
    ends: tuple[str, str] | None = None  # of numbers; "≤" or "≥" where there are some beyond


def by_label(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose row i is that of label i, as napari's features table takes it.

    Rows of labels without pixels, such as 0, have an area of 0 and are otherwise empty.
    """
    rows = np.arange(int(table["index"].max()) + 1)
    if len(rows) > _MOST_ROWS:
        return table
    complete = table.set_index("index").reindex(rows)
    for name, kind in table.drop(columns="index").dtypes.items():
        if str(name).startswith("area"):
            complete[name] = complete[name].fillna(0).astype(kind)
        elif kind.kind not in "biuf":
            complete[name] = complete[name].fillna("")
    return complete.reset_index()


def with_pixels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of labels that have pixels."""
    return table[table["area"] > 0].reset_index(drop=True) if "area" in table else table


def columns_of(layer: Any) -> list[str] | None:
    """Return the columns of a Labels layer to colour by, None for other layers."""
    if not isinstance(layer, Labels) or "index" not in layer.features:
        return None
    return [str(name) for name in layer.features.columns if name != "index"]


def measured_layer(viewer: Viewer, in_sight: Sequence[Layer]) -> Labels | None:
    """Return the active layer if it has measurements, else the topmost that has; None if none.

    Layers on the image in sight come before others.
    """
    layers = [unwrapped(layer) for layer in reversed(viewer.layers)]
    layers.sort(key=lambda layer: layer not in in_sight)
    layers.insert(0, unwrapped(viewer.layers.selection.active))
    return next((layer for layer in layers if columns_of(layer) is not None), None)


def color_by(layer: Labels, column: str) -> Legend | None:
    """Colour labels by a column of their features, or by "label" as the preview does.

    Numbers are shown in viridis between their 1st and 99th percentile, words in colours of their
    own. Returned is what the colours mean; None for "label".
    """
    if column == LABEL:
        layer.colormap = label_colors()
        return None
    table = with_pixels(_table(layer))
    if column not in table:
        raise InputError(f"column = {column!r}: choose one of {', '.join(map(str, table))}.")
    colors, legend = _colors(table[column])
    colored = zip(table["index"].tolist(), colors, strict=True)
    layer.colormap = DirectLabelColormap(
        color_dict={None: "transparent", 0: "transparent", **dict(colored)}
    )
    return legend


def _colors(values: pd.Series) -> tuple[list[Any], Legend]:
    if values.dtype.kind not in "biuf":
        words = {word: class_color(i) for i, word in enumerate(sorted(set(values)), 1)}
        legend = Legend(tuple(words.values()), tuple(map(str, words)))
        return [words[word] for word in values], legend
    numbers = values.to_numpy(float)
    finite = numbers[np.isfinite(numbers)]
    low, high = 0.0, 1.0
    if finite.size:  # values that there are: of a few, the smallest and the largest
        low = np.percentile(finite, 1, method="lower")
        high = np.percentile(finite, 99, method="higher")
    share = np.clip((numbers - low) / (high - low or 1.0), 0, 1)
    colors = ensure_colormap("viridis").map(np.nan_to_num(share))
    colors[~np.isfinite(numbers)] = (0.5, 0.5, 0.5, 1)  # grey
    stops = ensure_colormap("viridis").map(np.linspace(0, 1, _STOPS))
    beyond = bool((finite < low).any()), bool((finite > high).any())
    texts = [f"{x:.4g}" if abs(x) < 1e4 else f"{x:.0f}" for x in (low, high)]
    ends = ("≤ " * beyond[0] + texts[0], "≥ " * beyond[1] + texts[1])
    legend = Legend(tuple(map(to_hex, stops)), ends=ends)
    return list(colors), legend


def export_table(
    layer: Labels, path: str | PathLike[str], table: pd.DataFrame | None = None
) -> None:
    """Write a table of a Labels layer, by default its features, as CSV; a file is replaced.

    The last column, "unit", is the unit of lengths.
    """
    _write(
        _table(layer) if table is None else table, _unit_of_table(layer.metadata, layer.units), path
    )


def _table(layer: Labels) -> pd.DataFrame:
    if columns_of(layer) is None:
        raise InputError(
            f"{layer.name} has no measurements: press Keep, and select the layer that it makes."
        )
    return layer.features


def write_table(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write the features of a Labels layer that napari saves as CSV (npe2 writer contribution)."""
    ((_, attributes, _),) = layers
    name, table = attributes.get("name", "The layer"), attributes.get("features")
    if Path(path).suffix.lower() != ".csv":
        raise InputError(
            f"{Path(path).name}: tables are written as .csv. To save the labels, choose a file "
            "type of napari for labels in the dialog."
        )
    if table is None or not len(table):
        raise InputError(
            f"{name} has no features to write as CSV. Save it as TIFF, or keep a segmentation with "
            "AE Segment, which measures every segment."
        )
    metadata = attributes.get("metadata") or {}
    _write(table, _unit_of_table(metadata, attributes.get("units") or ()), path)
    return [path]


def _unit_of_table(metadata: dict[str, Any], units: Any) -> str:
    """Return what lengths are in: as they were measured, if that is known, else as the layer is."""
    record = metadata.get(METADATA_KEY)
    return (record.get("unit") if isinstance(record, dict) else None) or unit_of(units)


def _write(table: pd.DataFrame, unit: str, path: str | PathLike[str]) -> None:
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r} to save in.")
    table = with_pixels(table)
    if "unit" not in table:
        table = table.assign(unit=unit)
    table.to_csv(Path(path), index=False)
