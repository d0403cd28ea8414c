import pytest

from napari_aeseg.images.units import in_one_unit, unit_name, unit_symbol

MICRO, GREEK = "\u00b5", "\u03bc"  # the sign and the letter look alike


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(
            (t, "micrometer")
            for t in ("um", f"{MICRO}m", f"{GREEK}m", "\\u00B5m", "micron", "Microns")
        ),
        *((t, "nanometer") for t in ("nm", "nanometre", "Nanometers", " nm ")),
        *((t, "angstrom") for t in ("\u00c5", "\u212b", "Angstrom", "angstroms")),
        *((t, "inch") for t in ("in", "INCH", "inches")),
        *(("mm", "millimeter"), ("Mm", "megameter"), ("cm", "centimeter"), ("m", "meter")),
        *((t, None) for t in ("", "pixel", "furlong", "second", None)),
    ],
)
def test_spellings_of_a_unit_have_one_name(text, name):
    assert unit_name(text) == name


def test_symbols_are_spelled_as_in_ome_xml():
    names = ("micrometer", "angstrom", "inch", "decameter")
    assert [unit_symbol(n) for n in names] == [f"{MICRO}m", "\u00c5", "in", "dam"]


def test_lengths_are_brought_to_the_unit_of_the_last_axis_exactly():
    lengths = {"Z": (1.0, "micrometer"), "Y": (250.0, "nm"), "X": (250.0, "nanometer")}
    assert in_one_unit(lengths) == ({"Z": 1000.0, "Y": 250.0, "X": 250.0}, "nanometer")
    assert in_one_unit({"Y": (1.0, "inch"), "X": (0.3, "um")}) == (
        {"Y": 25400.0, "X": 0.3},
        "micrometer",
    )


def test_lengths_without_a_unit_stay_as_they_are_unless_others_have_one():
    assert in_one_unit({"Y": (2.0, ""), "X": (3.0, "")}) == ({"Y": 2.0, "X": 3.0}, "")
    assert in_one_unit({"Y": (2.0, ""), "X": (3.0, "nm")}) is None
    assert in_one_unit({}) == ({}, "")
