"""The wheel that users install: what is in it, what it asks for, and that napari finds it."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_aeseg"


def run(*command: str | Path, **kwargs) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **kwargs,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def files(wheel) -> dict[str, str]:
    """Path in the wheel, without the version of the dist-info folder, to text (if it is text)."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name.partition(".dist-info/")[2] or name: archive.read(name).decode(errors="replace")
            for name in archive.namelist()
        }


@pytest.fixture(scope="module")
def requirements(files) -> list[Requirement]:
    return [
        Requirement(line) for line in Parser().parsestr(files["METADATA"]).get_all("Requires-Dist")
    ]


def in_extra(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is not None and requirement.marker.evaluate({"extra": extra})


def test_the_wheel_holds_the_package_and_nothing_else(files):
    package = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = ("napari.yaml", "icon.svg", "py.typed", "base.aeseg.safetensors")
    assert {f"napari_aeseg/{name}" for name in shipped} <= package
    extra = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert set(files) == package | extra


def test_entry_points(files):
    assert "[napari.manifest]\nnapari-aeseg = napari_aeseg:napari.yaml" in files["entry_points.txt"]
    assert "[console_scripts]\nnapari-aeseg = napari_aeseg.cli:main" in files["entry_points.txt"]


def test_metadata_that_the_napari_hub_reads(files):
    metadata = Parser().parsestr(files["METADATA"])
    assert metadata["Name"] == "napari-aeseg"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: napari" in metadata.get_all("Classifier")
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_pypi_shows_the_pictures_and_follows_the_links_of_the_readme(files):
    readme = Parser().parsestr(files["METADATA"]).get_payload()
    text = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)
    targets = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
    assert [t for _, t in targets if not t.startswith("https://")] == []
    raw = "https://raw.githubusercontent.com/napari-aeseg/napari-aeseg/main/"
    pictures = [target for mark, target in targets if mark]
    assert len(pictures) >= 10
    assert all((ROOT / target.removeprefix(raw)).is_file() for target in pictures)
    blob = "https://github.com/napari-aeseg/napari-aeseg/blob/main/"
    pages = [t.removeprefix(blob).partition("#")[0] for _, t in targets if t.startswith(blob)]
    assert {"docs/user_guide.md", "CONTRIBUTING.md"} <= set(pages)
    assert all((ROOT / page).is_file() for page in pages)


def test_the_wheel_requires_neither_qt_nor_napari(requirements):
    # a second Qt binding, or napari[all] bringing one, breaks a napari that is installed already
    assert not [r for r in requirements if re.match(r"py(qt|side)\d", r.name.lower())]
    base = {r.name.lower() for r in requirements if in_extra(r, "") or r.marker is None}
    assert "napari" not in base
    complete = [r for r in requirements if r.name == "napari" and r.extras]
    assert complete
    assert all(in_extra(r, "all") and not in_extra(r, "napari") for r in complete)


def test_the_wheel_accepts_any_recent_torch(requirements):
    # an upper bound or an exact version would replace the user's CUDA build
    (torch,) = [r for r in requirements if r.name == "torch"]
    assert [clause.operator for clause in torch.specifier] == [">="]
    assert torch.marker is None


def test_napari_finds_it_when_installed(wheel, tmp_path):
    # An empty environment: what is found is the wheel, not the editable install of the tests.
    target, environment = tmp_path / "installed", tmp_path / "environment"
    run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel
    )
    venv.create(environment, symlinks=os.name != "nt")
    python = next(environment.glob("Scripts/python.exe"), environment / "bin" / "python")
    found = run(
        python,
        "-c",
        "import napari_aeseg, npe2\n"
        "manager = npe2.PluginManager()\n"
        "manager.discover()\n"
        "manifest = manager.get_manifest('napari-aeseg')\n"
        "manifest.validate_imports()\n"
        "print(napari_aeseg.__file__, manifest.package_version, manifest.display_name, sep='\\n')",
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(target), sysconfig.get_path("purelib")]),
        },
    )
    file, version, name = found.splitlines()[-3:]
    assert Path(file).is_relative_to(target)
    assert version == wheel.name.split("-")[1]
    assert name == "AE Segment"
