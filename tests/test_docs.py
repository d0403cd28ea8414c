"""Code of the README and the docs runs; their commands exist."""

import inspect
import re
import shlex
from pathlib import Path

import pytest

from napari_aeseg import api as pipeline
from napari_aeseg import samples
from napari_aeseg.cli import parse

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTING = (ROOT / "docs" / "scripting.md").read_text(encoding="utf-8")
LARGE = (ROOT / "docs" / "large_images.md").read_text(encoding="utf-8")
BOUNDARY = "\n## Through the widget\n"
SIDES = {"script": 208, "widget": 320}  # of samples: as far as the pages name pixels
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text, language):
    """Return the code blocks of a language, with empty lines before them for tracebacks."""
    return [
        "\n" * (text[: match.start()].count("\n") + 1) + match[2]
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def run(codes, page, **names):
    """Run blocks one after the other, as if they were one script."""
    assert codes
    for code in codes:
        exec(compile(code, page, "exec"), names)
    return names


@pytest.fixture
def quick(request, monkeypatch, tmp_path):
    """Let trainings take four steps of a small network, samples be small; files go to a folder."""
    train_steps = pipeline.train_steps

    def quick_steps(images, params=None, *arguments, **options):
        if not options.get("resume"):
            small = {} if options.get("init") else {"width": 4, "convolutions": 1}
            params = params or pipeline.TrainingParams()
            params = params.updated(steps=4, batch_size=2, **small)
        return train_steps(images, params, *arguments, **options)

    side = SIDES["widget" if "widget" in request.node.name else "script"]
    small = {name: lambda of=of: of()[:side, :side] for name, of in samples.SAMPLES.items()}
    tissue = samples.tissue()[:side, :side]
    monkeypatch.setattr("skimage.data.immunohistochemistry", lambda: tissue)
    monkeypatch.setattr(samples, "SAMPLES", small)
    monkeypatch.setattr(pipeline, "train_steps", quick_steps)
    monkeypatch.setattr("napari_aeseg.autoencoder.training_loop._SECONDS_BETWEEN_EVENTS", 0)
    monkeypatch.chdir(tmp_path)


def test_code_of_the_readme_runs(quick):
    names = run(blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python"), "README.md")
    assert names["labels"].max() == 12
    assert Path("tissue.aeseg.safetensors").exists()


def test_code_without_a_window_runs(quick, capsys):
    headless, _ = SCRIPTING.split(BOUNDARY)
    names = run(blocks(headless, "python"), "scripting.md")
    assert names["part"].unfinished
    assert not names["model"].unfinished
    assert names["report"].summary == "2 files: 2 done"
    assert names["table"].attrs["unit"] == "micrometre"
    assert "('ground', 'coin')" in capsys.readouterr().out


@pytest.mark.viewer
def test_code_through_the_widget_runs(quick, monkeypatch, make_napari_viewer, qtbot):
    import napari
    from napari.qt.threading import WorkerBase

    # Where models save themselves.
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: Path.cwd() / "saved")
    monkeypatch.setattr(napari, "Viewer", make_napari_viewer)
    _, through_the_widget = SCRIPTING.split(BOUNDARY)
    names = run(blocks(through_the_widget, "python"), "scripting.md")
    widget = names["widget"]
    assert widget.model.prototypes.names == ("gland", "edge", "stroma")
    assert names["kept"].features["area"].sum() == SIDES["widget"] ** 2
    assert Path("tissue.csv").exists()
    # As it was trained, and with its classes for the script.
    assert len(list(Path("saved").glob("*.aeseg.safetensors"))) == 2
    compile(Path("again.py").read_text(encoding="utf-8"), "again.py", "exec")
    names["viewer"].close()
    WorkerBase.await_workers(10_000)
    qtbot.wait(10)


def test_code_about_large_images_runs(monkeypatch, tmp_path):
    import distributed
    import zarr

    from napari_aeseg.samples import tissue

    monkeypatch.chdir(tmp_path)
    zarr.create_array("slide.zarr", data=tissue()[:400, :300])

    # Workers as threads: processes are tested elsewhere, and take seconds to start.
    class InThreads(distributed.Client):
        def __init__(self, **options):
            super().__init__(processes=False, dashboard_address=":0", **options)

    monkeypatch.setattr(distributed, "Client", InThreads)
    codes = blocks(LARGE, "python")
    here = [code for code in codes if "dask_" not in code]
    assert len(codes) - len(here) == 2  # SLURM and GPUs
    for code in codes:
        compile(code, "large_images.md", "exec")
    names = run(here, "large_images.md", __name__="__main__")
    assert names["part"].shape == (200, 200)
    assert zarr.open_array("labels.zarr")[:].max() == 12
    assert len(list(Path("on-cluster", "blocks").iterdir())) == 1
    assert names["labels"].max().compute() == len(names["table"]) == 12
    assert Path("labels.ome.zarr", "zarr.json").exists()


def public_names(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


def test_every_name_of_the_widget_is_in_a_table():
    from napari_aeseg._napari import widget

    known = public_names(widget.AESegWidget)
    _, text = SCRIPTING.split(BOUNDARY)
    cells = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    listed = set(re.findall(r"`(\w+)", cells))
    assert known == listed
    for name in re.findall(r"`(\w+)\(", cells):
        assert inspect.isfunction(inspect.getattr_static(widget.AESegWidget, name)), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_code_fences_are_paired(page):
    text = page.read_text(encoding="utf-8")
    marks = re.findall(r"^```\w*$", text, re.MULTILINE)
    assert [mark == "```" for mark in marks] == [False, True] * (len(marks) // 2)


def commands():
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), "sh"):
            lines = (line.partition("#")[0].strip() for line in block.splitlines())
            yield from (line for line in lines if line.startswith("napari-aeseg "))


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_in_the_docs_are_valid(command):
    parse(shlex.split(command)[1:])
