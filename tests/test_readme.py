"""README and docs: nothing they point to in this repository is missing, and PyPI can show them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/napari-aeseg/napari-aeseg"
RAW = "https://raw.githubusercontent.com/napari-aeseg/napari-aeseg/main/"
PAGES = ["README.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


def links(page: str) -> list[tuple[bool, str]]:
    """Whether each link of a page is a picture, and where it goes; code is left out."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    # what stands in [![picture](a)](b) is found as well as the link around it
    return [(mark == "!", target) for mark, target in LINK.findall(text)]


def in_repository(page: str, target: str) -> tuple[Path, str] | None:
    """Return the file of this repository and the anchor that a link means; None for other links."""
    address, _, anchor = target.partition("#")
    for start in (RAW, f"{REPOSITORY}/blob/main/"):
        if address.startswith(start):
            return ROOT / address.removeprefix(start), anchor
    if re.match(r"[a-z]+:", address):
        return None
    return (ROOT / page).parent / address if address else ROOT / page, anchor


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
    return {h.strip().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_into_the_repository_lead_somewhere(page):
    ours = [found for _, target in links(page) if (found := in_repository(page, target))]
    missing = [str(path) for path, _ in ours if not path.is_file()]
    lost = [f"{p.name}#{a}" for p, a in ours if a and p.suffix == ".md" and a not in anchors(p)]
    assert not missing
    assert not lost


def test_the_readme_has_absolute_links_only():
    found = links("README.md")
    assert len(found) > 20
    assert [target for _, target in found if not target.startswith("https://")] == []


def test_pictures_of_the_readme_are_raw_files():
    pictures = [target for is_picture, target in links("README.md") if is_picture]
    assert len(pictures) >= 15
    assert [target for target in pictures if not target.startswith(RAW)] == []


def test_every_picture_is_shown_and_none_is_large():
    shown = {f[0].resolve() for p in PAGES for _, t in links(p) if (f := in_repository(p, t))}
    files = {path.resolve() for path in (ROOT / "docs" / "pictures").iterdir()}
    assert files - shown == set()
    assert max(path.stat().st_size for path in files if path.suffix == ".png") < 400_000
    assert sum(path.stat().st_size for path in files) < 4_000_000


def test_sections_are_headings_of_the_second_level():
    lines = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert re.findall(r"^#+", lines, flags=re.MULTILINE).count("#") == 1
    assert len(re.findall(r"^## ", lines, flags=re.MULTILINE)) >= 8


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]
    assert [a["name"] for a in cited["authors"]] == [a["name"] for a in project["authors"]]


def test_the_user_guide_names_every_parameter_and_preference():
    from napari_aeseg.params import PRESETS, SegmentationParams, TrainingParams

    text = (ROOT / "docs" / "user_guide.md").read_text("utf-8")
    elsewhere = {"Brightness - texture": "Texture"}  # its control has a shorter name
    fields = [*TrainingParams.model_fields.values(), *SegmentationParams.model_fields.values()]
    titles = [elsewhere.get(str(f.title), str(f.title)) for f in fields]
    assert [t for t in titles if f"**{t}**" not in text] == []
    assert [p.title for p in PRESETS.values() if f"*{p.title}*" not in text] == []
    manifest = yaml.safe_load((ROOT / "napari.yaml").read_text("utf-8"))
    pages = manifest["contributions"]["configurations"].values()
    preferences = [p["title"] for page in pages for p in page["properties"].values()]
    assert [p for p in preferences if f"| {p} |" not in text] == []


def test_the_user_guide_explains_every_column():
    import numpy as np

    import napari_aeseg as aeseg

    image = np.zeros((32, 32, 2), np.float32)
    image[:, 16:] = 1
    tree = aeseg.build_hierarchy(image, "base", axes="YXC", device="cpu")
    labels = tree.regions(n_regions=2)
    table = tree.table(labels, classes=labels, spacing=(2, 2), reconstruction_error=image[..., 0])
    text = (ROOT / "docs" / "user_guide.md").read_text("utf-8")
    assert [column for column in table if f"`{column}`" not in text] == []
