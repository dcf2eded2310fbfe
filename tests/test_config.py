"""Recipes: reading, overriding and writing, and errors on wrong ones."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from srgan_tf.config import Config, read_config, write_config
from srgan_tf.errors import UserError
from srgan_tf.recipes import recipes

MINIMAL = "name: tiny\npretrain: {steps: 100}\n"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(MINIMAL)
    return path


def error_of(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read_config(path, list(overrides))
    return str(caught.value)


@pytest.mark.parametrize("path", recipes().values(), ids=recipes())
def test_every_recipe_survives_writing_and_reading(path, tmp_path):
    config = read_config(path)
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config


def test_every_gan_phase_has_the_adversarial_loss():
    phases = {
        (name, phase.name): phase.section
        for name, path in recipes().items()
        for phase in read_config(path).phases()
        if phase.stage == "gan"
    }
    assert ("quickstart", "gan") in phases
    assert [name for name, section in phases.items() if "adversarial" not in section.losses] == []


def test_null_instead_of_a_default_survives_writing(recipe, tmp_path):
    config = read_config(recipe, ["gan.start_from=null"])
    assert config.gan.start_from is None
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("precison=float32", "unknown key precison, did you mean precision?"),
        ("data.batchsize=4", "unknown key data.batchsize, did you mean data.batch_size?"),
        ("pretrain.step=4", "unknown key pretrain.step, did you mean pretrain.steps?"),
        (
            "gan.losses.adversarail=1",
            "unknown loss gan.losses.adversarail, did you mean gan.losses.adv",
        ),
        ("generator.block=4", "unknown key generator.block, did you mean generator.blocks?"),
        ("vgg.zzz=4", "unknown key vgg.zzz; the keys here are weights"),
        (
            "data.degradation={passes: [{jpg: {}}]}",
            "unknown key data.degradation.passes.0.jpg, did you mean data.degradation.passes.0.jpe",
        ),
        ("data.degradation={passes: [{}, {jpeg: {qualty: 3}}]}", "passes.1.jpeg.quality?"),
        ("name.x=4", "name is not a section"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(recipe, override, nearest):
    assert nearest in error_of(recipe, override)


@pytest.mark.parametrize(
    "override",
    [
        "name=Not A Name",
        "seed=-1",
        "seed=4294967296",
        "precision=float64",
        "generator.scale=3",
        "generator.blocks=0",
        "generator.filters=2",
        "data.source=",
        "data.hr_crop=8",
        "data.batch_size=0",
        "data.batch_size=2.5",
        "data.validation_crop=31",
        "pretrain.steps=0",
        "pretrain.batch_size=0",
        "pretrain.clean=-0.1",
        "pretrain.losses={}",
        "pretrain.losses.mse=0",
        "data.degradation.clean=1.5",
        "data.degradation.passes=[]",
        "pretrain.learning_rate=0",
        "pretrain.learning_rate=nan",
        "pretrain.learning_rate=.inf",
        "pretrain.schedule=linear",
        "pretrain.ema=1",
        "gan.losses.adversarial=-1e-3",
        "gan.discriminator.architecture=resnet",
        "checkpoint_every=0",
    ],
)
def test_a_value_out_of_range_is_refused_and_its_key_named(recipe, override):
    message = error_of(recipe, override)
    assert str(recipe) in message
    assert override.partition("=")[0] in message


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["pretrain.warmup_steps=10"], "warmup_steps needs schedule: cosine"),
        (["pretrain.schedule=cosine", "pretrain.warmup_steps=100"], "must be below steps"),
        (["data.hr_crop=18"], "data.hr_crop must be a multiple of 4"),
        (["gan.steps=5", "data.hr_crop=88"], "data.hr_crop must be a multiple of 16"),
        (["generator.scale=8", "data.validation_crop=100"], "must be a multiple of 8"),
        (["pretrain.losses.adversarial=1"], "losses.adversarial needs the stage gan"),
        (
            ["data.degradation.passes=[{jpeg: {quality: [90, 30]}}]"],
            "quality must be [low, high], not [90, 30]",
        ),
        (["pretrain=null"], "needs a section pretrain or gan"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(recipe, overrides, reason):
    assert reason in error_of(recipe, *overrides)


def test_each_architecture_has_its_own_keys(recipe):
    config = read_config(recipe, ["generator.architecture=drcn", "generator.filters=32"])
    assert config.generator.model_dump() == {
        "architecture": "drcn",
        "scale": 4,
        "filters": 32,
        "recursions": 16,
        "block": 1,
    }
    assert read_config(recipe).generator.architecture == "srresnet"
    message = error_of(recipe, "generator.architecture=drcn", "generator.recursion=3")
    assert "unknown key generator.recursion, did you mean generator.recursions?" in message
    message = error_of(recipe, "generator.architecture=drnc")
    assert "generator: architecture must be one of srresnet, ecbsr, srcnn, espcn, drcn" in message
    message = error_of(recipe, "generator.architecture=srcnn", "pretrain.losses.vgg54=1")
    assert "pretrain.losses can be mse and l1, not vgg54" in message


def test_overrides_are_read_by_their_keys_type(recipe):
    config = read_config(
        recipe,
        [
            "pretrain.learning_rate=1e-4",
            "pretrain.steps=2e3",
            "deterministic=true",
            "data.source=2024",
            "vgg.weights=a#b: c.h5",
            "gan.start_from=1e4",
        ],
    )
    assert config.pretrain.learning_rate == 1e-4
    assert config.pretrain.steps == 2000
    assert config.deterministic is True
    assert config.data.source == "2024"
    assert config.vgg.weights == "a#b: c.h5"
    assert config.gan.start_from == "1e4"


def test_a_value_nested_too_deeply_is_refused(recipe):
    assert "the value is not valid YAML" in error_of(recipe, "seed=" + "[" * 1000)


def test_the_last_override_of_a_key_counts(recipe):
    assert read_config(recipe, ["seed=1", "seed=2"]).seed == 2


def test_the_error_of_a_missing_stage_names_the_present_one(recipe):
    with pytest.raises(UserError, match="choose --stage pretrain"):
        read_config(recipe).phases("gan")


def test_a_phase_can_have_its_own_batch_size_and_share_of_clean_crops(recipe):
    changes = ["data.batch_size=8", "gan.batch_size=4", "gan.steps=9", "pretrain.clean=0.3"]
    message = error_of(recipe, *changes)
    assert "pretrain.clean needs a section data.degradation" in message
    config = read_config(recipe, [*changes, "data.degradation.clean=0.7", "data.hr_crop=64"])
    pretrain, gan = map(config.data_of, config.phases())
    assert (pretrain.batch_size, pretrain.degradation.clean) == (8, 0.3)
    assert (gan.batch_size, gan.degradation.clean) == (4, 0.7)
    assert pretrain.degradation.passes == config.data.degradation.passes
    assert pretrain.hr_crop == gan.hr_crop == 64
    assert (config.data.batch_size, config.data.degradation.clean) == (8, 0.7)


PHASED = """
name: tiny
pretrain: {steps: 100}
gan:
- {steps: 20}
- {steps: 10, losses: {mse: 1.0}, start_from: srgan-vgg54}
"""


def test_a_stage_can_have_several_phases(tmp_path):
    path = tmp_path / "phased.yaml"
    path.write_text(PHASED)
    config = read_config(path)
    phases = config.phases()
    assert [(p.name, p.stage, p.index, p.index_in_stage) for p in phases] == [
        ("pretrain", "pretrain", 0, 0),
        ("gan-1", "gan", 1, 0),
        ("gan-2", "gan", 2, 1),
    ]
    assert [p.section.start_from for p in phases] == ["previous", "previous", "srgan-vgg54"]
    assert [p.name for p in config.phases("gan")] == ["gan-1", "gan-2"]
    assert [p.name for p in config.phases("gan-2")] == ["gan-2"]
    with pytest.raises(UserError, match="no phase gan-3, only pretrain, gan-1, gan-2"):
        config.phases("gan-3")
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config


def test_an_override_sets_one_phase_or_all_of_a_stage(tmp_path):
    path = tmp_path / "phased.yaml"
    path.write_text(PHASED)
    overrides = ["gan.ema=0.5", "gan-2.losses.l1=3", "gan-2.start_from=1e4"]
    first, second = read_config(path, overrides).gan
    assert (first.ema, second.ema) == (0.5, 0.5)
    assert "l1" not in first.losses and second.losses == {"mse": 1.0, "l1": 3.0}
    assert second.start_from == "1e4"
    for override, message in (
        ("gan-3.ema=0.5", "--set gan-3.ema=0.5: the recipe has no phase gan-3"),
        ("pretrain-1.ema=0.5", "the recipe has no phase pretrain-1"),
        ("gan-2=1", "--set gan-2=1: name a key of the phase, such as gan-2.steps"),
        ("gan-2.step=1", "unknown key gan-2.step, did you mean gan-2.steps?"),
        ("gan-2.losses.msee=1", "unknown loss gan-2.losses.msee, did you mean gan-2.losses.mse?"),
        ("gan-1.ema=2", "gan-1.ema: Input should be less than 1"),
        ("gan=[]", "gan: "),
    ):
        assert message in error_of(path, override)


def test_a_list_of_wrong_phases_is_not_also_too_short(tmp_path):
    path = tmp_path / "phased.yaml"
    path.write_text("name: a\npretrain: [5]\n")
    assert "pretrain-1: " in error_of(path) and "at least 1" not in error_of(path)
    assert "pretrain: Tuple should have at least 1 item" in error_of(path, "pretrain=[]")


@pytest.mark.parametrize("text", ["", "[1, 2]", "name: [", "name: a\x00b", "name: 2024-99-99"])
def test_a_file_that_is_no_recipe_is_named(text, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert str(path) in error_of(path)


def test_a_folder_or_a_binary_file_is_refused(tmp_path):
    assert "not a readable YAML file" in error_of(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    assert "not a readable YAML file" in error_of(tmp_path / "binary.yaml")


def test_a_key_that_is_given_twice_is_refused_but_may_override_a_merged_one(tmp_path):
    path = tmp_path / "a.yaml"
    text = "name: a\nbase: &base {steps: 1}\npretrain:\n  <<: *base\n  steps: 2\n"
    path.write_text(text.replace("base: &base", "pretrain: &base") + "gan: {steps: 3}\n")
    assert "the key pretrain is given twice" in error_of(path)
    path.write_text("name: a\npretrain: &base {steps: 1}\ngan:\n  <<: *base\n  steps: 2\n")
    config = read_config(path)
    assert (config.pretrain.steps, config.gan.steps) == (1, 2)


# Nearly valid text: keys and values of recipes, and YAML's special forms.
KEYS = st.sampled_from(
    ["name", "seed", "data", "data.source", "pretrain.steps", "gan.ema", "gan-1.ema", "gan", "a.b"]
)
VALUES = st.sampled_from(
    ["[1, {}]", "0x_", "2024-99-99", "[[", "&a [*a]", "1" * 5000, "9e999", "{1: 2}"]
)


@given(st.text() | st.builds("{}={}".format, KEYS, st.text() | VALUES))
@example("seed=0x_")
@example("pretrain.learning_rate=" + "1" * 400)
@example("data.source=\ud800")
@example("generator.architecture=[1]")
@example("generator=srcnn")
def test_any_override_validates_or_raises_a_user_error(recipe, override):
    try:
        assert isinstance(read_config(recipe, [override]), Config)
    except UserError as error:
        assert str(error)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text()
    | TREES.map(yaml.safe_dump)
    | st.dictionaries(st.sampled_from(list(Config.model_fields)), TREES).map(yaml.safe_dump)
)
@example("&a {name: *a}")
@example("1: 2")
@example("name: x\npretrain: {1: 2}")
@example("name: x\npretrain: [{}, {1: 2}, 3]")
@example("name: x\ngan: 0001-01-01 00:00:00 +23:59")
def test_any_file_validates_or_raises_a_user_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(read_config(path), Config)
    except UserError as error:
        assert str(path) in str(error)
