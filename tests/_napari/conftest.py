"""A model and a hierarchy made once, and a widget on a viewer without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

import napari_aeseg as aeseg
from napari_aeseg._napari.manifest.settings import Settings
from napari_aeseg._napari.work import jobs
from napari_aeseg._napari.work.worker import JobRunner

QUICK = aeseg.TrainingParams(steps=3, width=2, levels=2, batch_size=2, crop_size=16)


def halves(side: int = 48, seed: int = 0) -> np.ndarray:
    """A dark left half and a bright right half, with some noise: float32, shape (side, side)."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.05, (side, side))
    image[:, side // 2 :] += 1
    return image.astype(np.float32)


def discs() -> np.ndarray:
    """Bright discs of two sizes on dark ground: float32, shape (64, 64)."""
    image = np.random.default_rng(0).normal(0, 0.02, (64, 64))
    y, x = np.mgrid[:64, :64]
    for row, column, radius in [(14, 14, 9), (14, 46, 9), (46, 14, 9), (40, 40, 4), (54, 54, 4)]:
        image[(y - row) ** 2 + (x - column) ** 2 <= radius**2] += 1
    return image.astype(np.float32)


@pytest.fixture(scope="session", autouse=True)
def no_pauses():
    """Show a change without waiting for the next one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_aeseg._napari.layers.preview._MILLISECONDS_TO_UPDATE", 1)
        patch.setattr("napari_aeseg._napari.work.alternatives._MILLISECONDS_OF_REST", 40)
        patch.setattr("napari_aeseg._napari.work.answers._MILLISECONDS_OF_REST", 5)
        yield


@pytest.fixture(scope="session")
def trained():
    return aeseg.train(halves(), QUICK, device="cpu")


@pytest.fixture
def model(trained):
    """A trained model; classes that a test keeps with it are gone afterwards."""
    yield trained
    trained.prototypes = None


@pytest.fixture(scope="session")
def hierarchy(trained):
    return aeseg.build_hierarchy(halves(), trained, device="cpu")


@pytest.fixture(autouse=True)
def saved(tmp_path, monkeypatch):
    """The folder for models that save themselves: never that of whoever runs the tests."""
    folder = tmp_path / "saved"
    monkeypatch.setattr(
        "napari_aeseg._napari.controller.read_settings",
        lambda: Settings(autosave_folder=str(folder)),
    )
    return folder


@pytest.fixture
def runner(qtbot):
    """A job runner whose last worker has ended when the test has."""
    runner = JobRunner()
    yield runner
    runner.abandon()
    join_workers(qtbot)


@pytest.fixture
def widget(qtbot):
    """The dock widget on a viewer model with one image; no window is opened."""
    from napari_aeseg._napari.widget import AESegWidget

    viewer = ViewerModel()
    viewer.add_layer(Image(halves(), name="halves", scale=(2, 3)))
    widget = AESegWidget(viewer)
    qtbot.addWidget(widget.native)
    widget.viewer_model = viewer
    viewer.layers.events.inserted.connect(widget.reset_choices)
    viewer.layers.events.removed.connect(widget.reset_choices)
    widget.training_params = QUICK
    widget.device = "cpu"
    widget.refine = False  # labels do not change a moment later: see test_refinement.py
    yield widget
    widget.stop()
    widget._controller.close()
    join_workers(qtbot)


@pytest.fixture
def segmented(widget, model):
    """The widget with the preview of its image."""
    widget.model = model
    widget.segment()
    widget.wait(20)
    return widget


@pytest.fixture
def watched(widget, monkeypatch):
    """The widget, with a picture at every step."""
    monkeypatch.setattr(jobs, "_SECONDS_BETWEEN_PICTURES", 0)
    monkeypatch.setattr("napari_aeseg.autoencoder.training_loop._SECONDS_BETWEEN_EVENTS", 0)
    widget.watch = True
    widget.training_params = QUICK.updated(steps=4)
    return widget


def train_and_stop(widget, steps: int = 3, of: int = 40) -> None:
    """Train, and have it stopped after so many steps, whatever the machine's speed."""
    from napari_aeseg.autoencoder.trainer import Trainer

    widget.training_params = QUICK.updated(steps=of)
    step = Trainer.step

    def step_and_stop(trainer):
        step(trainer)
        if trainer.done == steps:
            widget._controller.queue.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step_and_stop)
        widget.train()
        widget.wait(30)
    assert widget.model.unfinished
    assert widget.model.record.steps == steps


def add_image(widget, data: np.ndarray, name: str, choose: bool = True, **more) -> Image:
    """Open another image; `choose` takes it instead of those before."""
    before, image = widget.images, Image(data, name=name, **more)
    widget.viewer_model.add_layer(image)
    widget.images = [image] if choose else before
    return image


def heard(widget, *names: str) -> list[tuple[str, object]]:
    """Record what the widget's signals tell from now on."""
    events = []
    for name in names or ("trained", "segmented", "stopped", "failed", "looked", "batch_done"):
        getattr(widget, name).connect(lambda value, name=name: events.append((name, value)))
    return events


def measured(layer):
    """The rows of a layer's features whose label has pixels."""
    return layer.features[layer.features["area"] > 0]


def join_workers(qtbot) -> None:
    """Wait for the threads, and have what they sent delivered."""
    from napari.qt.threading import WorkerBase

    WorkerBase.await_workers(10_000)
    qtbot.wait(1)
