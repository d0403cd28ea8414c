"""Sample images as napari layers (npe2 sample data contributions)."""

from __future__ import annotations

from typing import Any

from napari_aeseg import samples

LayerData = tuple[Any, dict[str, Any], str]


def tissue() -> list[LayerData]:
    """Return stained tissue, RGB."""
    return _image("tissue")


def retina() -> list[LayerData]:
    """Return the ground of an eye, RGB."""
    return _image("retina")


def coins() -> list[LayerData]:
    """Return coins on an uneven ground, grey."""
    return _image("coins")


def textures() -> list[LayerData]:
    """Return a mosaic of brick, grass and gravel of equal mean grey."""
    return _image("textures")


def _image(name: str) -> list[LayerData]:
    return [(samples.SAMPLES[name](), {"name": name, "axis_labels": ("y", "x")}, "image")]
