"""Units of length: the one table for image files, layers and labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from fractions import Fraction

# Prefix of "meter", its symbol, and the power of ten.
_PREFIXES = (
    *(("yotta", "Y", 24), ("zetta", "Z", 21), ("exa", "E", 18), ("peta", "P", 15)),
    *(("tera", "T", 12), ("giga", "G", 9), ("mega", "M", 6), ("kilo", "k", 3), ("hecto", "h", 2)),
    *(("deca", "da", 1), ("", "", 0), ("deci", "d", -1), ("centi", "c", -2), ("milli", "m", -3)),
    *(("micro", "µ", -6), ("nano", "n", -9), ("pico", "p", -12), ("femto", "f", -15)),
    *(("atto", "a", -18), ("zepto", "z", -21), ("yocto", "y", -24)),
)
# Others: name, metres, symbol in OME-XML, plural.
_OTHERS = (
    ("angstrom", "1e-10", "Å", "angstroms"),
    ("inch", "0.0254", "in", "inches"),
    ("foot", "0.3048", "ft", "feet"),
    ("yard", "0.9144", "yd", "yards"),
    ("mile", "1609.344", "mi", "miles"),
    ("parsec", "3.0856775814913673e16", "pc", "parsecs"),
)
# As OME-Zarr names units. Fractions, because a micrometer is to be 1000 nanometers exactly.
_METRES: dict[str, Fraction] = {
    f"{prefix}meter": Fraction(10) ** power for prefix, _, power in _PREFIXES
}
_METRES |= {name: Fraction(metres) for name, metres, *_ in _OTHERS}
# As OME-XML writes them; case matters.
_SYMBOLS = {f"{prefix}meter": f"{symbol}m" for prefix, symbol, _ in _PREFIXES}
_SYMBOLS |= {name: symbol for name, _, symbol, _ in _OTHERS}


def _normal(text: str) -> str:
    """Text with one code for each character: there are two for µ, and two for Å."""
    return unicodedata.normalize("NFKC", text.strip())


_BY_SYMBOL = {_normal(symbol): name for name, symbol in _SYMBOLS.items()}
# ImageJ escapes µ, or writes u.
_BY_SYMBOL |= {"um": "micrometer", "\\u00B5m": "micrometer"}
_BY_NAME = {name: name for name in _METRES} | {plural: name for name, *_, plural in _OTHERS}
_BY_NAME |= {"micron": "micrometer", "microns": "micrometer", "ångström": "angstrom"}


def unit_name(text: object) -> str | None:
    """Return the full name of a unit of length; None if it is not one.

    Examples
    --------
    >>> [unit_name(text) for text in ("um", "Micron", "nm", "metres", "inch", "pixel")]
    ['micrometer', 'micrometer', 'nanometer', 'meter', 'inch', None]
    """
    normal = _normal(str(text))
    if normal in _BY_SYMBOL:
        return _BY_SYMBOL[normal]
    lower = normal.lower()
    american = lower.replace("metre", "meter")
    singular = american.removesuffix("s")
    return next((_BY_NAME[t] for t in (lower, american, singular) if t in _BY_NAME), None)


def unit_symbol(name: str) -> str:
    """Return the symbol of a full name, as OME-XML writes it.

    Examples
    --------
    >>> unit_symbol("micrometer"), unit_symbol("inch")
    ('µm', 'in')
    """
    return _SYMBOLS[name]


def in_one_unit(
    lengths: Mapping[str, tuple[float, object]],
) -> tuple[dict[str, float], str] | None:
    """Return lengths along axes in the unit of the last of them, and the name of that unit.

    The name is "" if none of them is a unit of length. None if some are and some are not.

    Examples
    --------
    >>> in_one_unit({"Z": (1.0, "µm"), "Y": (250.0, "nm")})
    ({'Z': 1000.0, 'Y': 250.0}, 'nanometer')
    """
    names = {axis: unit_name(unit) for axis, (_, unit) in lengths.items()}
    if not any(names.values()):
        same = len({str(unit) for _, unit in lengths.values()}) <= 1
        return ({axis: length for axis, (length, _) in lengths.items()}, "") if same else None
    if not all(names.values()):
        return None
    last = str(list(names.values())[-1])
    factor = {axis: float(_METRES[str(name)] / _METRES[last]) for axis, name in names.items()}
    return {axis: length * factor[axis] for axis, (length, _) in lengths.items()}, last
