"""Numbers that are shown, written and kept are the real ones."""

import numpy as np
import pytest

import napari_aeseg as aeseg
from napari_aeseg.autoencoder import trainer, training_loop
from napari_aeseg.autoencoder.crops import CropSampler
from napari_aeseg.autoencoder.network import Autoencoder
from napari_aeseg.progress import Clock


def test_loss_of_an_event_is_the_mean_squared_error_of_the_clean_crops(
    monkeypatch, stripes, tiny_params
):
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 0)
    draw, forward, clean, made, events = CropSampler.draw, Autoencoder.forward, [], [], []

    def drawn(*arguments):
        clean.append(draw(*arguments))
        return clean[-1]

    def rebuilt(*arguments):
        made.append(forward(*arguments))
        return made[-1]

    monkeypatch.setattr(CropSampler, "draw", drawn)
    monkeypatch.setattr(Autoencoder, "forward", rebuilt)
    model = aeseg.train(stripes, tiny_params, device="cpu", progress=events.append)
    steps = [event for event in events if event.stage == "train"]
    assert len(steps) == len(clean) == len(made) == tiny_params.steps
    expected = [
        np.mean((m.detach().double().numpy() - c.numpy()) ** 2)
        for m, c in zip(made, clean, strict=True)
    ]
    assert [event.loss for event in steps] == pytest.approx(expected, rel=1e-5)
    assert list(model.losses) == [event.loss for event in steps]


def test_device_and_precision_of_the_record_are_those_of_the_work(
    tmp_path, monkeypatch, stripes, tiny_params
):
    from napari_aeseg.autoencoder.training_loop import training_steps
    from napari_aeseg.images.intensity import read_image
    from napari_aeseg.progress import drain

    events, step, seen = [], trainer._optimise, set()

    def watched(network, optimizer, clean, noisy):
        seen.add((str(clean.device), "float32"))
        return step(network, optimizer, clean, noisy)

    monkeypatch.setattr(trainer, "_optimise", watched)
    work = trainer.Trainer([read_image(stripes)], tiny_params, "cpu")
    drain(training_steps(work), events.append).save(tmp_path / "a.aeseg.safetensors")
    record = aeseg.load_model(tmp_path / "a.aeseg.safetensors").record
    assert seen == {("cpu", "float32")} == {(record.device, record.precision)}
    assert {(e.device, e.precision) for e in events} == seen


def test_time_left_is_never_negative_and_comes_true(monkeypatch):
    now = [50.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock, rng = Clock(total=400), np.random.default_rng(0)
    ends = 50 + np.cumsum(rng.uniform(0.5, 1.5, 400))
    off = []
    for done, end in enumerate(ends, 1):
        now[0] = float(end)
        left = clock.seconds_left(done)
        assert left >= 0
        off.append(abs(end + left - ends[-1]))
    assert left == 0
    assert clock.seconds_left(401) == 0
    assert max(off[200:]) < 20 < ends[-1] - 50
    assert max(off[380:]) < max(off[:40])


SIZE = {"Z": 2.0, "Y": 0.5, "X": 0.25}


@pytest.mark.parametrize("whole", [True, False], ids=["of patches", "of pixels"])
@pytest.mark.parametrize("axes", ["ZYX", "XYZ", "YXZ"])
def test_table_of_anisotropic_voxels_is_that_of_counting(make_model, axes, whole):
    """Counted voxel by voxel, in the order of the image's own axes."""
    shape = tuple({"Z": 6, "Y": 20, "X": 24}[axis] for axis in axes)
    image = np.random.default_rng(0).random(shape)
    size = tuple(SIZE[axis] for axis in axes)
    tree = aeseg.build_hierarchy(image, make_model(), axes=axes, device="cpu", voxel_size=size)
    labels = tree.regions(4, refine=False)
    if not whole:
        labels[:2, :3, :4] = 0
        labels[2:4, 5:9, 1:3] = 9
    table = tree.table(labels)
    assert table["index"].tolist() == sorted(set(np.unique(labels)) - {0})
    assert table.attrs["unit"] == tree.axes.unit
    for row in table.rename(columns={"index": "label"}).itertuples():
        voxels = np.argwhere(labels == row.label)
        assert row.area_pixels == len(voxels)
        assert row.area == pytest.approx(len(voxels) * 0.25)
        for i, axis in enumerate(axes):
            centre = np.mean([voxel[i] for voxel in voxels]) * SIZE[axis]
            assert getattr(row, f"centroid_{axis.lower()}") == pytest.approx(centre)
        if whole:
            assert row.mean_1 == pytest.approx(image[labels == row.label].mean())
