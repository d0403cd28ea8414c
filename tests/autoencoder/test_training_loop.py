import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from napari_aeseg.autoencoder import trainer, training_loop
from napari_aeseg.autoencoder.trainer import Trainer
from napari_aeseg.autoencoder.training_loop import training_steps
from napari_aeseg.errors import DeviceError, InputError, StoppedError
from napari_aeseg.images.intensity import read_image
from napari_aeseg.params import TrainingParams
from napari_aeseg.progress import drain


def trained(images, params, progress=None, stop=None, **options):
    images = [read_image(image, name=f"image {i}") for i, image in enumerate(images, 1)]
    return drain(training_steps(Trainer(images, params, "cpu", **options), stop), progress)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


@pytest.mark.parametrize("decoder", ["transposed", "unpooling"])
def test_training_lowers_the_loss(stripes, tiny_params, decoder):
    params = tiny_params.updated(steps=60, decoder=decoder, learning_rate=0.02)
    losses = trained([stripes], params).losses
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_same_seed_same_model_bit_for_bit(stripes, tiny_params):
    first, second = (trained([stripes], tiny_params) for _ in range(2))
    assert torch.equal(weights(first), weights(second))
    assert first.losses == second.losses
    assert first.fingerprint == second.fingerprint


def test_the_seed_is_the_only_source_of_chance(stripes, tiny_params):
    first = trained([stripes], tiny_params)
    np.random.default_rng(1)
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    assert torch.equal(weights(trained([stripes], tiny_params)), weights(first))
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's is touched


def test_trainings_in_threads_at_once_are_those_of_one_after_the_other(stripes, tiny_params):
    params = [tiny_params.updated(seed=seed, steps=20) for seed in range(3)]
    expected = [trained([stripes], p).fingerprint for p in params]
    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(lambda p: trained([stripes], p), params))
    assert [model.fingerprint for model in models] == expected


def test_other_seed_other_model(stripes, tiny_params):
    first, second = (trained([stripes], tiny_params.updated(seed=s)) for s in (0, 1))
    assert not torch.equal(weights(first), weights(second))


def test_network_is_built_as_the_params_say(stripes):
    params = TrainingParams(
        levels=1, width=3, convolutions=3, decoder="unpooling", crop_size=16, steps=1, batch_size=1
    )
    architecture = trained([stripes], params).architecture
    assert architecture.as_dict() == {
        "channels": 1,
        "levels": 1,
        "width": 3,
        "convolutions": 3,
        "decoder": "unpooling",
    }


def test_record_says_what_happened(stripes, tiny_params):
    record = trained([stripes, stripes[:30]], tiny_params).record
    assert record.params == tiny_params.model_dump()
    assert record.steps == len(record.losses) == tiny_params.steps
    assert record.device == "cpu"
    assert record.seconds > 0
    assert record.notes == ()
    assert record.images == (
        {"name": "image 1", "shape": [48, 40], "axes": "YX"},
        {"name": "image 2", "shape": [30, 40], "axes": "YX"},
    )


def test_events_carry_every_loss_once_and_end_at_the_last_step(monkeypatch, stripes, tiny_params):
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 0)
    events = []
    model = trained([stripes], tiny_params, progress=events.append)
    assert [e.done for e in events] == list(range(1, tiny_params.steps + 1))
    assert {(e.stage, e.total, e.device) for e in events} == {("train", tiny_params.steps, "cpu")}
    assert tuple(loss for e in events for loss in e.losses) == model.losses
    assert all(e.loss == e.losses[-1] for e in events)
    assert events[-1].seconds_left == 0


def test_events_are_rare_enough_for_a_window(monkeypatch, stripes, tiny_params):
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 1000)
    events = []
    model = trained([stripes], tiny_params, progress=events.append)
    assert len(events) == 1
    assert events[0].losses == model.losses


def test_stop_keeps_the_steps_so_far(monkeypatch, stripes, tiny_params):
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 0)
    stop = threading.Event()
    model = trained(
        [stripes],
        tiny_params.updated(steps=1000),
        stop=stop,
        progress=lambda event: event.done == 3 and stop.set(),
    )
    assert model.record.steps == len(model.losses) == 3
    assert model.record.notes == ("Stopped after 3 of 1000 steps.",)
    assert not torch.equal(
        weights(model), weights(trained([stripes], tiny_params.updated(steps=1)))
    )


