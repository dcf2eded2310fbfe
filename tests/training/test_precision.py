"""`precision: auto`."""

import pytest
import tensorflow as tf

from srgan_tf.config import Config, PretrainConfig
from srgan_tf.training import precision


@pytest.mark.parametrize(
    ("seconds_of_bfloat16", "faster"), [(0.5, "mixed_bfloat16"), (2.0, "float32")]
)
def test_auto_is_the_faster_one(monkeypatch, seconds_of_bfloat16, faster):
    times = {tf.float32: 1.0, tf.bfloat16: seconds_of_bfloat16}
    monkeypatch.setattr(precision, "_seconds", times.__getitem__)
    config = Config(name="test", precision="auto", pretrain=PretrainConfig())
    assert precision.resolve_precision(config) == config.model_copy(update={"precision": faster})


def test_a_chosen_precision_stays_and_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", None)
    config = Config(name="test", precision="mixed_bfloat16", pretrain=PretrainConfig())
    assert precision.resolve_precision(config) is config


def test_auto_measures_this_machine():
    config = Config(name="test", precision="auto", pretrain=PretrainConfig())
    assert precision.resolve_precision(config).precision in ("float32", "mixed_bfloat16")


def test_a_resumed_run_keeps_its_precision(monkeypatch):
    recipe = Config(name="a", precision="auto", pretrain=PretrainConfig())
    for chosen in ("float32", "mixed_bfloat16"):
        resumed = recipe.model_copy(update={"precision": chosen})
        monkeypatch.setattr(precision, "_seconds", lambda dtype: pytest.fail("measured again"))
        assert precision.resolve_precision(recipe, resumed).precision == chosen
