import threading

import numpy as np
import pytest
import torch

import napari_aeseg as aeseg
from napari_aeseg.autoencoder import preview, trainer, training_loop
from napari_aeseg.autoencoder.trainer import Trainer
from napari_aeseg.autoencoder.training_loop import training_steps
from napari_aeseg.errors import InputError
from napari_aeseg.images.intensity import read_image
from napari_aeseg.progress import drain


@pytest.fixture
def every_step(monkeypatch):
    """Let every step be an event."""
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 0)


def train(images, params=None, **options):
    return aeseg.train(images, params, device="cpu", **options)


def stopped(images, params, after, **options):
    """Train, and stop after so many steps."""
    stop = threading.Event()

    def progress(event):
        if event.stage == "train" and event.done == after:
            stop.set()

    return train(images, params, stop=stop, progress=progress, **options)


def saved_and_loaded(model, folder):
    path = folder / "unfinished.aeseg.safetensors"
    model.save(path)
    return aeseg.load_model(path)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def same(first, second):
    return first.losses == second.losses and torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("after", [1, 5, 11])
@pytest.mark.parametrize("decoder", ["transposed", "unpooling"])
def test_resumed_training_is_that_of_one_that_never_stopped(
    every_step, stripes, tiny_params, tmp_path, after, decoder
):
    params = tiny_params.updated(steps=12, decoder=decoder, learning_rate=0.02)
    images = [stripes, stripes[:30]]
    whole = train(images, params)
    part = stopped(images, params, after)
    assert part.record.steps == after
    further = train(images, init=saved_and_loaded(part, tmp_path), resume=True)
    assert same(further, whole)
    assert further.record.params == whole.record.params
    assert further.record.images == whole.record.images
    assert further.record.notes == (
        f"Stopped after {after} of 12 steps.",
        f"Resumed after {after} steps.",
    )
    assert further.record.seconds > part.record.seconds


def test_several_stops_change_nothing(every_step, stripes, tiny_params, tmp_path):
    params = tiny_params.updated(steps=9)
    model = stopped(stripes, params, 2)
    for after in (4, 7):
        model = saved_and_loaded(model, tmp_path)
        model = stopped(stripes, params, after, init=model, resume=True)
        assert model.record.steps == after
    assert same(train(stripes, init=model, resume=True), train(stripes, params))


def test_resumes_from_a_path_with_colours_and_calibrated_intensities(
    every_step, stripes, tiny_params, tmp_path
):
    params = tiny_params.updated(normalisation="training")
    images = [np.stack([stripes, stripes[::-1]]), np.stack([stripes * 2, stripes], axis=0)]
    stopped(images, params, 3, axes="CYX").save(tmp_path / "m.aeseg.safetensors")
    further = train(images, init=tmp_path / "m.aeseg.safetensors", resume=True)
    whole = train(images, params, axes="CYX")
    assert same(further, whole)
    assert further.intensity == whole.intensity


def test_training_that_began_with_weights_can_be_resumed(every_step, stripes, tiny_params, model):
    params = tiny_params.updated(steps=9)
    whole = train(stripes, params, init=model)
    part = stopped(stripes, params, 4, init=model)
    assert same(train(stripes, init=part, resume=True), whole)


def test_smaller_batches_stay_small(every_step, monkeypatch, stripes, tiny_params, tmp_path):
    step = trainer._optimise

    def with_little_memory(network, optimizer, clean, noisy):
        if len(clean) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(network, optimizer, clean, noisy)

    monkeypatch.setattr(trainer, "_optimise", with_little_memory)
    whole = train(stripes, tiny_params)
    part = saved_and_loaded(stopped(stripes, tiny_params, 3), tmp_path)
    monkeypatch.setattr(trainer, "_optimise", step)
    further = train(stripes, init=part, resume=True)
    assert same(further, whole)
    assert "batches of 2" in further.record.notes[0]


def test_resuming_leaves_the_model_unchanged(every_step, stripes, tiny_params):
    part = stopped(stripes, tiny_params, 3)
    before, moments = weights(part).clone(), part.checkpoint.moments
    copies = {k: v.clone() for k, v in moments.items()}
    first, second = (train(stripes, init=part, resume=True) for _ in range(2))
    assert same(first, second)
    assert torch.equal(weights(part), before)
    assert all(torch.equal(moments[k], v) for k, v in copies.items())


def test_only_an_unfinished_model_says_so(every_step, stripes, tiny_params, tmp_path):
    whole, part = train(stripes, tiny_params), stopped(stripes, tiny_params, 3)
    assert whole.checkpoint is None
    for model in (whole, saved_and_loaded(whole, tmp_path)):
        assert not model.unfinished
        assert "unfinished" not in repr(model)
    for model in (part, saved_and_loaded(part, tmp_path)):
        assert model.unfinished
        assert "3 steps, unfinished)" in repr(model)


