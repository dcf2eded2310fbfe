"""`srgan export`: converts a generator to SavedModel and TensorFlow Lite, and verifies them."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

from srgan_tf.cli.common import import_tensorflow, names, path_or_name, to_path
from srgan_tf.errors import UserError
from srgan_tf.export import MODES
from srgan_tf.files import atomic_write, make_writable_folder, write_json
from srgan_tf.native_output import suppress_native_output
from srgan_tf.weights import DEFAULT_MODEL

SAVED_MODEL = "saved-model"


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="export a generator for servers and phones",
        description="Export a generator for servers and phones, and compare the exported models "
        "with the Keras model.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan export --saved-model --tflite
  srgan export --tflite --quantize int8 --calibration ~/Pictures
  srgan export --tflite --quantize float16 --input-size 96
  srgan export --weights runs/mine --saved-model --out exports/mine
  srgan export --tflite --photos Set5/HR --tolerance int8=0.2

OUT receives NAME/1/ (SavedModel), NAME-MODE.tflite, fidelity.json and fidelity.png. To try one:
srgan upscale PHOTO -o OUT --model exports/NAME/NAME-int8.tflite

exit codes: 0 done; 1 a mode is outside its tolerance; 2 the request is wrong.""",
    )
    parser.add_argument(
        "--weights",
        type=path_or_name,
        default=DEFAULT_MODEL,
        metavar="NAME|FILE",
        help="a released srresnet- or srgan- name, a .keras file or a run folder (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--saved-model", action="store_true", help="write a SavedModel for TensorFlow Serving"
    )
    parser.add_argument("--tflite", action="store_true", help="write TensorFlow Lite models")
    parser.add_argument(
        "--quantize",
        type=names,
        metavar="MODE,...",
        help=f"TensorFlow Lite models to write: {','.join(MODES)} (default: all)",
    )
    parser.add_argument(
        "--out", type=to_path, metavar="DIR", help="output folder (default: exports/NAME)"
    )
    parser.add_argument(
        "--input-size",
        metavar="N|HxW",
        help="fix the .tflite models' input size, as some accelerators need (default: any size)",
    )
    parser.add_argument(
        "--calibration",
        type=path_or_name,
        default="samples",
        metavar="DIR|samples",
        help="photos on which dynamic, int8 and int16x8 round weights, and int8 and int16x8 "
        "measure ranges (default: samples, scikit-image's photos)",
    )
    parser.add_argument(
        "--photos",
        type=path_or_name,
        default="samples",
        metavar="DIR|samples",
        help="HR photos to compare the models on; if --calibration is the same, every third photo "
        "is for comparison and the others for calibration (default: samples)",
    )
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="MODE=DB",
        help="PSNR in dB that a mode may lose against the Keras model; repeatable (default: "
        "float16 0.02, dynamic 0.1, int8 0.3, int16x8 0.05; float32 and saved-model 1 grey level)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="largest image that the SavedModel accepts, in pixels (default: 262144, 512×512)",
    )
    parser.add_argument(
        "--version",
        type=int,
        default=1,
        metavar="N",
        help="SavedModel version, the name of its folder; servers load the highest (default: 1)",
    )
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    modes = _modes(arguments)
    size = _input_size(arguments.input_size)
    if arguments.version < 1:
        raise UserError(f"--version must be at least 1, not {arguments.version}")
    if arguments.max_pixels is not None and arguments.max_pixels < 1:
        raise UserError(f"--max-pixels must be at least 1, not {arguments.max_pixels}")

    import_tensorflow()
    from srgan_tf import weights
    from srgan_tf.export import fidelity, saved_model, tflite
    from srgan_tf.export.graph import require_exportable
    from srgan_tf.inference.engine import open_engine, require_serving_api, tile_side
    from srgan_tf.inference.keras import KerasEngine
    from srgan_tf.inference.litert import require_litert

    tolerances = _tolerances(arguments.tolerance, fidelity.TOLERANCES)
    if SAVED_MODEL in modes:
        require_serving_api()
    if modes != [SAVED_MODEL]:
        require_litert()
    generator = weights.load_generator(arguments.weights)
    require_exportable(generator)
    engine = KerasEngine(generator)
    if SAVED_MODEL in modes:  # refuses a --max-pixels that is too small
        tile_side(arguments.max_pixels or saved_model.MAX_PIXELS, engine.radius)
    name = weights.generator_title(arguments.weights)
    out = arguments.out or Path("exports") / name

    calibration = []
    calibrated = not set(modes).isdisjoint(tflite.CALIBRATED)
    sources = {Path(source).resolve() for source in (arguments.photos, arguments.calibration)}
    held_out = calibrated and len(sources) == 1
    if calibrated:
        calibration = fidelity.calibration_photos(arguments.calibration, generator.scale, held_out)
    photos = fidelity.reference_photos(arguments.photos, engine, held_out, size)
    make_writable_folder(out)
    rounded = tflite.rounded_graph(generator, calibration) if calibration else None

    results = {}
    pictures = {}
    print(
        f"{name}: {len(photos)} photos of {arguments.photos}, against the Keras model", flush=True
    )
    print(f"{'':12}{'MB':>7}{'PSNR dB':>9}{'loss dB':>9}{'max':>5}{'mean grey levels':>18}")
    for mode in modes:
        if mode == SAVED_MODEL:
            path = out / name / str(arguments.version)
            limit = arguments.max_pixels or saved_model.MAX_PIXELS
            saved_model.write_saved_model(generator, path, name, limit)
        else:
            path = out / f"{name}-{mode}.tflite"
            content = tflite.convert(generator, mode, name, size, calibration, rounded)
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
        with suppress_native_output():
            exported = open_engine(path)
        enlarged = [fidelity.enlarge(exported, photo.lr) for photo in photos]
        result = fidelity.compare(photos, enlarged, generator.scale, tolerances[mode])
        pictures[mode] = enlarged[0]
        size_in_bytes = _size_in_bytes(path)
        results[mode] = {
            "path": path.relative_to(out).as_posix(),
            "bytes": size_in_bytes,
            **asdict(result),
            "tolerance": {
                key: value for key, value in asdict(tolerances[mode]).items() if value is not None
            },
        }
        print(
            f"{mode:12}{size_in_bytes / 1e6:7.2f}{result.psnr:9.3f}{result.psnr_loss:9.3f}"
            f"{result.max_difference:5}{result.mean_difference:18.3f}"
            f"{'' if result.passed else '  OUTSIDE ITS TOLERANCE'}",
            flush=True,
        )

    summary = {
        "weights": arguments.weights,
        "photos": arguments.photos,
        "calibration": arguments.calibration if calibration else None,
        "input_size": size,
        "modes": results,
    }
    write_json(out / "fidelity.json", summary)
    with atomic_write(out / "fidelity.png") as temporary:
        fidelity.side_by_side(photos[0], pictures).save(temporary)
    print(f"Done: {out}/" + ", ".join(entry["path"] for entry in results.values()))
    missed = [mode for mode, entry in results.items() if not entry["passed"]]
    if missed:
        print(
            f"error: {', '.join(missed)}: outside the tolerance; see {out}/fidelity.json, and "
            "--tolerance to change it",
            file=sys.stderr,
        )
    return 1 if missed else 0


