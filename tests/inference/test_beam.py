import io
import json
import os
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from test_images import pixels
from test_upscaler import random_generator

REASON = "needs Apache Beam: pip install -e '.[beam]'"
beam = pytest.importorskip("apache_beam", reason=REASON)

from apache_beam.io import filesystem  # noqa: E402
from apache_beam.io.filesystems import FileSystems  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402

from srgan_tf import Upscaler, images  # noqa: E402
from srgan_tf.errors import ImageError, UserError  # noqa: E402
from srgan_tf.files import Output  # noqa: E402
from srgan_tf.inference.beam import job, pipeline, storage  # noqa: E402
from srgan_tf.inference.beam.job import Summary, read_failures, upscale_batch  # noqa: E402
from srgan_tf.inference.beam.pipeline import Job, Settings, UpscaleHandler  # noqa: E402

HERE = ("--direct_running_mode=in_memory", "--direct_num_workers=1")  # no processes to start


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    random_generator(scale=2).save(path)
    return path


@pytest.fixture(scope="module")
def upscaler(weights):
    return Upscaler(weights, tile=16)


@pytest.fixture
def run(weights):
    def run(*inputs, out, overwrite=False, options=(), model=weights, output=Output()):  # noqa: B008
        settings = Settings(str(model), tile=16)
        inputs = [str(path) for path in inputs]
        return upscale_batch(
            inputs,
            str(out),
            settings,
            overwrite,
            runner_options=[*HERE, *options],
            output=output,
        )

    return run


