"""What objects are looked for: their size, polarity and number."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from napari_aeseg.errors import InputError
from napari_aeseg.images.checks import check_share, is_number

Polarity = Literal["auto", "bright", "dark", "both"]
POLARITIES: tuple[Polarity, ...] = get_args(Polarity)


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """What objects are looked for; every default is chosen from the image.

    Parameters
    ----------
    diameter : float, optional
        Of a typical object, in pixels (along the axis of the smallest pixel side).
    min_size, max_size : int, optional
        Pixels of the smallest and of the largest object.
    polarity : {"auto", "bright", "dark", "both"}
        Objects that are brighter or darker than their surroundings, or both. "auto" takes those
        that look more like objects.
    sensitivity : float
        0 finds clear objects only, 1 all that may be objects.
    exclude_borders : bool
        Whether objects that touch the edge of the image are left out.
    channel : int, optional
        1, 2, ...: the channel in which objects are seen. By default, the mean of all channels, and
        in RGB brightness and stain.

    A value that is out of range raises InputError.

    Examples
    --------
    >>> ObjectSettings(diameter=12, polarity="dark").sensitivity
    0.5
    """

    diameter: float | None = None
    min_size: int | None = None
    max_size: int | None = None
    polarity: Polarity = "auto"
    sensitivity: float = 0.5
    exclude_borders: bool = False
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.diameter is not None and not (is_number(self.diameter) and self.diameter > 0):
            raise InputError(f"diameter = {self.diameter!r}: give a number of pixels above 0.")
        for name in ("min_size", "max_size", "channel"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value >= 1 and value % 1 == 0):
                unit = "" if name == "channel" else " of pixels"
                raise InputError(f"{name} = {value!r}: give a whole number{unit}, 1 or more.")
        if (self.min_size or 1) > (self.max_size or np.inf):
            raise InputError(
                f"min_size = {self.min_size} is larger than max_size = {self.max_size}: swap them."
            )
        if self.polarity not in POLARITIES:
            raise InputError(
                f"polarity = {self.polarity!r}: choose one of {', '.join(POLARITIES)}."
            )
        check_share("sensitivity", self.sensitivity)
        if not isinstance(self.exclude_borders, bool):
            raise InputError(f"exclude_borders = {self.exclude_borders!r}: give True or False.")
        plain = {"diameter": float, "min_size": int, "max_size": int, "sensitivity": float}
        plain["channel"] = int
        for name, kind in plain.items():  # numbers of numpy cannot be written to JSON
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else kind(value))

    @property
    def changed(self) -> dict[str, Any]:
        """The values that are not the defaults, by name."""
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    @property
    def if_none_found(self) -> str:
        """What the user is told, and advised, where no object was found."""
        if self.diameter is None:
            return "No objects stand out. Give a diameter, or raise the sensitivity."
        return (
            f"No objects of about {self.diameter:g} pixels stand out. Give another diameter, or "
            "raise the sensitivity."
        )
