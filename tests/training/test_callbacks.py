"""Callbacks whose effect whole runs (tests/e2e) don't show."""

import signal
from types import SimpleNamespace

import pytest

from srgan_tf.training.callbacks import StopOnSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_second_kills(number):
    before = signal.getsignal(number)
    callback = StopOnSignal()
    callback.set_model(SimpleNamespace(stop_requested=False))
    callback.on_train_begin()
    try:
        signal.raise_signal(number)
        assert callback.model.stop_requested
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        callback.on_train_end()
    assert signal.getsignal(number) == before
