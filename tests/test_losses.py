"""Content and adversarial losses."""

import importlib
import socket

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter
from scipy import signal
from skimage.metrics import peak_signal_noise_ratio

from srgan_tf.errors import UserError
from srgan_tf.images import read_photo
from srgan_tf.losses import (
    PERCEPTUAL_LAYERS,
    PIXEL_LOSSES,
    VGG_LOSSES,
    ContentLosses,
    VggFeatures,
    adversarial_loss,
    discriminator_loss,
    grid_mse_loss,
    log_spectrum_mse_loss,
    lowres_mse_loss,
)
from srgan_tf.losses import coherence_loss as coherence_loss_of_pair
from srgan_tf.models import Discriminator, SRResNet


def content_loss(name, vgg_weights="imagenet"):
    losses = ContentLosses([name], 4, vgg_weights)
    return lambda hr, sr: losses(hr, sr)[name]


def coherence_loss(sr, scale):
    return coherence_loss_of_pair(sr, sr, scale)


HR, SR = np.random.default_rng(0).uniform(-1, 1, (2, 2, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def vgg19():
    keras.utils.set_random_seed(0)
    return keras.applications.VGG19(include_top=False, weights=None)


@pytest.fixture(scope="module")
def vgg_file(vgg19, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.weights.h5"
    vgg19.save_weights(path)
    return str(path)


def test_mse_and_l1():
    hr = np.full((2, 1, 1, 3), 0.25, np.float32)
    sr = np.reshape([0.25, 0.75, 0.25, -0.75, 0.25, 0.0], hr.shape).astype(np.float32)
    assert float(content_loss("mse")(hr, sr)) == pytest.approx((0.25 + 1 + 0.0625) / 6)
    assert float(content_loss("l1")(hr, sr)) == pytest.approx((0.5 + 1 + 0.25) / 6)


@pytest.mark.parametrize("name", ["mse", "l1", "vgg22", "vgg54"])
def test_losses_of_equal_images_are_zero(name, vgg_file):
    assert float(content_loss(name, vgg_file)(HR, HR)) == 0


def test_psnr_is_that_of_each_image():
    psnr = [peak_signal_noise_ratio(hr, sr, data_range=2) for hr, sr in zip(HR, SR, strict=True)]
    assert float(content_loss("psnr")(HR, SR)) == pytest.approx(-np.mean(psnr), abs=1e-3)
    flat = np.zeros_like(HR)  # an error of one level, a PSNR of 48.13 dB
    loss = content_loss("psnr")(flat, flat + 2 / 255)
    assert float(loss) == pytest.approx(-48.13 + 10 * np.log10(2), abs=0.01)


def log_sigmoid(x):
    return -np.logaddexp(0, -np.asarray(x, np.float64))


def test_lowres_mse_is_that_of_block_means():
    rng = np.random.default_rng(0)
    hr, sr = rng.uniform(-1, 1, (2, 2, 8, 12, 3)).astype("float32")
    means = [x.reshape(2, 2, 4, 3, 4, 3).mean((2, 4)) for x in (hr, sr)]
    expected = np.mean((means[0] - means[1]) ** 2)
    assert float(lowres_mse_loss(hr, sr, 4)) == pytest.approx(expected, rel=1e-5)
    checkerboard = np.indices((8, 12)).sum(0)[None, :, :, None] % 2 - 0.5
    assert float(lowres_mse_loss(hr, hr + checkerboard, 4)) == pytest.approx(0, abs=1e-12)


def test_log_spectrum_mse_compares_power():
    rng = np.random.default_rng(0)
    hr = rng.uniform(-0.1, 0.1, (2, 96, 96, 3)).astype("float32")
    for one, other in ((hr, 3 * hr), (3 * hr, hr)):
        loss = float(log_spectrum_mse_loss(one, other, 4))  # nearly log 9
        assert loss == pytest.approx(np.log(9) ** 2, rel=0.05)
    moved = np.roll(hr, (5, 3), (1, 2))  # another photo of the same texture
    period_of_3 = np.where(np.arange(96) % 3 == 0, 0.05, 0).astype("float32")[:, None]
    assert float(log_spectrum_mse_loss(hr, moved + period_of_3, 4)) > 2 * float(
        log_spectrum_mse_loss(hr, moved, 4)
    )


def welch_windows(image):
    """Return the spectra of luma in windows of 32×32 pixels."""
    luma = image @ [0.299, 0.587, 0.114]
    starts = [range(0, side - 31, 16) for side in luma.shape]
    windows = np.stack([luma[i : i + 32, j : j + 32] for i in starts[0] for j in starts[1]])
    hann = signal.windows.hann(32, sym=False)
    return np.fft.fft2(windows * np.outer(hann, hann))


def welch_power(image):
    hann = signal.windows.hann(32, sym=False)
    noise = (2 / 255) ** 2 * np.sum(np.outer(hann, hann) ** 2)
    return np.mean(np.abs(welch_windows(image)) ** 2, 0) + noise


def grey(*images):
    return [np.repeat(x @ [[0.299], [0.587], [0.114]], 3, -1).astype("float32") for x in images]


def test_log_spectrum_mse_is_of_welchs_estimate():
    hr, sr = grey(*np.random.default_rng(0).uniform(-1, 1, (2, 1, 64, 48, 3)))
    difference = np.log(welch_power(sr[0])) - np.log(welch_power(hr[0]))
    loss = float(log_spectrum_mse_loss(hr, sr, 4))
    assert loss == pytest.approx(np.mean(difference**2) / 3, rel=1e-3)  # U and V are 0


def test_coherence_is_of_frequencies_a_multiple_of_1_over_scale_apart():
    (sr,) = grey(np.random.default_rng(0).uniform(-1, 1, (1, 64, 48, 3)))
    spectra, power = welch_windows(sr[0]), welch_power(sr[0])
    expected = []
    for shift in [(0, 16), (16, 0), (16, 16)]:
        product = np.mean(spectra * np.roll(spectra, shift, (1, 2)).conj(), 0)
        expected.append(np.mean(np.abs(product) ** 2 / (power * np.roll(power, shift, (0, 1)))))
    # U and V are 0. Overlapping windows, 3×2, count as fewer independent ones, n of which have 1/n
    # without coherence.
    count = 3 / (1 + 1 / 18) * 2 / (1 + 1 / 18)
    unbiased = (count * np.mean(expected) / 3 - 1) / (count - 1)
    assert float(coherence_loss(sr, 2)) == pytest.approx(unbiased, rel=1e-3)


@pytest.mark.parametrize("count", [1, 8])
def test_coherence_of_noise_is_zero_for_any_number_of_windows(count):
    rng = np.random.default_rng(0)
    losses = [
        float(coherence_loss(rng.normal(0, 0.3, (count, 96, 96, 3)).astype("float32"), 4))
        for _ in range(16 // count)
    ]
    assert abs(np.mean(losses)) < 0.002


def test_a_single_window_has_no_coherence():
    image = tf.random.stateless_uniform([1, 32, 32, 3], (0, 0), -1.0)
    with tf.GradientTape() as tape:
        tape.watch(image)
        loss = coherence_loss(image, 4)
    assert float(loss) == 0.0
    assert not np.any(tape.gradient(loss, image))


def test_coherence_measures_patterns_tied_to_the_blocks():
    rng = np.random.default_rng(0)
    texture = rng.choice([-0.5, 0.5], (4, 96, 96, 3)).astype("float32")
    dots = np.zeros_like(texture)
    dots[:, 1::4, 2::4] = texture[:, 1::4, 2::4]  # with random signs, so that the mean has no grid
    assert float(coherence_loss(dots, 4)) > 0.98
    assert float(coherence_loss(texture, 4)) < 0.02
    anywhere = rng.permuted(dots.reshape(4, -1, 3), axis=1).reshape(dots.shape)
    assert float(coherence_loss(anywhere, 4)) < 0.02


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_grid_mse_is_the_mean_square_of_a_pattern_that_all_blocks_have(scale):
    rng = np.random.default_rng(0)
    hr = rng.uniform(-1, 1, (2, 48, 40, 3)).astype("float32")
    pattern = rng.normal(0, 0.1, (scale, scale, 3))
    sr = hr + np.tile(pattern, (48 // scale, 40 // scale, 1)).astype("float32")
    expected = np.var(pattern, (0, 1)).mean()
    assert float(grid_mse_loss(hr, sr, scale)) == pytest.approx(expected, rel=1e-4)
    assert float(grid_mse_loss(hr, hr + 0.3, scale)) == pytest.approx(0, abs=1e-9)


def test_a_pattern_of_one_sign_is_penalised_by_grid_mse_but_barely_by_coherence():
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (2, 24, 24, 1)).repeat(4, 1).repeat(4, 2)
    texture = rng.normal(0, 0.2, (2, 96, 96, 3))
    column = np.tile([0.05, 0.05, -0.05, -0.05], 24)[:, None]
    fixed, random = ((texture + column * s).astype("float32") for s in (1.0, signs))
    texture = texture.astype("float32")
    assert float(grid_mse_loss(texture, fixed, 4)) == pytest.approx(0.05**2, rel=1e-3)
    assert float(grid_mse_loss(texture, random, 4)) < 0.05**2 / 100
    assert float(coherence_loss(fixed, 4)) < 0.01


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_spectra_have_gradients_everywhere(scale):
    flat = tf.Variable(tf.zeros((1, 16, 32, 3)))  # smaller than a window, without any power
    with tf.GradientTape() as tape:
        loss = log_spectrum_mse_loss(flat - 0.5, flat, scale) + coherence_loss(flat, scale)
    assert np.isfinite(tape.gradient(loss, flat)).all()


def test_adversarial_losses_are_the_papers():
    real, fake = np.array([[-3.0], [0.5], [2.0]]), np.array([[1.0], [-2.0], [0.0]])
    g_loss = adversarial_loss(tf.constant(fake, tf.float32))
    assert float(g_loss) == pytest.approx(-np.mean(log_sigmoid(fake)), rel=1e-6)
    d_loss = discriminator_loss(tf.constant(real, tf.float32), tf.constant(fake, tf.float32))
    # log(1 - sigmoid(x)) = log(sigmoid(-x))
    expected = -np.mean(log_sigmoid(real)) - np.mean(log_sigmoid(-fake))
    assert float(d_loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("logit", [-100.0, 100.0])
def test_adversarial_losses_stay_finite_and_steep_at_large_logits(logit):
    logits = tf.Variable([[logit]])
    with tf.GradientTape(persistent=True) as tape:
        g_loss = adversarial_loss(logits)
        d_loss = discriminator_loss(-logits, logits)
    assert float(g_loss) == pytest.approx(max(-logit, 0), abs=1e-6)
    assert float(d_loss) == pytest.approx(2 * max(logit, 0), abs=1e-6)
    assert float(tape.gradient(g_loss, logits)[0, 0]) == pytest.approx(-(logit < 0), abs=1e-6)
    assert float(tape.gradient(d_loss, logits)[0, 0]) == pytest.approx(2 * (logit > 0), abs=1e-6)


@pytest.mark.parametrize("name", [*PIXEL_LOSSES, *VGG_LOSSES, "adversarial"])
def test_every_loss_moves_the_generator(name, vgg_file):
    generator = SRResNet(blocks=1, filters=4)
    if name == "adversarial":
        discriminator = Discriminator(filters=2, dense_units=4)

        def loss_of(_, sr):
            return adversarial_loss(discriminator(sr))
    else:
        loss_of = content_loss(name, vgg_file)
    lr = tf.random.stateless_uniform((2, 8, 8, 3), (0, 0))
    generator.build()
    variables = generator.trainable_variables
    with tf.GradientTape() as tape:
        loss = loss_of(HR, generator(lr, training=True))
    gradients = tape.gradient(loss, variables)
    norm = tf.linalg.global_norm(gradients)
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(1e-3 * gradient / norm)
    assert float(loss_of(HR, generator(lr, training=True))) < float(loss)


@pytest.mark.parametrize(("name", "layer"), [("vgg22", "block2_conv2"), ("vgg54", "block5_conv4")])
def test_vgg_loss_is_the_mean_squared_difference_of_keras_own_features(
    name, layer, vgg19, vgg_file
):
    keras_features = keras.Model(vgg19.input, vgg19.get_layer(layer).output)
    hr, sr = (
        keras_features(keras.applications.vgg19.preprocess_input((x + 1) * 127.5)) / 12.75
        for x in (HR, SR)
    )
    expected = np.mean((hr - sr) ** 2)
    assert float(content_loss(name, vgg_file)(HR, SR)) == pytest.approx(expected, rel=1e-4)


def test_perceptual_loss_is_of_features_before_the_activation(vgg19, vgg_file):
    def features(images, layer):
        """Compute features by Keras' model up to the layer's input, then without activation."""
        layer = vgg19.get_layer(layer)
        before = keras.Model(vgg19.input, layer.input)
        x = before(keras.applications.vgg19.preprocess_input(np.rint((images + 1) * 127.5)))
        return tf.nn.conv2d(x, layer.kernel, 1, "SAME") + layer.bias

    hr, sr = (np.rint((x + 1) * 127.5) / 127.5 - 1 for x in (HR, SR))
    expected = sum(
        weight / magnitude * np.mean(np.abs(features(hr, layer) - features(sr, layer)))
        for layer, (weight, magnitude) in PERCEPTUAL_LAYERS.items()
    )
    loss = content_loss("perceptual", vgg_file)(hr.astype("float32"), sr.astype("float32"))
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_losses_of_vgg_together_are_those_of_each_alone(vgg_file):
    together = ContentLosses(["l1", *VGG_LOSSES], 4, vgg_file)
    losses = together(HR, HR, (HR, SR))
    assert losses.pop("l1") == 0  # compares the first pair
    for name, loss in losses.items():
        assert float(loss) == pytest.approx(float(content_loss(name, vgg_file)(HR, SR)), rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_vgg_is_frozen_and_computes_in_float32_whatever_the_policy(vgg_file, precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = VggFeatures(["block3_conv4"], vgg_file, precision).model
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    assert model.trainable_variables == []
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_vgg_in_bfloat16_has_nearly_the_same_losses_and_gradients(vgg_file):
    hr, sr = tf.constant(HR), tf.constant(SR)
    gradients = []
    for precision in ("float32", "mixed_bfloat16"):
        losses = ContentLosses(["vgg22"], 4, vgg_file, precision)
        with tf.GradientTape() as tape:
            tape.watch(sr)
            loss = losses(hr, sr)["vgg22"]
        gradients.append(tape.gradient(loss, sr).numpy().ravel())
    reference, gradient = gradients
    assert not np.array_equal(reference, gradient)
    assert np.corrcoef(reference, gradient)[0, 1] > 0.99
    assert np.linalg.norm(gradient) == pytest.approx(np.linalg.norm(reference), rel=0.05)


def test_vgg_in_bfloat16_reads_pixels_in_float32_and_returns_float32(vgg_file):
    features = VggFeatures(["block1_conv2", "block2_conv2"], vgg_file, "mixed_bfloat16")
    convolutions = [x for x in features.model.layers if isinstance(x, keras.layers.Conv2D)]
    assert [x.compute_dtype for x in convolutions] == ["float32"] + 3 * ["bfloat16"]
    assert {x.dtype for x in features(HR).values()} == {tf.float32}


def offers_both_remedies(error) -> bool:
    return "downloads them" in str(error) and "--set vgg.weights=PATH" in str(error)


def test_missing_or_foreign_vgg_weights_are_refused(tmp_path):
    missing = str(tmp_path / "vgg.h5")
    with pytest.raises(UserError, match="no such file") as caught:
        content_loss("vgg54", missing)
    assert missing in str(caught.value) and offers_both_remedies(caught.value)
    (tmp_path / "vgg.h5").write_text("not weights")
    before = keras.config.dtype_policy()
    with pytest.raises(UserError) as caught:
        content_loss("vgg54", missing)
    assert missing in str(caught.value) and offers_both_remedies(caught.value)
    assert keras.config.dtype_policy() is before


def test_vgg_weights_that_cannot_be_downloaded_are_refused(monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    config = importlib.import_module("keras.src.backend.config")
    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path))  # nothing is cached
    with pytest.raises(UserError, match="no network") as caught:
        content_loss("vgg54")
    assert offers_both_remedies(caught.value)


def test_vgg54_of_real_weights_tells_a_photo_from_its_blur(shared):
    path = sorted((shared / "data" / "benchmarks" / "Set5" / "HR").iterdir())[0]
    photo = read_photo(path)[:96, :96]
    blurred = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(2)))
    loss = content_loss("vgg54", str(shared / "weights" / "vgg19_imagenet_notop.weights.h5"))
    a, b = (image[None] / np.float32(127.5) - 1 for image in (photo, blurred))
    assert float(loss(a, a)) == 0
    assert float(loss(a, b)) == pytest.approx(0.18099, rel=1e-3)
