"""Parts of the training loop; tests/e2e has complete runs."""

import itertools
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from srgan_tf.config import Config, DataConfig, GanConfig, PretrainConfig, SRResNetConfig
from srgan_tf.training import loop
from srgan_tf.training.checkpoints import training_state
from srgan_tf.training.loop import (
    StopOnSignal,
    TrainingDivergedError,
    compile_step,
    train_steps,
)
from srgan_tf.training.run import build_trainer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_requests_a_stop_and_the_second_kills(number):
    before = signal.getsignal(number)
    with StopOnSignal() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(number) == before


class Log:
    """A loss on a device."""

    def __init__(self, fetch):
        self.fetch = fetch

    def __float__(self):
        return self.fetch()


class Steps:
    """A trainer, its checkpoints and its validation, which record their calls."""

    def __init__(self, first=0, bad_from=None):
        self.section = PretrainConfig(steps=20)
        self.optimizer = SimpleNamespace(learning_rate=1e-4)
        self.writer = tf.summary.create_noop_writer()
        self.step, self.folder, self.bad_from, self.scores = first, "runs", bad_from, {}
        self.trained, self.saved, self.measured, self.fetched = [], [], [], []
        self.discarded = []

    def set_learning_rate(self, step):
        self.trained.append(step + 1)

    def update(self, batches):
        step = next(batches)
        bad = self.bad_from is not None and step >= self.bad_from

        def fetch():
            self.fetched.append(step)
            return float("nan") if bad else 1.0

        return {"loss": Log(fetch)}

    def discard(self, step):
        self.discarded.append(step)
        return True

    def measure(self, step):
        self.measured.append(step)

    def run(self, monkeypatch):
        monkeypatch.setattr(loop, "compile_step", lambda *_: self.update)
        config = Config(
            name="a", pretrain=self.section, checkpoint_every=6, validate_every=8, log_every=10
        )
        batches = itertools.count(self.step + 1)
        train_steps(
            self, batches, None, config, self, lambda: self.saved.append(self.trained[-1]), self, ""
        )


def test_saving_validating_and_logging_keep_to_their_own_steps(monkeypatch):
    steps = Steps()
    steps.run(monkeypatch)
    assert steps.trained == list(range(1, 21))
    assert steps.saved == [6, 12, 18, 20]
    assert steps.measured == [8, 16]
    # In steps that log, before a checkpoint is saved, and after one.
    assert steps.fetched == [1, 6, 7, 10, 12, 13, 18, 19, 20]


def test_a_resumed_loop_trains_the_remaining_steps(monkeypatch):
    steps = Steps(first=17)
    steps.run(monkeypatch)
    assert (steps.trained, steps.saved, steps.measured) == ([18, 19, 20], [18, 20], [])


@pytest.mark.parametrize(("bad_from", "saved"), [(7, [6]), (8, [6]), (12, [6])])
def test_no_state_that_is_not_finite_is_kept(monkeypatch, bad_from, saved):
    steps = Steps(bad_from=bad_from)
    with pytest.raises(TrainingDivergedError, match="loss is not finite"):
        steps.run(monkeypatch)
    assert steps.saved == saved
    assert (6 in steps.discarded) == (bad_from == 7)


def test_a_run_without_a_good_state_says_so(monkeypatch):
    steps = Steps(bad_from=1)
    monkeypatch.setattr(steps, "discard", lambda step: False)
    with pytest.raises(TrainingDivergedError, match="No good state is left in runs"):
        steps.run(monkeypatch)


def test_a_signal_stops_after_the_step_and_saves(monkeypatch):
    steps = Steps()
    update = steps.update

    def interrupted(batches):
        logs = update(batches)
        if steps.trained[-1] == 4:
            signal.raise_signal(signal.SIGTERM)
        return logs

    steps.update = interrupted
    steps.run(monkeypatch)
    assert (steps.trained, steps.saved) == ([1, 2, 3, 4], [4])


TINY = Config(
    name="tiny",
    generator=SRResNetConfig(blocks=1, filters=8),
    data=DataConfig(hr_crop=32, batch_size=2),
    pretrain=PretrainConfig(steps=10, freeze_bn=True, ema=0.9, learning_rate=1e-3),
    gan=GanConfig(
        steps=10,
        start_from=None,
        losses={"mse": 1.0, "adversarial": 1e-3},
        jitter=True,
        ema=0.9,
        discriminator={"architecture": "unet", "filters": 8},
    ),
)


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_a_step_that_xla_compiles_is_the_same_step(stage):
    rng = np.random.default_rng(0)
    lr = rng.random((3, 2, 8, 8, 3), np.float32)
    hr = np.kron(lr, np.ones((1, 1, 4, 4, 1), np.float32)) * 2 - 1
    states, logs = [], []
    for jit_compile in (False, True):
        tf.keras.utils.set_random_seed(0)
        trainer = build_trainer(TINY, TINY.phases(stage)[0].section, None)
        step = compile_step(trainer, tf.distribute.get_strategy(), jit_compile)
        batches = iter(tf.data.Dataset.from_tensor_slices((lr, hr)))
        logs.append([{k: float(v) for k, v in step(batches).items()} for _ in lr])
        states.append({key: v.numpy() for key, v in training_state(trainer).items()})
    for ours, theirs in zip(*logs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    for key, value in states[0].items():
        # Adam's first steps have the learning rate's size also for gradients of rounding errors.
        difference = np.abs(states[1][key] - value)
        assert np.quantile(difference, 0.95) < 2e-4 + 2e-2 * np.std(value), key
