import resource
import signal

import keras
import numpy as np
import pytest

from srgan_tf.config import PretrainConfig
from srgan_tf.errors import UserError
from srgan_tf.losses import ContentLosses
from srgan_tf.models import SRResNet
from srgan_tf.training.checkpoints import Checkpoints, find_checkpoints
from srgan_tf.training.loop import TrainingDivergedError, check_finite
from srgan_tf.training.run import has_checkpoints
from srgan_tf.training.trainers import Pretrainer


@pytest.fixture
def trainer():
    keras.utils.set_random_seed(0)
    models = [SRResNet(blocks=1, filters=8) for _ in range(2)]
    for model in models:
        model.build()
    return Pretrainer(*models, ContentLosses(["mse"], 4), PretrainConfig(steps=10))


def advance(trainer, step):
    trainer.optimizer.iterations.assign(step)
    trainer.generator.head.bias.assign(np.full(8, float(step)))


def bias(trainer):
    return float(trainer.generator.head.bias.numpy()[0])


@pytest.mark.parametrize("name", ["run", "run [1]*"])
def test_keeps_the_newest_few_and_restores_the_newest(trainer, tmp_path, name):
    tmp_path = tmp_path / name
    checkpoints = Checkpoints(tmp_path, trainer, keep=2)
    assert not checkpoints.restore()
    for step in (1, 2, 9, 10, 11):
        advance(trainer, step)
        assert checkpoints.save()
    assert sorted(p.stem for p in tmp_path.glob("*.index")) == ["step-10", "step-11"]

    advance(trainer, 99)
    again = Checkpoints(tmp_path, trainer, keep=2)
    assert again.restore()
    assert (again.step, bias(trainer)) == (11, 11.0)


def test_the_state_of_the_runner_is_restored_where_it_is_newer(trainer, tmp_path):
    checkpoints = Checkpoints(tmp_path, trainer, keep=2)
    advance(trainer, 9)
    checkpoints.save()
    advance(trainer, 10)
    state = {key: variable.numpy() for key, variable in checkpoints.state.items()}
    np.savez(tmp_path / "step-10.npz", **state)
    advance(trainer, 99)
    assert Checkpoints(tmp_path, trainer, keep=2).restore()
    assert (checkpoints.step, bias(trainer)) == (10, 10.0)


def test_from_the_runners_average_only_the_generator_is_restored_too(trainer, tmp_path):
    checkpoints = Checkpoints(tmp_path, trainer, keep=2)
    advance(trainer, 7)
    trainer.ema_generator.head.bias.assign(np.full(8, 3.0))
    state = {
        key: variable.numpy()
        for key, variable in checkpoints.state.items()
        if key == "optimizer/0" or key.startswith("average/")
    }
    np.savez(tmp_path / "step-7.npz", **state)
    advance(trainer, 99)
    assert Checkpoints(tmp_path, trainer, keep=2).restore()
    assert (checkpoints.step, bias(trainer)) == (7, 3.0)


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing"])
def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(trainer, tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, trainer, keep=3)
    for step in (1, 2):
        advance(trainer, step)
        checkpoints.save()
    data = tmp_path / "step-2.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    if damage == "truncate":
        data.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
        data.write_bytes(content)
    else:
        data.unlink()
    advance(trainer, 99)
    with pytest.warns(UserWarning, match="step-2: damaged .*using the previous checkpoint"):
        assert Checkpoints(tmp_path, trainer, keep=3).restore()
    assert bias(trainer) == 1.0
    assert int(trainer.optimizer.iterations) == 1


def test_tensorflows_list_of_checkpoints_is_not_needed(trainer, tmp_path):
    checkpoints = Checkpoints(tmp_path, trainer, keep=3)
    for step in (9, 10):
        advance(trainer, step)
        checkpoints.save()
    (tmp_path / "checkpoint").unlink()
    advance(trainer, 99)
    assert Checkpoints(tmp_path, trainer, keep=3).restore()
    assert bias(trainer) == 10.0


