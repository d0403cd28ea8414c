"""README and docs: their links lead somewhere, their pictures are seen, nothing is left out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md"),
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


def without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)


def links(page: str) -> list[tuple[bool, str]]:
    """Whether each link of a page is a picture, and where it goes."""
    text = re.sub(r"`[^`\n]*`", "", without_code(ROOT / page))
    # what stands in [![picture](a)](b) is found as well as the link around it
    return [(mark == "!", target) for mark, target in LINK.findall(text)]


def in_repository(page: str, target: str) -> tuple[Path, str] | None:
    """Return the file of this repository and the anchor that a link means; None for other links."""
    if re.match(r"[a-z]+:", target):
        return None
    address, _, anchor = target.partition("#")
    return (ROOT / page).parent / address if address else ROOT / page, anchor


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(path), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
    return {h.strip().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_into_the_repository_lead_somewhere(page):
    targets = [found for _, target in links(page) if (found := in_repository(page, target))]
    assert [str(path) for path, _ in targets if not path.is_file()] == []
    anchored = [(p, a) for p, a in targets if a and p.suffix == ".md"]
    assert [f"{p.name}#{a}" for p, a in anchored if a not in anchors(p)] == []


def test_links_of_the_readme_work_in_a_clone():
    targets = links("README.md")
    assert len(targets) > 20
    # A full address of this repository shows another version, or nothing before the first release.
    assert [t for _, t in targets if re.search(r"napari-aeseg/(blob|raw|main|tree)", t)] == []
    pictures = [target for is_picture, target in targets if is_picture]
    assert len(pictures) >= 11
    assert [target for target in pictures if not target.startswith("docs/pictures/")] == []


def test_the_first_screen_of_the_readme_has_a_picture_and_the_commands():
    first_screen = (ROOT / "README.md").read_text("utf-8")[:1000]
    for part in ("![", "pip install", "make demo", "make test"):
        assert part in first_screen


@pytest.mark.parametrize("page", PAGES)
def test_source_files_and_tests_named_in_the_docs_exist(page):
    text = without_code(ROOT / page)
    paths = re.findall(r"`((?:[\w.]+/)+[\w.]+\.py|(?:tests|soak|benchmarks)/[\w./]*)`", text)
    folders = (ROOT, ROOT / "src" / "napari_aeseg")
    assert [p for p in paths if not any((folder / p).exists() for folder in folders)] == []


def test_every_picture_is_shown_and_none_is_large():
    shown = {f[0].resolve() for p in PAGES for _, t in links(p) if (f := in_repository(p, t))}
    files = {path.resolve() for path in (ROOT / "docs" / "pictures").iterdir()}
    assert files - shown == set()
    assert max(path.stat().st_size for path in files if path.suffix == ".png") < 400_000
    assert sum(path.stat().st_size for path in files) < 4_000_000


def test_the_site_has_every_page_and_every_public_name():
    import napari_aeseg

    pages = re.findall(
        r"^ +- .*: (.+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE
    )
    assert {p.name for p in (ROOT / "docs").glob("*.md")} <= set(pages)
    names = re.findall(
        r"^::: napari_aeseg\.(\w+)$", (ROOT / "docs/api.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(names) == napari_aeseg.__all__


def test_sections_are_headings_of_the_second_level():
    lines = without_code(ROOT / "README.md")
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
    from napari_aeseg.params import PRESETS, ComparisonParams, SegmentationParams, TrainingParams

    text = (ROOT / "docs" / "user_guide.md").read_text("utf-8")
    kinds = (TrainingParams, SegmentationParams, ComparisonParams)
    titles = [str(field.title) for kind in kinds for field in kind.model_fields.values()]
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
