import numpy as np
import pytest

from napari_aeseg.autoencoder.diagnosis import training_warnings

N = 200
STEPS = np.arange(N)
WIGGLE = 1 + 0.05 * np.sin(STEPS)
LEARNT = 0.01 + 0.2 * np.exp(-STEPS / 10)


def warned(losses, variance=0.05, learning_rate=0.004):
    return " ".join(training_warnings(list(losses), variance, learning_rate))


def test_good_training_has_no_warning():
    assert warned(LEARNT * WIGGLE) == ""


def test_few_steps_have_no_warning():
    assert warned(np.full(20, 0.05)) == ""


def test_loss_near_the_baseline_warns_of_noise():
    text = warned(0.0495 * WIGGLE)
    assert "did not learn: its loss, 0.049, is close to the baseline of" in text
    assert "as in noise: then smooth or bin" in text


@pytest.mark.parametrize(("rate", "better"), [(0.006, "0.002"), (0.00001, "0.004")])
def test_a_learning_rate_to_try_is_named(rate, better):
    assert warned(0.0495 * WIGGLE, learning_rate=rate).endswith(f"then try {better}.")


@pytest.mark.parametrize(("share", "flat"), [(0.7, False), (0.9, True), (1.3, True)])
def test_flat_is_near_the_variance_or_above(share, flat):
    assert ("did not learn" in warned(share * 0.05 * WIGGLE)) == flat


def test_almost_constant_images_are_named():
    text = warned(0.0001 * WIGGLE, variance=0.0001)
    assert "almost constant: crop them" in text


def test_loss_that_rose_again_asks_for_a_lower_learning_rate():
    losses = np.concatenate([LEARNT[:100], np.full(100, 0.05)])
    text = warned(losses, learning_rate=0.1)
    assert "The loss rose in the end: choose a learning rate below 0.1." in text


def test_loss_far_above_the_variance_asks_for_a_lower_learning_rate():
    assert "stayed far above it: choose a learning rate below 0.004." in warned(1e9 * WIGGLE)


def test_high_loss_that_falls_asks_for_more_steps():
    assert "take more steps, or a higher learning rate" in warned(np.linspace(0.2, 0.05, N))


def test_loss_that_falls_steeply_at_the_end_asks_for_more_steps():
    assert warned(0.04 * np.exp(-STEPS / 50)) == (
        "The loss was still falling steeply at the end: more steps would help."
    )


def test_a_rare_bright_crop_is_not_taken_for_a_fall():
    losses = np.full(N, 0.01)
    losses[120] = 5
    assert warned(losses) == ""
