"""What may import what: the rules of the layout, held by reading every import of the package."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import napari_aeseg

ROOT = Path(napari_aeseg.__file__).parent
NAME = "napari_aeseg"
# Which parts of the package each part may import: data flow one way.
PARTS = [
    *("errors", "progress", "params", "prototypes", "samples"),
    *("images", "io", "autoencoder", "regions", "large"),
    *("api", "batch", "cli", "_napari"),
]
BASE = {"errors", "progress", "params", "prototypes"}
ALLOWED = {
    "errors": set(),
    "progress": {"errors"},
    "params": {"errors"},
    "prototypes": {"errors"},
    "samples": set(),
    "images": BASE,
    "io": BASE | {"images"},
    "autoencoder": BASE | {"images", "io"},
    "regions": BASE | {"images", "io"},
    "large": BASE | {"images", "io", "autoencoder", "regions"},
    "api": BASE | {"images", "io", "autoencoder", "regions", "large"},
    "batch": BASE | {"images", "io", "autoencoder", "regions", "large", "api"},
    "cli": (set(PARTS) | {"__init__"}) - {"_napari"},
    "_napari": (set(PARTS) | {"__init__"}) - {"cli", "large"},
    "__init__": set(),
}
TORCH = {"torch", "safetensors"}
WINDOW = {"napari", "qtpy", "magicgui", "superqt", "psygnal", "PyQt5", "PyQt6", "PySide6", "npe2"}
WINDOW |= {"pyqtgraph", "platformdirs"}
PUBLIC = {*napari_aeseg.__all__, "__version__"}
FILES = sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> list[tuple[str, int, bool]]:
    """Every imported module of a file: dotted name, line, and whether it is inside a function."""
    tree = parsed(path)
    lazy = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            names = [node.module]
            if node.module == NAME:
                # `from napari_aeseg import x`: a part of the package, or one of its public names.
                names = [
                    f"{NAME}.{'__init__' if alias.name in PUBLIC else alias.name}"
                    for alias in node.names
                ]
        else:
            continue
        found += [(name, node.lineno, node in lazy) for name in names]
    return found


def say(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def test_every_part_of_the_package_has_a_rule():
    assert {part_of(path) for path in FILES} == set(ALLOWED)


def test_imports_within_the_package_run_one_way():
    wrong = []
    for path in FILES:
        for name, line, lazy in imports_of(path):
            if not name.startswith(f"{NAME}."):
                continue
            part = part_of(path)
            target = name.split(".")[1]
            opens_window = part == "cli" and target == "_napari" and lazy
            if target != part and target not in ALLOWED[part] and not opens_window:
                wrong.append(say(path, line, f"{part} imports {target}"))
    assert not wrong


@pytest.mark.parametrize(
    ("libraries", "home"), [(TORCH, "autoencoder"), (WINDOW, "_napari")], ids=["torch", "window"]
)
def test_heavy_libraries_stay_in_their_part(libraries, home):
    wrong = [
        say(path, line, name)
        for path in FILES
        if part_of(path) != home
        for name, line, _ in imports_of(path)
        if name.split(".")[0] in libraries
    ]
    assert not wrong


def modules_imported_by(path: Path, names: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports anywhere, under TYPE_CHECKING too."""
    modules = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name if name in names else node.module for name in full}
    return {m for m in modules if m in names and names[m].name != "__init__.py"}


def test_no_modules_import_each_other_in_a_circle():
    names = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in FILES
    }
    imports = {name: modules_imported_by(path, names) - {name} for name, path in names.items()}

    def reachable(name: str) -> set[str]:
        seen: set[str] = set()
        pending = list(imports[name])
        while pending:
            module = pending.pop()
            if module not in seen:
                seen.add(module)
                pending += imports[module]
        return seen

    reached = {name: reachable(name) for name in imports}
    circles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in imports
        if name in reached[name]
    }
    assert [sorted(circle) for circle in circles] == []


LIGHT = ("params", "prototypes", "progress", "errors", "samples", "regions", "images", "io", "cli")


def test_importing_loads_neither_torch_nor_a_window():
    names = [
        f"{NAME}.{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}".removesuffix(".__init__")
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).with_suffix("").parts[0] in LIGHT and path.stem != "__main__"
    ]
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        "heavy = {'torch', 'qtpy', 'napari', 'magicgui', 'superqt', 'PyQt5', 'PyQt6', 'PySide6'}\n"
        "heavy |= {'zarr'}\n"
        "for name in sys.argv[1:]:\n"
        "    import_module(name)\n"
        "    assert not heavy & set(sys.modules), (name, heavy & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, NAME, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_public_names_are_those_of_the_design():
    assert set(napari_aeseg.__all__) == {
        "AesegError",
        "BatchReport",
        "BlockParams",
        "ComparisonParams",
        "Cut",
        "DeleteObject",
        "DeviceError",
        "Hierarchy",
        "HierarchyFileError",
        "InputError",
        "Merge",
        "MergeObjects",
        "Model",
        "ModelFileError",
        "Prototypes",
        "SegmentationParams",
        "Split",
        "SplitObject",
        "StoppedError",
        "TakeObject",
        "TrainingParams",
        "build_hierarchy",
        "image_files",
        "load_hierarchy",
        "load_model",
        "segment",
        "segment_files",
        "train",
        "write_labels",
    }
    assert napari_aeseg.__all__ == sorted(napari_aeseg.__all__)


def test_every_public_name_loads_and_is_listed():
    for name in [*napari_aeseg.__all__, "__version__"]:
        assert getattr(napari_aeseg, name) is not None
        assert name in dir(napari_aeseg)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"napari_aeseg.*trian"):
        _ = napari_aeseg.trian


def test_no_error_is_a_runtime_error():
    # superqt's generator workers swallow those: the window would wait for ever.
    from napari_aeseg import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, errors.AesegError) for kind in kinds)
    assert not any(issubclass(kind, RuntimeError) for kind in kinds)
    assert issubclass(errors.InputError, ValueError)
