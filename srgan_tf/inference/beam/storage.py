"""Files on this machine and in the storage that Beam's filesystems reach."""

from __future__ import annotations

import importlib.util
import mimetypes
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems

from srgan_tf import files
from srgan_tf.errors import UserError
from srgan_tf.files import first_line
from srgan_tf.inference.engine import is_server_url

_WILDCARD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Input:
    """Photos that an argument of the command names.

    Attributes:
        folder: results keep the photos' paths relative to it.
        pattern: Beam's pattern of their paths; None for all in the folder.
        only: path of a single photo, instead of a pattern.
    """

    folder: str
    pattern: str | None = None
    only: str | None = None


def find(text: str, out: str) -> Input:
    """Find the photos that an argument of the command names, which must be outside `out`.

    Raises:
        UserError: it names nothing, or a path within `out`.
    """
    path = absolute(text)
    folder = is_folder(path)
    if folder:
        found = Input(path)
    elif folder is False:
        found = Input(path.rpartition("/")[0], only=path)
    else:
        # As in shells, ** also matches no folder; Beam's ** matches across folders by itself.
        pattern = path.replace("/**/*", "/**")
        found = Input(_WILDCARD.split(pattern)[0].rpartition("/")[0], pattern)
    if f"{found.folder}/".startswith(f"{out}/"):
        raise UserError(f"{text}: within {out}, the folder of the results")
    if folder is None and not (
        _WILDCARD.search(path) and any(problem is None for _, problem in list_images(found, out))
    ):
        raise UserError(f"{text}: no such file or folder, and no file matches")
    return found


def is_folder(path: str) -> bool | None:
    """Return as `files.is_folder`; in storage, a folder is any prefix of files."""
    if is_local(path):
        return files.is_folder(Path(path))
    if FileSystems.exists(path):
        return False
    return True if next(_match(f"{_escaped(path)}/**", limit=1), None) else None


def list_images(found: Input, out: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield (image, None) of an input, or (path, reason) for a folder that can't be read.

    A folder of results within a folder of photos is skipped.
    """
    if found.only is not None:
        yield found.only, None
    elif is_local(found.folder):
        matches: Callable[[str], object] = bool  # any path
        enter: Callable[[Path], bool] = bool
        if found.pattern is not None:
            matches = re.compile(FileSystem.translate_pattern(found.pattern)).match
            enter = partial(_may_hold, found.pattern)
        results = None if out is None else Path(out)
        for path, problem in files.find_images(Path(found.folder), results, enter):
            if problem is not None or matches(str(path)):
                yield str(path), problem
    else:
        for source in _match(found.pattern or f"{_escaped(found.folder)}/**"):
            is_result = source.startswith(f"{out}/") or f"/{files.PARTIAL}" in source
            if files.is_image_name(source) and not is_result:
                yield source, None


def _may_hold(pattern: str, folder: Path) -> bool:
    """Return whether a pattern may match a path within a folder."""
    names = pattern.split("/")
    for name, own in zip(names, ("", *folder.parts[1:]), strict=False):
        if "**" in name:
            return True
        if not re.match(FileSystem.translate_pattern(name), own):
            return False
    return len(folder.parts) < len(names)


def list_results(out: Input) -> Iterator[tuple[bytes, bytes]]:
    """Yield (path, path) of each result in a folder; as bytes, since paths may not be UTF-8."""
    for path, problem in list_images(out, None):
        if problem is None:
            yield os.fsencode(path), os.fsencode(path)


def _scheme(path: str) -> str | None:
    """Return the scheme of a path in storage; None if it is local.

    Raises:
        UserError: Beam has no filesystem for this scheme.
    """
    try:
        scheme = FileSystems.get_scheme(path)
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise UserError(f"{path}: {first_line(error)}") from None
    if scheme == "s3" and importlib.util.find_spec("boto3") is None:
        raise UserError(f"{path}: needs boto3: pip install 'apache-beam[aws]'")
    return scheme


def absolute(path: str) -> str:
    """Make a local path absolute, and remove the last slash of a path in storage.

    Raises:
        UserError: Beam has no filesystem for the scheme of this path.
    """
    scheme = _scheme(path)
    if scheme is not None:
        return path.rstrip("/")
    # Links are resolved, so that no result can replace an input, except for a photo's own name.
    if files.is_file(Path(path)):
        return str(Path(path).parent.resolve() / Path(path).name)
    return os.path.realpath(path)


def _match(pattern: str, limit: int | None = None) -> Iterator[str]:
    """Return the paths in storage that match a pattern."""
    try:
        (result,) = FileSystems.match([pattern], [limit])
    except BeamIOError as error:
        raise UserError(f"{pattern}: can't be listed: {first_line(error)}") from None
    return (metadata.path for metadata in result.metadata_list)


def _escaped(path: str) -> str:
    """Return a pattern that matches this path, and at most those with ] instead of [."""
    return path.translate({ord("*"): "[*]", ord("?"): "[?]", ord("["): "[][]"})


def is_local(path: str) -> bool:
    """Return whether a path is on this machine."""
    return FileSystems.get_scheme(path) is None


def real_path(path: str) -> str:
    """Return a path with local links resolved."""
    return os.path.realpath(path) if is_local(path) else path


def delete(path: str) -> None:
    """Delete a file or a folder with its content, which an ending worker may still write to."""
    if is_local(path):
        if files.is_file(Path(path)):
            Path(path).unlink()
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(BeamIOError):
        inside = [_escaped(found) for found in _match(f"{_escaped(path)}/**")]
        if inside:
            FileSystems.delete(inside)
        if FileSystems.exists(path):
            FileSystems.delete([_escaped(path)])


def download(source: str, path: Path) -> None:
    """Copy a file, of this machine or in storage, to a local path."""
    with (
        FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED) as remote,
        path.open("wb") as file,
    ):
        shutil.copyfileobj(remote, file)


def upload(path: Path, partial: str, target: str) -> None:
    """Copy a local file to `target`, through the temporary name `partial`."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    with (
        path.open("rb") as file,
        FileSystems.create(partial, kind, CompressionTypes.UNCOMPRESSED) as remote,
    ):
        shutil.copyfileobj(file, remote)
    if is_local(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    FileSystems.rename([partial], [target])


@contextmanager
def local_model(model: str) -> Iterator[str | Path]:
    """Yield a model's name or path, which is a local copy if it is a file in storage."""
    if is_server_url(model) or "://" not in model:
        yield model
        return
    _scheme(model)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"model{suffix(model)}"
        try:
            download(model, path)
        except (OSError, ValueError) as error:
            raise UserError(f"{model}: can't be read: {first_line(error)}") from None
        yield path


def suffix(path: str) -> str:
    """Return the suffix of a path in lower case, such as `.png`; empty if it has none."""
    return PurePosixPath(path).suffix.lower()