def test_a_run_without_a_whole_checkpoint_starts_anew(trainer, tmp_path):
    folder = tmp_path / "checkpoints"
    (folder / "step-0_temp").mkdir(parents=True)
    (folder / "step-0_temp" / "part-00000-of-00001.data-00000-of-00001").touch()
    assert not has_checkpoints(tmp_path)
    Checkpoints(folder, trainer, keep=3).save()
    assert has_checkpoints(tmp_path)


def test_no_readable_checkpoint_is_an_error(trainer, tmp_path):
    checkpoints = Checkpoints(tmp_path, trainer, keep=3)
    checkpoints.save()
    for data in tmp_path.glob("*.data*"):
        data.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(UserError, match="no checkpoint can be read"),
    ):
        checkpoints.restore()


def test_a_full_disk_keeps_the_previous_checkpoint_and_warns(trainer, tmp_path):
    checkpoints = Checkpoints(tmp_path, trainer, keep=3)
    advance(trainer, 1)
    checkpoints.save()
    advance(trainer, 2)
    # The limit of a file's size, which makes writes fail as on a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.warns(UserWarning, match=r"step 2: .*could not be written.*step-1"):
            assert not checkpoints.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.rglob("*_temp"))
    assert checkpoints.restore()
    assert bias(trainer) == 1.0
    advance(trainer, 3)
    assert checkpoints.save()
    assert Checkpoints(tmp_path, trainer, keep=3).restore()
    assert bias(trainer) == 3.0


def test_every_variable_comes_back(trainer, tmp_path):
    rng = np.random.default_rng(0)
    models = trainer.generator, trainer.ema_generator, trainer.optimizer
    for variable in (v for model in models for v in model.variables):
        if variable.dtype == "float32":
            variable.assign(rng.normal(size=variable.shape))
    before = [np.array(v) for model in models for v in model.variables]
    Checkpoints(tmp_path, trainer, keep=1).save()
    for variable in (v for model in models for v in model.variables):
        variable.assign(np.zeros(variable.shape))
    assert Checkpoints(tmp_path, trainer, keep=1).restore()
    rates = [v.path.endswith("/learning_rate") for model in models for v in model.variables]
    after = [np.array(v) for model in models for v in model.variables]
    for old, new, is_rate in zip(before, after, rates, strict=True):
        np.testing.assert_array_equal(new, np.zeros_like(old) if is_rate else old)


@pytest.mark.parametrize(("bad", "restored"), [("loss", 1.0), ("gradient_norm", 2.0)])
def test_divergence_leaves_the_last_good_state_as_the_newest(trainer, tmp_path, bad, restored):
    """If the loss at step 3 is not finite, the state after step 2 is bad already."""
    checkpoints = Checkpoints(tmp_path, trainer, keep=3)
    for step in (1, 2):
        advance(trainer, step)
        checkpoints.save()
    advance(trainer, 3)
    with pytest.raises(TrainingDivergedError, match=f"step 3: {bad} is not finite"):
        check_finite({"mse": 1.0, bad: np.nan}, 3, checkpoints)
    assert Checkpoints(tmp_path, trainer, keep=3).restore()
    assert bias(trainer) == restored
    # The run continues from there.
    advance(trainer, 3)
    assert checkpoints.save()


def test_the_only_checkpoint_is_never_discarded(trainer, tmp_path):
    checkpoints = Checkpoints(tmp_path, trainer, keep=1)
    checkpoints.save()
    assert not checkpoints.discard(checkpoints.step)
    assert checkpoints.restore()
    earlier = tmp_path / "step-0.npz"  # the runner's
    np.savez(earlier)
    advance(trainer, 1)
    checkpoints.save()
    assert checkpoints.discard(checkpoints.step)
    assert find_checkpoints(tmp_path) == [earlier]
