"""Photos from folders, scikit-image's samples and tensorflow-datasets."""

import importlib.util
import os
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srgan_tf.data import sources
from srgan_tf.data.sources import open_source
from srgan_tf.errors import UserError
from srgan_tf.images import read_photo

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (12, 20, 3), np.uint8)


def save(path, pixels=PHOTO, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def test_a_folder_is_searched_recursively_for_any_case_of_suffix(tmp_path):
    for name in ("b.png", "a/deep/x.PNG", "a/y.JpEg", "c.webp", "d.TIFF", "e.bmp"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / "folder.png").mkdir()
    source = open_source(str(tmp_path))
    photos = dict(source.photos())
    assert list(photos) == ["a/deep/x.PNG", "a/y.JpEg", "b.png", "c.webp", "d.TIFF", "e.bmp"]
    assert source.count == len(photos)
    assert all(photo.shape == PHOTO.shape for photo in photos.values())
    np.testing.assert_array_equal(photos["b.png"], PHOTO)


def test_links_to_photos_elsewhere_are_followed(tmp_path):
    elsewhere = save(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link.png").symlink_to(elsewhere)
    ((name, photo),) = open_source(str(tmp_path / "photos")).photos()
    assert name == "link.png"
    np.testing.assert_array_equal(photo, PHOTO)


def test_a_tilde_is_expanded(tmp_path, monkeypatch):
    save(tmp_path / "photos" / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("~/photos").count == 1


def test_photos_are_tried_again_once_they_may_be_readable(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    before = open_source(str(tmp_path)).cache_key
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    assert open_source(str(tmp_path)).cache_key != before
    monkeypatch.undo()
    (tmp_path / "b.heic").touch()
    keys = set()
    for spec in (None, object()):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        keys.add(open_source(str(tmp_path)).cache_key)
    assert len(keys) == 2


def test_a_broken_file_yields_its_error_and_the_others_are_read(tmp_path):
    save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"nothing of the kind")
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    photos = dict(open_source(str(tmp_path)).photos())
    assert isinstance(photos["a.png"], Exception)
    assert isinstance(photos["c.png"], Exception)
    np.testing.assert_array_equal(photos["b.png"], PHOTO)


@pytest.mark.filterwarnings("ignore")  # Pillow's, on broken metadata
@given(suffix=st.sampled_from(["png", "jpg", "webp", "bmp", "tif"]), data=st.data())
@settings(max_examples=150)
def test_any_damage_to_a_file_gives_a_photo_or_an_error(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.getbasetemp() / suffix
    path = save(folder / f"x.{suffix}")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 200) - 1))] = data.draw(
            st.integers(0, 9)
        )
    path.write_bytes(content)
    ((_, photo),) = open_source(str(folder)).photos()
    assert isinstance(photo, Exception) or (photo.dtype == np.uint8 and photo.shape[2:] == (3,))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "x.png", exif=exif)
    upright = {
        1: PHOTO,
        2: PHOTO[:, ::-1],
        3: PHOTO[::-1, ::-1],
        4: PHOTO[::-1],
        5: PHOTO.transpose(1, 0, 2),
        6: np.rot90(PHOTO, -1),
        7: PHOTO[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PHOTO),
    }[orientation]
    np.testing.assert_array_equal(read_photo(path), upright)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_levels(tmp_path, suffix):
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # 0, 257, … 65535
    photo = read_photo(save(tmp_path / f"x.{suffix}", levels))
    np.testing.assert_array_equal(photo, np.repeat((levels // 257)[..., None], 3, -1))


def test_other_modes_become_rgb(tmp_path):
    grey = PHOTO[..., 0]
    np.testing.assert_array_equal(
        read_photo(save(tmp_path / "grey.png", grey)), np.stack([grey] * 3, -1)
    )
    rgba = np.concatenate([PHOTO, np.full((12, 20, 1), 255, np.uint8)], -1)
    np.testing.assert_array_equal(read_photo(save(tmp_path / "rgba.png", rgba)), PHOTO)
    palette = Image.fromarray(PHOTO // 128 * 255).convert("P", palette=Image.Palette.WEB)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "palette.png"), PHOTO // 128 * 255)


def test_32_bit_pixels_are_an_error_not_a_white_photo(tmp_path):
    save(tmp_path / "x.tif", np.full((8, 8), 0.5, np.float32))
    ((_, error),) = open_source(str(tmp_path)).photos()
    assert "8 or 16 bits" in str(error)


def test_the_key_changes_with_the_files(tmp_path):
    path = save(tmp_path / "a.png")
    keys = [open_source(str(tmp_path)).cache_key, open_source(str(tmp_path)).cache_key]
    assert keys[0] == keys[1]
    save(path, PHOTO[::-1])
    os.utime(path, ns=(1, 1))
    keys.append(open_source(str(tmp_path)).cache_key)
    path.rename(tmp_path / "b.png")
    keys.append(open_source(str(tmp_path)).cache_key)
    save(tmp_path / "c.png")
    keys.append(open_source(str(tmp_path)).cache_key)
    assert len(set(keys)) == 4


def test_folders_without_photos_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no photo in this folder"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        open_source(str(save(tmp_path / "file.png")))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~no_such_user_here/photos"])
def test_a_name_that_cannot_be_a_folder_is_refused(name):
    with pytest.raises(UserError, match="can't be read"):
        open_source(name)


def test_samples_come_with_scikit_image():
    source = open_source("samples")
    names, photos = zip(*source.photos(), strict=True)
    assert names == sources.SAMPLES
    assert len(photos) == source.count
    assert all(min(photo.shape[:2]) >= 256 and photo.shape[2] == 3 for photo in photos)


# tensorflow-datasets. Data sets are written by its writer to $TFDS_DATA_DIR and opened by name, as
# a user's are.


@pytest.fixture(scope="module")
def tfds():
    import tensorflow_datasets

    return tensorflow_datasets


@pytest.fixture
def stored(tfds):
    """Return a function that writes a data set and returns its name."""

    def store(feature, key, images, split="train"):
        name = f"stored_{uuid.uuid4().hex}"
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict({key: feature}),
            split_datasets={split: [(i, {key: image}) for i, image in enumerate(images)]},
            data_dir=os.environ["TFDS_DATA_DIR"],
            disable_shuffling=True,
        )
        return f"tfds:{name}"

    return store


def test_a_tfds_data_set_prepared_from_local_files(tfds, stored):
    images = [PHOTO, PHOTO[:8, ::-1]]
    name = stored(tfds.features.Image(shape=(None, None, 3)), "picture", images)
    source = open_source(name)
    names, photos = zip(*source.photos(), strict=True)
    assert source.count == len(set(names)) == 2
    for photo, image in zip(photos, images, strict=True):
        np.testing.assert_array_equal(photo, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_tfds_images_become_8_bit_rgb(tfds, stored, dtype):
    grey = PHOTO[..., :1].astype(dtype) * (257 if dtype == np.uint16 else 1)
    name = stored(tfds.features.Image(shape=(None, None, 1), dtype=dtype), "image", [grey])
    ((_, photo),) = open_source(name).photos()
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, np.repeat(PHOTO[..., :1], 3, -1))


def test_tfds_data_sets_with_other_contents_have_other_keys(tfds, stored):
    feature = tfds.features.Image(shape=(None, None, 3))
    keys = {open_source(stored(feature, "image", [PHOTO] * n)).cache_key for n in (1, 2)}
    assert len(keys) == 2


def test_a_tfds_data_set_without_train_split_or_image_is_refused(tfds, stored):
    feature = tfds.features.Image(shape=(None, None, 3))
    with pytest.raises(UserError, match="has no train split; give another dataset"):
        open_source(stored(feature, "image", [PHOTO], split="test"))
    with pytest.raises(UserError, match=r"needs one image feature.*it has none"):
        open_source(stored(tfds.features.Scalar(np.int32), "label", [1]))


@pytest.mark.parametrize(("name", "channels"), [("div2k/bicubic_x4", 3), ("mnist", 1)])
def test_known_tfds_names(tfds, tmp_path, name, channels):
    builder = tfds.builder(name, data_dir=tmp_path)
    train = tfds.core.splits.SplitInfo(
        name="train", shard_lengths=[2], num_bytes=1, filename_template=None
    )
    builder.info.set_splits(tfds.core.splits.SplitDict([train]))
    Path(builder.data_path).mkdir(parents=True)
    builder.info.write_to_directory(builder.data_path)
    with tfds.testing.mock_data(num_examples=2, data_dir=str(tmp_path)):
        photos = [photo for _, photo in open_source(f"tfds:{name}").photos()]
    assert len(photos) == 2
    for photo in photos:
        assert photo.dtype == np.uint8
        assert photo.shape[2] == 3
        assert np.all(photo[..., :1] == photo) == (channels == 1)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("div2", "did you mean tfds:div2k?"),
        ("div2k/bicubic_x5", "tfds:div2k/bicubic_x5"),
        ("mnist:9.9.9", "mnist"),
        ("nothing_like_any_of_them", "for example tfds:div2k/bicubic_x4"),
        ("", "for example tfds:div2k/bicubic_x4"),
        ("not a name", "tfds:not a name"),
    ],
)
def test_an_unknown_tfds_name_is_refused_in_one_line(name, hint):
    with pytest.raises(UserError) as caught:
        open_source(f"tfds:{name}")
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_error_of_a_failed_tfds_download_names_the_alternatives(tfds, monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(UserError, match=r"no network.*a folder of photos, or samples"):
        open_source("tfds:div2k/bicubic_x4")