def _modes(arguments: argparse.Namespace) -> list[str]:
    if arguments.quantize is not None and not arguments.tflite:
        raise UserError("--quantize applies to TensorFlow Lite models: add --tflite")
    if not (arguments.saved_model or arguments.tflite):
        raise UserError("nothing to export: give --saved-model, --tflite or both")
    modes = [SAVED_MODEL] if arguments.saved_model else []
    if arguments.tflite:
        wanted = arguments.quantize or MODES
        for mode in wanted:
            if mode not in MODES:
                raise UserError(f"--quantize: no mode {mode!r}; use one of {', '.join(MODES)}")
        modes += wanted
    return modes


def _input_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 8:
        raise UserError(f"--input-size {text}: must be N or HxW, at least 8 pixels, such as 96")
    return sides[0], sides[-1]


def _tolerances(texts: list[str], defaults: dict) -> dict:
    tolerances = dict(defaults)
    for text in texts:
        mode, _, value = text.partition("=")
        try:
            decibels = float(value)
            if math.isnan(decibels):
                raise ValueError
            tolerances[mode] = replace(tolerances[mode], psnr_loss=decibels, max_difference=None)
        except (KeyError, ValueError):
            raise UserError(
                f"--tolerance {text}: must be MODE=DB, such as int8=0.2, with one of "
                f"{', '.join(tolerances)}"
            ) from None
    return tolerances


def _size_in_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
