"""The cache folder."""

import pytest

from srgan_tf import cache
from srgan_tf.cache import cache_folder, writable_cache
from srgan_tf.errors import UserError


@pytest.fixture(autouse=True)
def variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path / "cache"))


def test_without_a_home_folder_the_cache_is_the_variables_or_an_error(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache.Path, "home", no_home)
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SRGAN_TF_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UserError, match="set SRGAN_TF_CACHE=DIR to another"):
        cache_folder()


def test_a_folder_in_the_cache_is_made_or_refused(monkeypatch, tmp_path):
    assert writable_cache("evaluation") == tmp_path / "cache" / "evaluation"
    monkeypatch.setattr(cache.os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"Permission denied\); set SRGAN_TF_CACHE=DIR to move it"):
        writable_cache("evaluation")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SRGAN_TF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache_folder()) == "/xdg/srgan_tf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_folder()) == "/home/someone/.cache/srgan_tf"
