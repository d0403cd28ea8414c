"""Image files, models and the command line itself, for the tests of all commands."""

import signal
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile

from napari_aeseg import api as pipeline
from napari_aeseg import batch as batch_job
from napari_aeseg.cli import main

# A training that takes a blink, as options.
QUICK = ["--levels=2", "--width=4", "--convolutions=1", "--crop-size=16", "--batch-size=4"]


QUICK += ["--steps=3", "--device=cpu"]


SMALL = ["--patch-size=4", "--device=cpu"]


@pytest.fixture(scope="module")
def files(tmp_path_factory, stripes):
    """Image files: grey, RGB, and one with two channels."""
    folder = tmp_path_factory.mktemp("images")
    rgb = np.stack([stripes, stripes[::-1], stripes[:, ::-1]], axis=-1)
    two = np.stack([stripes, stripes[::-1]]).astype(np.uint16)
    imageio.imwrite(folder / "grey.png", stripes)
    tifffile.imwrite(folder / "rgb.tif", rgb, photometric="rgb")
    tifffile.imwrite(folder / "two.ome.tif", two, metadata={"axes": "CYX"})
    (folder / "broken.tif").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def grey_model(tmp_path_factory, files):
    path = tmp_path_factory.mktemp("models") / "grey.aeseg.safetensors"
    assert main(["train", str(files / "grey.png"), f"--output={path}", *QUICK]) == 0
    return path


@pytest.fixture
def run(capsys):
    """Return a function that runs a command line: exit code, stdout, stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def quick_training(monkeypatch, tiny_params):
    """Let every training take a blink, whatever is asked for; the list of what was."""
    train_steps, asked = pipeline.train_steps, []

    def quick(images, params, *arguments, **options):
        asked.append(params)
        return train_steps(images, tiny_params, *arguments, **options)

    monkeypatch.setattr(pipeline, "train_steps", quick)
    return asked


@pytest.fixture
def no_work(monkeypatch):
    """Fail the test when anything is trained or encoded."""

    def work(*_, **__):
        raise AssertionError("work was begun")

    monkeypatch.setattr(pipeline, "train_steps", work)
    monkeypatch.setattr(batch_job, "hierarchy_steps", work)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def at_step(monkeypatch):
    """Return a function that lets something happen in a step of the training."""

    def at_step(number, happens):
        from napari_aeseg.autoencoder import trainer

        step, taken = trainer._optimise, []

        def step_and_more(*arguments):
            taken.append(1)
            if len(taken) == number:
                happens()
            return step(*arguments)

        monkeypatch.setattr(trainer, "_optimise", step_and_more)

    return at_step


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def unfinished(run, files, tmp_path, at_step):
    """A model whose training was interrupted in the second of three steps."""
    path = tmp_path / "half.aeseg.safetensors"
    at_step(2, interrupt)
    done = run("train", files / "grey.png", "--output", path, *QUICK)
    return SimpleNamespace(path=path, done=done)


@pytest.fixture
def three(tmp_path, stripes):
    """A folder of three grey images, the second of them damaged."""
    folder = tmp_path / "scans"
    folder.mkdir()
    imageio.imwrite(folder / "a.png", stripes)
    (folder / "b.tif").write_bytes(b"no image")
    imageio.imwrite(folder / "c.png", stripes[:, ::-1])
    return folder


def labels_in(folder):
    return [name for name in names_in(folder) if name.endswith("_labels.tif")]


@pytest.fixture(scope="module")
def tree_file(tmp_path_factory, files, grey_model):
    """A hierarchy that `segment` wrote, and its labels of five regions."""
    folder = tmp_path_factory.mktemp("trees")
    given = ["segment", files / "grey.png", "--model", grey_model, "--output", folder]
    given += ["--save-hierarchy", "--table", "--regions", "5", *SMALL]
    assert main([str(a) for a in given]) == 0
    return folder / "grey.aeseg.zarr"
