"""`srgan export`: a generator as SavedModel and TensorFlow Lite models, and their fidelity."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from srgan_tf.cli.common import import_tensorflow, path_or_name, to_path
from srgan_tf.errors import RequestError
from srgan_tf.export import MODES
from srgan_tf.files import make_writable_folder, native_messages_held_back, written_whole

SAVED_MODEL = "saved-model"


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="export a generator for servers and phones",
        description="Exports a generator for servers and phones, and reports how far the results "
        "are from the Keras model's.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan export --saved-model --tflite
  srgan export --tflite --quantize int8 --calibration ~/Pictures
  srgan export --tflite --quantize float16 --input-size 128
  srgan export --weights runs/mine --saved-model --out exports/mine
  srgan export --tflite --photos Set5/HR --bar int8=0.2

What is written to OUT: NAME/1/ (SavedModel), NAME-MODE.tflite, fidelity.json, fidelity.png.
Each can be tried at once: srgan upscale PHOTO -o OUT --model exports/NAME/NAME-int8.tflite

exit codes: 0 done; 1 a mode misses its bar; 2 the request is wrong.""",
    )
    parser.add_argument(
        "--weights",
        type=path_or_name,
        metavar="NAME|FILE",
        help="a released srresnet- or srgan- name, a .keras file or a run folder; default: the "
        "best released",
    )
    parser.add_argument(
        "--saved-model", action="store_true", help="a SavedModel for TensorFlow Serving"
    )
    parser.add_argument("--tflite", action="store_true", help="TensorFlow Lite models")
    parser.add_argument(
        "--quantize",
        metavar="MODE,...",
        help=f"which TensorFlow Lite models: {','.join(MODES)} (default: all)",
    )
    parser.add_argument(
        "--out", type=to_path, metavar="DIR", help="folder for the results; default exports/NAME"
    )
    parser.add_argument(
        "--input-size",
        metavar="N|HxW",
        help="fix the .tflite models' input size, which some accelerators need; default: any",
    )
    parser.add_argument(
        "--calibration",
        type=path_or_name,
        default="samples",
        metavar="DIR|samples",
        help="photos on which dynamic, int8 and int16x8 find which way to round weights, and the "
        "last two the ranges of numbers (default: samples, which come with scikit-image)",
    )
    parser.add_argument(
        "--photos",
        type=path_or_name,
        default="samples",
        metavar="DIR|samples",
        help="HR photos for the fidelity report; of photos that are also for calibration, every "
        "third is used for the report alone (default: samples)",
    )
    parser.add_argument(
        "--bar",
        action="append",
        default=[],
        metavar="MODE=DB",
        help="the PSNR that a mode may lose against the Keras model; repeatable (default: float16 "
        "0.02, dynamic 0.1, int8 0.3, int16x8 0.05; float32 and saved-model: 1 grey level)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="of an image sent to the SavedModel; larger ones are refused (default: 262144, which "
        "is 512×512)",
    )
    parser.add_argument(
        "--version",
        type=int,
        default=1,
        metavar="N",
        help="of the SavedModel, its folder's name; servers take the highest (default: 1)",
    )
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    modes = _modes(arguments)
    size = _size(arguments.input_size)
    if arguments.version < 1:
        raise RequestError(f"--version counts from 1, not {arguments.version}")
    if arguments.max_pixels is not None and arguments.max_pixels < 1:
        raise RequestError(f"--max-pixels must be at least 1, not {arguments.max_pixels}")

    import_tensorflow()
    from srgan_tf import weights
    from srgan_tf.export import fidelity, saved_model, tflite
    from srgan_tf.export.graph import require_rgb
    from srgan_tf.inference.engine import open_engine
    from srgan_tf.inference.keras import KerasEngine

    bars = _bars(arguments.bar, fidelity.BARS)
    if SAVED_MODEL in modes:
        saved_model.require_serving_api()
    if modes != [SAVED_MODEL]:
        tflite.require_litert()
    source = arguments.weights or weights.default_model()
    generator = weights.load_generator(source)
    require_rgb(generator)
    name = _name(source, weights.released())
    out = arguments.out or Path("exports") / name

    held_out = arguments.photos == arguments.calibration
    calibration = []
    if set(modes) & set(tflite.CALIBRATED):
        calibration = fidelity.calibration_photos(arguments.calibration, generator.scale, held_out)
    engine = KerasEngine(generator)
    photos = fidelity.report_photos(arguments.photos, engine, held_out, size)
    make_writable_folder(out)
    rounded = tflite.rounded_graph(generator, calibration) if calibration else None

    report = {}
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
            with written_whole(path) as temporary:
                temporary.write_bytes(content)
        with native_messages_held_back():
            exported = open_engine(path)
        results = [fidelity.enlarge(exported, photo.lr) for photo in photos]
        found = fidelity.compare(photos, results, generator.scale, bars[mode])
        pictures[mode] = results[0]
        size_in_bytes = _bytes(path)
        report[mode] = {
            "path": path.relative_to(out).as_posix(),
            "bytes": size_in_bytes,
            **asdict(found),
            "bar": {key: value for key, value in asdict(bars[mode]).items() if value is not None},
        }
        print(
            f"{mode:12}{size_in_bytes / 1e6:7.2f}{found.psnr:9.3f}{found.psnr_loss:9.3f}"
            f"{found.max_difference:5}{found.mean_difference:18.3f}"
            f"{'' if found.passed else '  MISSES ITS BAR'}",
            flush=True,
        )

    summary = {
        "weights": str(source),
        "photos": arguments.photos,
        "calibration": arguments.calibration if calibration else None,
        "input_size": size,
        "modes": report,
    }
    with written_whole(out / "fidelity.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with written_whole(out / "fidelity.png") as temporary:
        fidelity.side_by_side(photos[0], pictures).save(temporary)
    print(f"Done: {out}/" + ", ".join(entry["path"] for entry in report.values()))
    missed = [mode for mode, entry in report.items() if not entry["passed"]]
    if missed:
        print(
            f"error: {', '.join(missed)}: further from the Keras model than --bar allows; see "
            f"{out}/fidelity.json",
            file=sys.stderr,
        )
    return 1 if missed else 0


def _modes(arguments: argparse.Namespace) -> list[str]:
    if arguments.quantize is not None and not arguments.tflite:
        raise RequestError("--quantize is about TensorFlow Lite models: add --tflite")
    if not (arguments.saved_model or arguments.tflite):
        raise RequestError("nothing to export: give --saved-model, --tflite or both")
    modes = [SAVED_MODEL] if arguments.saved_model else []
    if arguments.tflite:
        wanted = MODES if arguments.quantize is None else arguments.quantize.split(",")
        for mode in wanted:
            if mode not in MODES:
                raise RequestError(f"--quantize: no mode {mode!r}; one of {', '.join(MODES)}")
        modes += dict.fromkeys(wanted)
    return modes


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 8:
        raise RequestError(f"--input-size: N or HxW of at least 8 pixels, such as 128, not {text}")
    return sides[0], sides[-1]


def _bars(texts: list[str], defaults: dict) -> dict:
    bars = dict(defaults)
    for text in texts:
        mode, _, value = text.partition("=")
        try:
            bars[mode] = replace(bars[mode], psnr_loss=float(value), max_difference=None)
        except (KeyError, ValueError):
            raise RequestError(
                f"--bar: MODE=DB with one of {', '.join(bars)}, such as int8=0.2, not {text}"
            ) from None
    return bars


def _name(source: str, released: list[str]) -> str:
    """A released name, a file's name, or RUN-STAGE of a run folder runs/RUN/STAGE."""
    if source in released:
        return source
    path = Path(source).resolve()
    if path.is_file():
        return path.stem if path.stem != "generator" else _name(str(path.parent), [])
    return f"{path.parent.name}-{path.name}" if path.name in ("pretrain", "gan") else path.name


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