def test_stop_before_the_first_step_leaves_no_model(stripes, tiny_params):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        trained([stripes], tiny_params, stop=stop)


def test_training_goes_on_from_a_model(stripes, tiny_params):
    params = tiny_params.updated(steps=60, learning_rate=0.02)
    start = trained([stripes], params)
    before = weights(start).clone()
    # Another architecture is asked for; that of the model is kept.
    further = trained([stripes], params.updated(steps=5, levels=3, learning_rate=1e-5), init=start)
    assert further.architecture == start.architecture
    assert np.mean(further.losses) < 0.5 * np.mean(start.losses[:5])
    assert torch.equal(weights(start), before)
    assert not torch.equal(weights(further), before)


def test_model_to_start_from_must_have_the_channels(stripes, tiny_params, model):
    rgb = np.stack([stripes, stripes.T[:48].repeat(2, axis=1)[:, :40].repeat(2, axis=0)[:48]] * 2)
    with pytest.raises(InputError, match=r"have 4 channel.*start from has 1"):
        Trainer([read_image(rgb, "CYX")], tiny_params, "cpu", init=model)


def test_constant_images_alone_are_refused_by_name(tiny_params):
    with pytest.raises(InputError, match=r"image 1, image 2 has one value only\. Choose other"):
        trained([np.zeros((20, 20)), np.ones((20, 20))], tiny_params)


def test_constant_image_among_others_teaches_nothing(stripes, tiny_params):
    alone = trained([stripes], tiny_params)
    beside = trained([stripes, np.ones((500, 500))], tiny_params)
    assert min(beside.losses) > 0.5 * min(alone.losses)


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (15, 40)])
def test_images_smaller_than_a_crop_are_trained_on(shape, tiny_params):
    image = np.random.default_rng(0).random(shape)
    assert trained([image], tiny_params.updated(steps=2)).record.steps == 2


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_training_that_diverges_at_once_asks_for_a_lower_learning_rate(
    monkeypatch, stripes, tiny_params, loss
):
    monkeypatch.setattr(trainer, "_optimise", lambda *_: loss)
    with pytest.raises(InputError, match=rf"step 1 is {loss}.*learning rate below 0\.05"):
        trained([stripes], tiny_params.updated(learning_rate=0.05))


def diverging(monkeypatch, at, after=float("nan")):
    """Let training diverge at a step; return the weights before each step."""
    step, seen = trainer._optimise, []

    def diverge(network, *arguments):
        seen.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        loss = step(network, *arguments)
        if len(seen) < at:
            return loss
        with torch.no_grad():
            network.readout.weight.fill_(torch.nan)
        return after

    monkeypatch.setattr(trainer, "_optimise", diverge)
    monkeypatch.setattr(trainer, "_STEPS_BETWEEN_COPIES", 5)
    return seen


@pytest.mark.parametrize("after", [float("nan"), float("inf")])
def test_training_that_diverges_keeps_the_best_weights(monkeypatch, stripes, tiny_params, after):
    seen = diverging(monkeypatch, at=13, after=after)
    events = []
    model = trained([stripes], tiny_params.updated(steps=100), progress=events.append)
    kept = model.record.steps
    assert kept in (5, 10)
    assert torch.equal(weights(model), seen[kept])
    assert len(model.losses) == kept
    assert np.isfinite(model.losses).all()
    assert len(seen) == 13
    (note,) = model.record.notes
    assert f"loss at step 13 is {after}. The model is that of step {kept}. Choose" in note
    assert events[-1].message == note
    assert events[-1].done == kept
    assert events[-1].loss == model.losses[-1]
    assert model.checkpoint is None  # to go on would lead to the same place


