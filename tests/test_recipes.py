"""Recipes by name: the order of the search, and errors on unknown names."""

import subprocess
import sys
from pathlib import Path

import pytest

import srgan_tf
from srgan_tf.errors import UserError
from srgan_tf.recipes import find_recipe

FOLDER = Path(srgan_tf.__file__).parent / "recipes"


def error_of(name) -> str:
    with pytest.raises(UserError) as caught:
        find_recipe(name)
    return str(caught.value)


@pytest.mark.parametrize("name", ["srgan_photo", "srgan_photo.yaml", Path("srgan_photo")])
def test_a_packaged_recipe_is_found_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) == FOLDER / "srgan_photo.yaml"


def test_a_file_takes_precedence_over_a_recipe_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.yaml").touch()
    (tmp_path / "srgan_photo").mkdir()
    assert find_recipe("quickstart.yaml") == Path("quickstart.yaml")
    assert find_recipe("quickstart") == FOLDER / "quickstart.yaml"
    assert find_recipe("srgan_photo") == FOLDER / "srgan_photo.yaml"


def test_the_error_of_an_unknown_name_suggests_the_nearest(tmp_path):
    message = error_of("srgan_foto.yaml")
    assert "srgan_foto.yaml: no such recipe, did you mean srgan_photo?" in message
    assert message.endswith(str(FOLDER))
    # The recipes' former folder.
    assert "did you mean quickstart?" in error_of("configs/quickstart.yaml")
    (tmp_path / "portraits.yaml").touch()
    near = error_of(tmp_path / "portrait.yaml")
    assert f"did you mean {tmp_path / 'portraits.yaml'}?" in near
    assert "did you mean" not in error_of(tmp_path / "nowhere" / "x.yaml")
    assert "can't be read" in error_of("x" * 5000)


def test_train_finds_a_recipe_from_any_folder(tmp_path):
    code = "from srgan_tf.cli import main; main()"
    for name, expected in (
        ("quickstart", "pretrain.learning_rat, did you mean pretrain.learning_rate?"),
        ("quikstart", "quikstart: no such recipe, did you mean quickstart?"),
    ):
        words = ["train", "--stage", "pretrain", "--config", name]
        wrong = subprocess.run(
            [sys.executable, "-c", code, *words, "--set", "pretrain.learning_rat=1"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert wrong.returncode == 2 and expected in wrong.stderr
    assert not list(tmp_path.iterdir())