def photo(path, height=10, width=14, seed=0):
    rng = np.random.default_rng(seed)
    images.write_image(path, rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return path


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_results_are_those_of_upscale_and_keep_their_place(run, upscaler, tmp_path):
    source, out = tmp_path / "in", tmp_path / "in" / "out"
    for index, (channels, dtype) in enumerate(
        (channels, dtype) for channels in (1, 2, 3, 4) for dtype in (np.uint8, np.uint16)
    ):
        path = source / ("sub/deep" if index % 2 else "") / f"{index}.png"
        images.write_image(path, pixels(channels, dtype, 20 + 9 * index, 40), b"", (300, 300))
    photo(source / "a.JPG")
    (source / "notes.txt").write_text("not a photo")
    megapixels = (sum(2 * (20 + 9 * index) * 80 for index in range(8)) + 20 * 28) / 1e6
    assert run(source, out=out) == Summary(9, 0, 0, pytest.approx(megapixels))
    for path in [p for p in source.rglob("*.*") if out not in p.parents and p.suffix != ".txt"]:
        expected = tmp_path / "expected" / path.name
        upscaler.upscale_file(path, expected)
        assert (out / path.relative_to(source)).read_bytes() == expected.read_bytes()
    assert len(files(out)) == 9


def test_results_of_one_format(run, upscaler, tmp_path):
    exif = Image.Exif()
    exif[0x10F] = "Maker"
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for index, name in enumerate(("a.png", "sub/b.webp", "c.jpeg")):
        image = Image.fromarray(pixels(4 if index < 2 else 3, seed=index))
        image.putalpha(255) if index < 2 else None
        image.save(tmp_path / "in" / name, exif=exif)
    output = Output("jpg", 40, strip_metadata=True)
    assert run(tmp_path / "in", out=tmp_path / "out", output=output).enlarged == 3
    assert files(tmp_path / "out") == ["a.jpg", "c.jpeg", "sub/b.jpg"]
    upscaler.upscale_file(tmp_path / "in" / "a.png", tmp_path / "a.jpg", 40, strip_metadata=True)
    assert (tmp_path / "out" / "a.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()
    assert not images.read_image(tmp_path / "a.jpg").metadata.exif
    assert run(tmp_path / "in", out=tmp_path / "out", output=output).skipped == 3
    assert run(tmp_path / "in", out=tmp_path / "kept").enlarged == 3
    assert images.read_image(tmp_path / "kept" / "c.jpeg").metadata.exif


def test_alpha_that_the_format_does_not_support_is_a_failure(run, tmp_path):
    images.write_image(tmp_path / "in" / "a.png", pixels(4))
    summary = run(tmp_path / "in", out=tmp_path / "out", output=Output("jpg"))
    (failure,) = read_failures(str(tmp_path / "out"))
    assert summary.failed == 1
    assert failure["reason"] == ".jpg has no alpha channel; write .png, .webp or .tif"


def test_failures_are_recorded_with_their_reasons(run, tmp_path):
    photo(tmp_path / "in" / "good.png")
    for name in ("empty.png", "text.jpg"):
        (tmp_path / "in" / name).write_text("" if name == "empty.png" else "not an image")
    photo(tmp_path / "in" / "wide.webp", 1, 9000)
    photo(tmp_path / "other" / "good.png")
    out = tmp_path / "out"
    summary = run(tmp_path / "in", tmp_path / "other" / "good.png", out=out)
    assert (summary.enlarged, summary.skipped, summary.failed) == (0, 0, 5)
    assert files(out) == ["failures.jsonl"]
    reasons = {Path(line["file"]).name: line["reason"] for line in read_failures(str(out))}
    assert reasons["empty.png"] == "an empty file"
    assert reasons["text.jpg"] == "not a PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC image"
    assert reasons["wide.webp"] == "18000×2 is more than .webp holds; write .png or .tif"
    assert reasons["good.png"].startswith(f"{out}/good.png would be the result of ")

    for path in (tmp_path / "in").iterdir():
        photo(path)
    summary = run(tmp_path / "in", out=out)
    assert (summary.enlarged, summary.failed) == (4, 0)
    assert "failures.jsonl" not in files(out) and read_failures(str(out)) == []


@pytest.mark.parametrize("error", [MemoryError(), ImageError("not enough memory in TMPDIR")])
def test_a_photo_without_memory_for_its_result_fails_alone(run, tmp_path, monkeypatch, error):
    photo(tmp_path / "in" / "large.png", 30, 30)
    photo(tmp_path / "in" / "small.png")
    upscale_all = Upscaler.upscale_all

    def limited(self, photos):
        if any(len(pixels) == 30 for pixels in photos):
            raise error
        return upscale_all(self, photos)

    monkeypatch.setattr(Upscaler, "upscale_all", limited)
    summary = run(tmp_path / "in", out=tmp_path / "out")
    assert (summary.enlarged, summary.failed) == (1, 1)
    (failure,) = read_failures(str(tmp_path / "out"))
    assert failure["file"].endswith("large.png") and "not enough memory" in failure["reason"]


def test_results_that_cannot_be_written_are_recorded(run, tmp_path):
    photo(tmp_path / "in" / "a" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("in the way")
    summary = run(tmp_path / "in", out=tmp_path / "out")
    assert (summary.enlarged, summary.failed) == (0, 1)
    assert files(tmp_path / "out") == ["a", "failures.jsonl"]


def test_a_bundle_that_runs_twice_leaves_one_result(run, upscaler, tmp_path):
    for index in range(3):
        photo(tmp_path / "in" / f"{index}.png", seed=index)
    run(tmp_path / "in", out=tmp_path / "out", options=["--direct_runner_bundle_repeat=1"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    for index in range(3):
        upscaler.upscale_file(tmp_path / "in" / f"{index}.png", tmp_path / "expected.png")
        expected = (tmp_path / "expected.png").read_bytes()
        assert (tmp_path / "out" / f"{index}.png").read_bytes() == expected


@pytest.mark.parametrize("at", ["before", "after"])
def test_a_retry_after_a_failed_rename_leaves_one_result(tmp_path, monkeypatch, at):
    """The worker is lost after writing its temporary file, or the result."""
    out, partial = tmp_path / "out", tmp_path / "out" / ".partial-1"
    job = Job("a.png", str(out / "a.png"), images.Photo(pixels(3, np.uint8, 8, 9)))
    write = pipeline._Write(str(partial), None, Output())
    rename = FileSystems.rename

    def lost(sources, targets):
        if at == "after":
            rename(sources, targets)
        raise KeyboardInterrupt

    monkeypatch.setattr(FileSystems, "rename", lost)
    with pytest.raises(KeyboardInterrupt):
        list(write.process(job))
    monkeypatch.setattr(FileSystems, "rename", rename)
    assert list(write.process(job)) == []
    storage.delete(str(partial))
    assert [path.name for path in out.iterdir()] == ["a.png"]
    np.testing.assert_array_equal(images.read_image(out / "a.png").pixels, job.photo.pixels)


def test_simultaneous_attempts_leave_one_result(tmp_path, monkeypatch):
    """The second attempt runs between the first one's writing and renaming."""
    out, partial = tmp_path / "out", tmp_path / "out" / ".partial-1"
    job = Job("a.png", str(out / "a.png"), images.Photo(pixels(3, np.uint8, 8, 9)))
    write, rename = pipeline._Write(str(partial), None, Output()), FileSystems.rename

    def overtaken(sources, targets):
        monkeypatch.setattr(FileSystems, "rename", rename)
        assert list(write.process(job)) == []
        rename(sources, targets)

    monkeypatch.setattr(FileSystems, "rename", overtaken)
    assert list(write.process(job)) == []
    assert files(out) == ["a.png"]


def test_existing_results_are_skipped_unless_overwritten(run, tmp_path):
    for name in ("a.png", "sub/b.png"):
        photo(tmp_path / "in" / name)
    done = tmp_path / "out" / "sub" / "b.png"
    done.parent.mkdir(parents=True)
    done.write_text("mine")
    summary = run(tmp_path / "in", out=tmp_path / "out")
    assert (summary.enlarged, summary.skipped, summary.failed) == (1, 1, 0)
    assert done.read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "in")
    inputs = [tmp_path / "in", tmp_path / "link", tmp_path / "in" / "*.png"]
    summary = run(*inputs, out=tmp_path / "out", overwrite=True)
    assert (summary.enlarged, summary.skipped, summary.failed) == (2, 0, 0)
    assert images.read_image(done).pixels.shape == (20, 28, 3)


@pytest.mark.parametrize("name", ["trip [2020]", "what?", os.fsdecode(b"caf\xe9")])
def test_names_are_not_patterns(run, tmp_path, name):
    """Names of folders, files, results and failures need not be UTF-8 either."""
    source, out = tmp_path / "in" / name, tmp_path / "out" / name
    photo(source / f"{name}.png")
    (source / f"{name}.jpg").touch()
    for overwrite, counts in ((False, (1, 0, 1)), (False, (0, 1, 1)), (True, (1, 0, 1))):
        summary = run(source, out=out, overwrite=overwrite)
        assert (summary.enlarged, summary.skipped, summary.failed) == counts
        assert files(out) == sorted(["failures.jsonl", f"{name}.png"])
        assert not [path for path in out.iterdir() if path.is_dir()]
        (failure,) = read_failures(str(out))
        assert failure == {"file": f"{source}/{name}.jpg", "reason": "an empty file"}
    assert run(source / f"{name}.png", out=tmp_path / "other").enlarged == 1


def test_folders_that_cannot_be_read_fail_and_links_are_followed(run, tmp_path, locked_folders):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "in" / "locked").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    summary = run(tmp_path / "in", out=tmp_path / "in" / "out")
    assert (summary.enlarged, summary.failed) == (2, 1)
    assert files(tmp_path / "in" / "out") == ["a.png", "failures.jsonl", "link/b.png"]
    (failure,) = read_failures(str(tmp_path / "in" / "out"))
    assert failure["file"] == str(tmp_path / "in" / "locked")
    assert failure["reason"] == "can't be read: Permission denied"


def test_temporary_files_of_a_killed_job_are_removed(run, tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png")
    tidy = storage.delete
    monkeypatch.setattr(storage, "delete", lambda path: None)
    monkeypatch.setattr(FileSystems, "rename", lambda sources, targets: None)
    run(tmp_path / "in", out=tmp_path / "out")
    assert [Path(name).suffix for name in files(tmp_path / "out")] == [".png"]
    assert not (tmp_path / "out" / "a.png").exists()
    monkeypatch.undo()
    assert storage.delete is tidy
    run(tmp_path / "in", out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_request_runs_only_once_at_a_time(run, tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png")
    build, errors = job.build, []

    def twice(*arguments):
        monkeypatch.undo()
        with pytest.raises(UserError) as caught:
            run(tmp_path / "in", out=tmp_path / "out")
        errors.append(str(caught.value))
        return build(*arguments)

    monkeypatch.setattr(job, "build", twice)
    assert run(tmp_path / "in", out=tmp_path / "out").enlarged == 1
    assert errors == [f"{tmp_path / 'out'}: the same command is already running"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_photo_without_memory_to_read_it_fails_alone(run, tmp_path, monkeypatch):
    for name in ("large.png", "small.png"):
        photo(tmp_path / "in" / name, 30 if name == "large.png" else 10)
    read_image = images.read_image

    def limited(path):
        pixels = read_image(path)
        if len(pixels.pixels) == 30:
            raise MemoryError
        return pixels

    monkeypatch.setattr(images, "read_image", limited)
    summary = run(tmp_path / "in", out=tmp_path / "out")
    assert (summary.enlarged, summary.failed) == (1, 1)
    (failure,) = read_failures(str(tmp_path / "out"))
    assert failure["file"].endswith("large.png") and "not enough memory" in failure["reason"]


def test_one_photo_of_a_group_fails_alone(weights):
    handler = UpscaleHandler(Settings(str(weights), tile=16))
    model = handler.load_model()
    enlarge = model.upscaler._enlarge

    def limited(lr):
        if lr.shape[1] == 9:
            raise ImageError("500: no answer")
        return enlarge(lr)

    model.upscaler._enlarge = limited
    jobs = [
        Job(f"{height}", "", images.Photo(np.zeros((height, 8, 3), np.uint8)))
        for height in (8, 9, 10)
    ]
    done = handler.run_inference(jobs, model)
    assert done[1] == (jobs[1], "500: no answer")
    assert [done[i].photo.pixels.shape for i in (0, 2)] == [(16, 16, 3), (20, 16, 3)]


def test_tiles_of_one_size_share_a_batch(weights):
    handler = UpscaleHandler(Settings(str(weights), tile=16, tile_batch_size=3))
    model = handler.load_model()
    sizes = [(10, 12), (9, 8), (10, 12), (10, 12), (9, 8), (10, 12)]
    jobs = [
        Job(f"{i}", f"{i}", images.Photo(np.full((*size, 3), 40 * i, np.uint8)))
        for i, size in enumerate(sizes)
    ]
    shapes = []
    enlarge = model.upscaler._enlarge
    model.upscaler._enlarge = lambda lr: (shapes.append(tuple(lr.shape)), enlarge(lr))[1]
    done = handler.run_inference(jobs, model)
    assert shapes == [(3, 10, 12, 3), (1, 10, 12, 3), (2, 9, 8, 3)]
    alone = Upscaler(weights, tile=16)
    for before, after in zip(jobs, done, strict=True):
        assert (after.source, after.target) == (before.source, before.target)
        difference = after.photo.pixels.astype(int) - alone.upscale(before.photo.pixels)
        assert np.abs(difference).max() <= 1


def test_a_group_has_the_pixels_of_one_tile_and_at_most_8_photos():
    kwargs = UpscaleHandler(Settings(tile=16)).batch_elements_kwargs()
    sizes = [(8, 8), (8, 8), (4, 4), (40, 40), (16, 16), *[(1, 1)] * 10]
    jobs = [Job("a", "b", images.Photo(np.zeros(size, np.uint8))) for size in sizes]
    with beam.Pipeline(argv=["--allow_unsafe_triggers"]) as p:
        groups = (
            p
            | beam.Create([jobs])
            | beam.FlatMap(list)
            | beam.BatchElements(**kwargs)
            | beam.Map(lambda group: [job.photo.pixels.shape for job in group])
            | beam.Filter(bool)  # Beam flushes before a photo larger than a group
        )
        assert_that(
            groups,
            equal_to([sizes[:3], sizes[3:4], sizes[4:5], sizes[5:13], sizes[13:]]),
        )


class Bucket(filesystem.FileSystem):
    """An object store in memory, with names and without folders."""

    objects: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls):
        return "bucket"

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, prefix):
        for name in sorted(self.objects):
            if name.startswith(prefix):
                yield self.metadata(name)

    def create(self, path, mime_type="", compression_type=""):
        assert mime_type in ("image/png", "application/octet-stream", "text/plain")
        return _Written(path)

    def open(self, path, mime_type="", compression_type=""):
        if path not in self.objects:
            raise filesystem.BeamIOError(f"{path}: gone")
        return _Written(None, self.objects[path])

    def copy(self, sources, targets):
        raise NotImplementedError

    def rename(self, sources, targets):
        for source, target in zip(sources, targets, strict=True):
            self.objects[target] = self.objects.pop(source)

    def exists(self, path):
        return path in self.objects

    def size(self, path):
        return len(self.objects[path])

    def last_updated(self, path):
        return 0.0

    def checksum(self, path):
        return str(self.size(path))

    def metadata(self, path):
        return filesystem.FileMetadata(path, self.size(path), 0.0)

    def delete(self, paths):
        for path in paths:
            for metadata in self.match([path])[0].metadata_list:
                del self.objects[metadata.path]


class _Written(io.BytesIO):
    def __init__(self, path, content=b""):
        super().__init__(content)
        self._path = path

    def close(self):
        if self._path and not self.closed:
            Bucket.objects[self._path] = self.getvalue()
        super().close()


def test_other_filesystems_of_beam(run, weights, upscaler, tmp_path, monkeypatch):
    content = photo(tmp_path / "a.png").read_bytes()
    upscaler.upscale_file(tmp_path / "a.png", tmp_path / "expected.png")
    expected = (tmp_path / "expected.png").read_bytes()
    monkeypatch.setattr(Bucket, "objects", {})
    Bucket.objects |= {
        "bucket://b/photos/a.png": content,
        "bucket://b/photos/sub/a.png": content,
        "bucket://b/photos/sub/bad.png": b"",
        "bucket://b/tiny.keras": weights.read_bytes(),
    }
    before = dict(Bucket.objects)
    model = "bucket://b/tiny.keras"
    summary = run("bucket://b/photos", out="bucket://b/out/", model=model)
    assert (summary.enlarged, summary.failed) == (2, 1)
    made = {name: data for name, data in Bucket.objects.items() if name not in before}
    failure = {"file": "bucket://b/photos/sub/bad.png", "reason": "an empty file"}
    assert json.loads(made.pop("bucket://b/out/failures.jsonl")) == failure
    assert made == {"bucket://b/out/a.png": expected, "bucket://b/out/sub/a.png": expected}
    summary = run("bucket://b/photos/**", out="bucket://b/out", model=model)
    assert (summary.enlarged, summary.skipped, summary.failed) == (0, 2, 1)
    with pytest.raises(UserError, match=re.escape("bucket://b/none.keras: can't be read")):
        run("bucket://b/photos", out="bucket://b/out", model="bucket://b/none.keras")


def test_names_in_storage_are_not_patterns(run, tmp_path, monkeypatch):
    content = photo(tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(Bucket, "objects", {"bucket://b/in [1]/a [2].png": content})
    for counts in ((1, 0), (0, 1)):
        summary = run("bucket://b/in [1]", out="bucket://b/out [x]")
        assert (summary.enlarged, summary.skipped) == counts
    assert sorted(Bucket.objects) == [
        "bucket://b/in [1]/a [2].png",
        "bucket://b/out [x]/a [2].png",
    ]
    assert run("bucket://b/in [1]/a [2].png", out="bucket://b/other").enlarged == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in", ["a.png", "b.jpg", "sub/c.png", "sub/deep/d.png"]),
        ("in/", ["a.png", "b.jpg", "sub/c.png", "sub/deep/d.png"]),
        ("in/**/*.png", ["a.png", "sub/c.png", "sub/deep/d.png"]),
        ("in/**.png", ["a.png", "sub/c.png", "sub/deep/d.png"]),
        ("in/*.png", ["a.png"]),
        ("in/sub", ["c.png", "deep/d.png"]),
        ("in/*/*.png", ["sub/c.png"]),
        ("in/s*", None),
        ("in/s*/**", ["sub/c.png", "sub/deep/d.png"]),
        ("in/[ab].*", ["a.png", "b.jpg"]),
        ("in/sub/c.png", ["c.png"]),
    ],
)
def test_patterns(tmp_path, monkeypatch, text, expected):
    for name in ("a.png", "b.jpg", "notes.txt", "sub/c.png", "sub/deep/d.png", "out/e.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    out = str(tmp_path / "in" / "out")
    if expected is None:
        with pytest.raises(UserError, match="no file matches"):
            storage.find(text, out)
        return
    match = pipeline._Match(out, None, Output())
    found = sorted(match.process(storage.find(text, out)))
    folder = tmp_path / "in" / ("sub" if text.startswith("in/sub") else "")
    assert found == [(os.fsencode(f"{out}/{n}"), os.fsencode(folder / n)) for n in expected]


def test_wrong_requests(run, tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = files(tmp_path)
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    for text, words in (
        ("missing", "missing: no such file or folder"),
        ("in/*.jpg", "no file matches"),
        ("texts", r"no \.png, .* in texts"),
        ("ftp://a/b", "ftp://a/b: "),
    ):
        with pytest.raises(UserError, match=words):
            run(text, out=out)
    for place in ("in", "link", "."):
        with pytest.raises(UserError, match="the folder of the results"):
            run("in/a.png", out=place)
    for place in ("texts/a.txt", "b.png"):
        with pytest.raises(UserError, match=f"{place}: not a folder"):
            run("in/a.png", out=place)
    with pytest.raises(UserError, match=r"Beam's options: .*NoSuchRunner"):
        upscale_batch(["in"], "out", Settings(), runner_options=["--runner=NoSuchRunner"])
    with pytest.raises(UserError, match="no such weights"):
        run("in", out=out, model="none")
    settings = Settings()
    with pytest.raises(UserError, match="--workers must be at least 1, not 0"):
        upscale_batch(["in"], "out", settings, workers=0)
    with pytest.raises(UserError, match="--workers is for this machine"):
        upscale_batch(["in"], "out", settings, False, 2, ["--runner=FlinkRunner"])
    assert files(tmp_path) == before