def test_best_weights_are_kept_not_the_last(monkeypatch, stripes, tiny_params):
    losses = iter([1.0] * 5 + [0.1] * 5 + [0.5] * 5 + [float("nan")])
    monkeypatch.setattr(trainer, "_optimise", lambda *_: next(losses))
    monkeypatch.setattr(trainer, "_STEPS_BETWEEN_COPIES", 5)
    assert trained([stripes], tiny_params.updated(steps=100)).record.steps == 10


def test_gradient_that_is_not_finite_counts_as_loss_of_the_weights(stripes, tiny_params):
    from napari_aeseg.autoencoder.architecture import Architecture
    from napari_aeseg.autoencoder.network import Autoencoder

    network = Autoencoder(Architecture(1, 2, 4))
    optimizer = trainer.AdamW(network)
    crops = torch.rand(2, 1, 16, 16)
    assert np.isfinite(trainer._optimise(network, optimizer, crops, crops))
    network.readout.weight.register_hook(lambda gradient: gradient * torch.nan)
    assert np.isnan(trainer._optimise(network, optimizer, crops, crops))


def test_training_on_noise_warns(tiny_params):
    noise = np.random.default_rng(0).random((64, 64))
    events = []
    # A network that is too small to learn noise by heart.
    params = tiny_params.updated(steps=80, width=2, levels=3, learning_rate=0.01)
    model = trained([noise], params, progress=events.append)
    (note,) = model.record.notes
    assert "did not learn" in note
    assert events[-1].message == note


def test_events_say_how_fast_it_goes(monkeypatch, stripes, tiny_params):
    monkeypatch.setattr(training_loop, "_SECONDS_BETWEEN_EVENTS", 0)
    events = []
    trained([stripes], tiny_params, progress=events.append)
    assert all(e.steps_per_second > 0 for e in events)
    assert all(e.images_per_second == e.steps_per_second * 4 for e in events)
    assert {e.precision for e in events} == {"float32"}


def test_out_of_memory_halves_the_batch_and_says_so(monkeypatch, stripes, tiny_params):
    step, batches = trainer._optimise, []

    def with_little_memory(network, optimizer, clean, noisy):
        batches.append(len(clean))
        if len(clean) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(network, optimizer, clean, noisy)

    monkeypatch.setattr(trainer, "_optimise", with_little_memory)
    events = []
    model = trained([stripes], tiny_params.updated(batch_size=8), progress=events.append)
    assert batches == [8, 4, *[2] * tiny_params.steps]
    assert model.record.steps == tiny_params.steps
    assert np.isfinite(model.losses).all()
    assert len(model.record.notes) == 2
    assert "batches of 2" in model.record.notes[-1]
    assert any("batches of 2" in event.message for event in events)


@pytest.mark.parametrize(
    "error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_out_of_memory_with_a_single_crop_is_a_device_error(
    monkeypatch, stripes, tiny_params, error
):
    def without_memory(*_):
        raise error

    monkeypatch.setattr(trainer, "_optimise", without_memory)
    with pytest.raises(DeviceError, match=r"single crop of 16 x 16 pixels.*smaller crops"):
        trained([stripes], tiny_params)


def test_other_errors_of_torch_are_not_taken_for_memory(monkeypatch, stripes, tiny_params):
    def broken(*_):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(trainer, "_optimise", broken)
    with pytest.raises(RuntimeError, match="multiplied"):
        trained([stripes], tiny_params)


# -- as on a GPU


def test_noise_differs_between_steps_and_is_reproducible(monkeypatch, stripes, tiny_params):
    step, seen = trainer._optimise, []

    def seeing(network, optimizer, clean, noisy):
        seen.append(noisy - clean)
        return step(network, optimizer, clean, noisy)

    monkeypatch.setattr(trainer, "_optimise", seeing)
    first, again = (trained([stripes], tiny_params) for _ in range(2))
    assert first.losses == again.losses
    assert torch.equal(weights(first), weights(again))
    noise, repeated = torch.stack(seen).split(tiny_params.steps)
    assert torch.equal(noise, repeated)
    assert float(noise.std()) == pytest.approx(tiny_params.noise, rel=0.05)
    correlation = torch.corrcoef(noise.flatten(1)) - torch.eye(len(noise))
    assert float(correlation.abs().max()) < 0.1