def test_stop_before_the_first_resumed_step_leaves_the_model_unchanged(
    every_step, stripes, tiny_params
):
    part = stopped(stripes, tiny_params, 3)
    stop = threading.Event()
    stop.set()
    work = training_steps(
        Trainer([read_image(stripes)], tiny_params, "cpu", part, resume=True), stop
    )
    again = drain(work)
    assert same(again, part)
    assert same(train(stripes, init=again, resume=True), train(stripes, tiny_params))


# -- what cannot be resumed


def test_finished_training_has_nothing_to_resume(stripes, model):
    with pytest.raises(InputError, match=r"ended after 6 steps\. To start a new"):
        train(stripes, init=model, resume=True)


def test_resume_needs_a_model(stripes):
    with pytest.raises(InputError, match="give the unfinished model as init"):
        train(stripes, resume=True)


def test_other_params_are_named(every_step, stripes, tiny_params):
    part = stopped(stripes, tiny_params, 3)
    other = tiny_params.updated(steps=50, noise=0.2)
    with pytest.raises(InputError, match=r"differing: steps = 50, not 6, noise = 0\.2, not 0\.1\."):
        train(stripes, other, init=part, resume=True)
    assert same(train(stripes, tiny_params, init=part, resume=True), train(stripes, tiny_params))


@pytest.mark.parametrize(
    ("change", "axes", "words"),
    [
        (lambda i: [i, i], None, r"had 1 image\(s\), not 2"),
        (
            lambda i: i[:-1],
            None,
            r"image 1 has shape \(47, 40\), but .* of shape \(48, 40\) \(YX\)",
        ),
        (lambda i: np.stack([i] * 3, axis=-1), None, r"has shape \(48, 40, 3\), but"),
        (lambda i: i, "XY", r"shape \(48, 40\) \(XY\), but"),
    ],
    ids=["number", "shape", "channels", "axes"],
)
def test_other_images_are_named(every_step, stripes, tiny_params, change, axes, words):
    part = stopped(stripes, tiny_params, 3)
    with pytest.raises(InputError, match=words):
        train(change(stripes), init=part, resume=True, axes=axes)


# -- snapshots and previews


def test_snapshots_are_models_that_can_be_resumed(every_step, stripes, tiny_params, tmp_path):
    events = []
    whole = train(stripes, tiny_params, progress=events.append, snapshot_seconds=0)
    events = [e for e in events if e.stage == "train"]
    assert [e.snapshot is not None for e in events] == [True] * 5 + [False]
    for event in events[:-1]:
        snapshot = event.snapshot
        assert snapshot.record.steps == event.done
        assert snapshot.losses == whole.losses[: event.done]
        assert not torch.equal(weights(snapshot), weights(whole))  # a copy, not the network itself
        further = train(stripes, init=saved_and_loaded(snapshot, tmp_path), resume=True)
        assert same(further, whole)


def test_snapshots_and_previews_do_not_change_the_training(every_step, stripes, tiny_params):
    state = torch.random.get_rng_state()
    watched = train(stripes, tiny_params, snapshot_seconds=0, preview_seconds=0)
    assert same(watched, train(stripes, tiny_params))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_previews_are_reconstructions_of_the_first_image(every_step, stripes, tiny_params):
    events = []
    params = tiny_params.updated(steps=4)
    images = [stripes, stripes[:20]]
    model = train(images, params, progress=events.append, snapshot_seconds=0, preview_seconds=0)
    events = [e for e in events if e.stage == "train"]
    models = [e.snapshot or model for e in events]
    for event, then in zip(events, models, strict=True):
        expected = then.reconstruct(stripes, device="cpu")
        np.testing.assert_allclose(event.preview.pixels, expected, rtol=1e-4)


def test_snapshots_and_previews_come_only_when_asked_for_and_due(every_step, stripes, tiny_params):
    for options in ({}, {"snapshot_seconds": 1000, "preview_seconds": 1000}):
        events = []
        train(stripes, tiny_params, progress=events.append, **options)
        events = [e for e in events if e.stage == "train"]
        assert all(e.snapshot is None for e in events)
        assert all(e.preview is None for e in events[:-1])
        # The last picture shows what the model has come to.
        assert (events[-1].preview is not None) == bool(options)


@pytest.mark.parametrize("name", ["snapshot_seconds", "preview_seconds"])
@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_impossible_times_are_refused(stripes, tiny_params, name, seconds):
    with pytest.raises(InputError, match=f"Every {seconds} seconds: give a number of 0 or more"):
        train(stripes, tiny_params, **{name: seconds})


def test_no_memory_for_previews_does_not_end_the_training(
    every_step, monkeypatch, stripes, tiny_params
):
    def without_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(preview.TrainingPreviewer, "preview", without_memory)
    events = []
    model = train(stripes, tiny_params, progress=events.append, preview_seconds=0)
    assert model.record.steps == tiny_params.steps
    said = [e.message for e in events if e.message]
    assert said == ["cpu has no memory for previews. Training continues without previews."]
