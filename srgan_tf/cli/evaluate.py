"""`srgan evaluate`: scores methods on benchmark sets."""

from __future__ import annotations

import argparse
import shlex
import sys

from srgan_tf.cli.common import STOPPED, import_tensorflow, names, path_or_name, to_path
from srgan_tf.errors import UserError
from srgan_tf.files import make_writable_folder


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score methods on benchmark sets",
        description="Score super-resolution methods on benchmark sets and write a report: tables "
        "with the paper's\nscores beside ours, plots, and images to compare in a browser.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan evaluate --data ~/benchmarks --out report
  srgan evaluate --data ~/benchmarks --sets Set5 --methods bicubic,srresnet-mse,hr --out report
  srgan evaluate --data ~/benchmarks --methods bicubic,mine=runs/mine/gan --out report
  srgan evaluate --data ~/benchmarks --methods bicubic,esrgan=results/esrgan --out report
  srgan evaluate --data ~/benchmarks --degrade clean,jpeg75,noise5+jpeg75,resaved --out report

--data contains SET/HR/*.png and optionally SET/LRx4/*.png of the same names; without LRx4, LR is
computed by MATLAB's bicubic downscaling.

Methods are nearest, bicubic, selfexsr, hr, every released generator (srcnn, espcn, drcn,
srresnet-mse, srresnet-vgg22, srgan-mse, srgan-vgg22, srgan-vgg54, srgan-mobile, srresnet-photo,
srgan-photo, srgan-mobile-photo), and NAME=PATH: a model (a file, a run folder, a SavedModel), or
another program's results PATH/SET/*.png, where an image's name may be followed by `_…`. The default
is all except selfexsr, which is slow.

--degrade evaluates each set with each of the given degradations of LR, as SET-DEGRADATION. A
degradation is clean, or steps joined by +, applied in order: jpegQ and webpQ (saved with quality
Q), noiseS (Gaussian, σ in grey levels), shiftX.Y (moves the 8×8 grid of later JPEG steps by X and
Y pixels), and resaved, which is jpeg85+shift5.3+jpeg60. The same file name and degradation always
give the same LR.

OUT receives results.json (every image), report.md, plots/, images/ and report.html. Enlarged
images and their scores are cached in $SRGAN_TF_CACHE, by default ~/.cache/srgan_tf.

exit codes: 0 all done; 1 some images failed, each named on stderr; 2 the request is wrong.""",
    )
    parser.add_argument(
        "--data", required=True, type=to_path, metavar="DIR", help="the sets' folder"
    )
    parser.add_argument(
        "--out", required=True, type=to_path, metavar="OUT", help="the report's folder"
    )
    parser.add_argument(
        "--sets", type=names, metavar="A,B", help="sets to use (default: all in DIR)"
    )
    parser.add_argument("--methods", type=names, metavar="A,B", help="see below (default: all)")
    parser.add_argument(
        "--scale", type=int, choices=(2, 4, 8), default=4, help="HR's side over LR's (default: 4)"
    )
    parser.add_argument(
        "--degrade",
        type=names,
        default=["clean"],
        metavar="A,B",
        help="degradations of LR, such as clean,jpeg75,noise5+jpeg75 (default: clean)",
    )
    parser.add_argument(
        "--vgg",
        type=path_or_name,
        default="imagenet",
        metavar="FILE",
        help="VGG19's weights without top, for the VGG54 distance; `none` skips it (default: Keras "
        "downloads them)",
    )
    parser.add_argument(
        "--lpips",
        type=to_path,
        metavar="FILE",
        help="AlexNet's weights for LPIPS, alexnet_lpips.npz; docs/evaluation.md says where to get "
        "them (default: LPIPS is skipped)",
    )
    parser.add_argument(
        "--images",
        type=names,
        metavar="SET/NAME,…",
        help="images to show (default: one per set, on which the methods differ most)",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="images processed at a time (default: 2)"
    )
    parser.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {arguments.jobs}")
    from srgan_tf.evaluation.degradations import parse_degradation

    degradations = [parse_degradation(text) for text in arguments.degrade]
    import_tensorflow()
    from srgan_tf.evaluation.benchmark import evaluate
    from srgan_tf.evaluation.methods import open_methods
    from srgan_tf.evaluation.metrics import open_metrics
    from srgan_tf.evaluation.pictures import choose_images
    from srgan_tf.evaluation.report import write_report
    from srgan_tf.evaluation.sets import open_sets

    sets = open_sets(arguments.data, arguments.sets, arguments.scale, degradations)
    methods, unavailable = open_methods(arguments.methods, arguments.scale)
    metrics, skipped = open_metrics(arguments.vgg, arguments.lpips)
    notes = [*unavailable, *skipped]
    for note in notes:
        print(note, file=sys.stderr)
    known = {image.full_name for images in sets.values() for image in images}
    for name in arguments.images or []:
        if name not in known:
            raise UserError(f"--images {name}: no such image; give it as SET/NAME")

    make_writable_folder(arguments.out)
    try:
        scores = evaluate(sets, methods, metrics, arguments.jobs)
    except KeyboardInterrupt:
        print("Stopped; run the same command again to continue", file=sys.stderr)
        return STOPPED
    for failure in scores.failures:
        print(failure, file=sys.stderr)
    if not scores.entries:
        return 1
    not_shown = write_report(
        scores,
        arguments.out,
        arguments.scale,
        choose_images(scores, arguments.images),
        notes,
        shlex.join(["srgan", *sys.argv[1:]]),
    )
    for failure in not_shown:
        print(failure, file=sys.stderr)
    print(f"Done: {arguments.out}/report.md, report.html, results.json")
    return 1 if scores.failures or not_shown else 0
