"""Errors, interruptions and wrong usage of all commands."""

import subprocess
import sys

import pytest

from cli.conftest import QUICK, names_in
from napari_aeseg import api as pipeline
from napari_aeseg.cli import COMMANDS, main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "{files}/lost.png", "--output={tmp}/m"], "no image file"),
        (["train", "{files}/broken.tif", "--output={tmp}/m"], "broken.tif is damaged or no image"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--axes=YXC"], "'YXC'"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--steps=0"], "TrainingParams.steps"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--width=wide"], "TrainingParams.width"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--device=cuda:99"], "'cuda:99'"),
        (["train", "{files}/grey.png", "--output={tmp}/m", "--init={files}/grey.png"], "grey.png"),
        (
            ["train", "{files}/grey.png", "{files}/rgb.tif", "--output={tmp}/m", *QUICK],
            "grey.png: shape (48, 40), uint8, 1 channel (YX)",
        ),
        (["segment", "{files}/grey.png", "--output={tmp}", "--model={tmp}/lost"], "no model file"),
        (
            ["segment", "{files}/rgb.tif", "--output={tmp}", "--model={model}", "--device=cpu"],
            "rgb.tif has 3 channel",
        ),
        (
            ["segment", "{files}/grey.png", "--output={tmp}", "--model={model}", "--max-size=9"],
            "--max-size is for objects",
        ),
        (
            ["segment", "{tmp}", "--output={tmp}", "--model={model}"],
            "There is no image (.zarr, .tif",
        ),
        (["segment", "{files}/broken.tif", "--output={tmp}"], "broken.tif is damaged or no image"),
        (
            ["segment", "{files}/grey.png", "--output={tmp}", "--model={model}", "--scale=low"],
            "ComparisonParams.scale",
        ),
        (
            ["segment", "{files}/grey.png", "--output={tmp}", "--model={model}", "--levels=0,9"],
            "[9] are not in this model",
        ),
        (
            ["segment", "{files}/grey.png", "--output={model}", "--model={model}"],
            "grey.aeseg",
        ),
        (["segment", "a.png", "--output={tmp}", "--regions=0"], "n_regions = 0: give a whole"),
        (["segment", "a.png", "--output={tmp}", "--classes=-1"], "n_classes = -1: give a whole"),
        (["segment", "a.png", "--output={tmp}", "--objects", "--min-size=0"], "min_size = 0: give"),
        (["segment", "a.png", "--output={tmp}", "--threshold=2"], "threshold = 2.0: give a number"),
        (["segment", "a.png", "--output={tmp}", "--threshold=nan"], "threshold = nan: give a"),
        (["info", "{files}/lost"], "There is no file"),
        (["info", "{files}/lost.zarr"], "There is no file"),
        (["info", "{files}/lost.safetensors"], "There is no model file"),
        (["info", "{files}"], "is a folder, not a model"),
        (["train", "{files}/grey.png", "--output={files}/grey.png/m"], "grey.png is no folder"),
        (
            ["segment", "{files}/grey.png", "--output={model}/a.zarr", "--model={model}"],
            "is no folder",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_error_is_printed_without_traceback(run, files, grey_model, tmp_path, arguments, words):
    places = {"files": files, "model": grey_model, "tmp": tmp_path}
    done = run(*(a.format(**places) for a in arguments))
    assert done.code == 1
    last = done.err[done.err.index("napari-aeseg: ") :]
    assert words in last
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("*labels*"))
    assert not list(tmp_path.glob("m*"))


CLI = """
import atexit, runpy, sys

def say():
    print(*sorted(m for m in sys.modules if m.startswith("napari_aeseg.cli.")))

atexit.register(say)
runpy.run_module("napari_aeseg.cli", run_name="__main__", alter_sys=True)
"""


def test_an_error_of_the_command_is_one_line_and_only_its_module_is_imported(tmp_path):
    command = [sys.executable, "-c", CLI, "info", tmp_path / "lost"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("napari-aeseg: There is no file")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.split() == ["napari_aeseg.cli.info", "napari_aeseg.cli.options"]


def test_interruption_is_not_an_error(run, files, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train_steps", interrupt)
    done = run("train", files / "grey.png", "--output", tmp_path / "m", *QUICK)
    assert done.code == 130
    assert "interrupted" in done.err
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["train"],
        ["train", "a.png"],
        ["train", "a.png", "--output=m", "--step=3", "--colour=red"],
        ["train", "a.png", "--output=m", "--preset=quick"],
        ["train", "a.png", "--output=m", "--init=m", "--resume=m"],
        ["segment", "a.png", "--output=o", "--regions=3", "--classes=2"],
        ["segment", "a.png", "--output=o", "--objects", "--classes=2"],
        ["segment", "a.png", "--output=o", "--regions=three"],
        ["segment", "a.png", "--output=o", "--threshold=half"],
        ["segment", "a.png", "--output=o", "--overwrite", "--skip-existing"],
        ["segment", "a.png", "--output=o", "--levels=1,x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_shown(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: napari-aeseg" in capsys.readouterr().err


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert name in text
        assert summary in " ".join(text.split())
