"""`srgan mos`: mean-opinion-score studies."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import socket
import sys
from pathlib import Path

from srgan_tf.cli.common import (
    STOPPED,
    import_tensorflow,
    names,
    path_or_name,
    server_url,
    to_path,
)
from srgan_tf.errors import ImageError, UserError, install_command
from srgan_tf.files import escape_non_utf8, first_line, named_path

_CONSENT = """\
Participation is voluntary, and you can stop at any time. We store your nickname, your ratings, \
when you gave them, and how many pixels your screen has. We publish only ratings, under a number.

Choose a nickname that does not identify you."""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "mos",
        help="run a mean-opinion-score study",
        description="Run a mean-opinion-score study: create it, let people rate in their browsers, "
        "compute the scores.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_create(actions)
    _add_serve(actions)
    _add_report(actions)


def _add_create(actions) -> None:
    parser = actions.add_parser(
        "create",
        help="create a study",
        description="Create a study: every image by every method, calibration images, and "
        "invitation codes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan mos create study --data ~/benchmarks --methods nearest,bicubic,srresnet-mse,srgan-vgg54,hr
  srgan mos create study --data ~/benchmarks --sets Set5,Set14 \\
      --methods bicubic,srresnet-mse,theirs=outputs/theirs,hr --ratings-per-rater 150
  srgan mos create study --data ~/benchmarks --methods bicubic,srresnet-mse,hr \\
      --methods BSD100:bicubic,hr --database postgresql://mos@db.example.org/mos

The default is the paper's design: twelve methods on Set5 and Set14, nine on BSD100, 1128
versions and 10 repeats per rater. Methods are those of srgan evaluate; NAME=PATH adds a model, or
a folder with another program's results, PATH/SET/IMAGE.png.

STUDY/private.json contains the admin token; keep it secret.""",
    )
    parser.add_argument("study", type=to_path, metavar="STUDY", help="a new folder")
    parser.add_argument(
        "--data",
        required=True,
        type=to_path,
        metavar="DIR",
        help="folder with SET/HR/*.png and, optionally, SET/LRx4/*.png",
    )
    parser.add_argument(
        "--sets",
        type=names,
        default="Set5,Set14,BSD100",
        metavar="A,B",
        help="sets to rate (default: %(default)s)",
    )
    parser.add_argument(
        "--methods",
        action="append",
        default=[],
        metavar="[SET:]A,B,NAME=PATH",
        help="methods to rate, on all sets or on SET; repeatable (default: the paper's)",
    )
    parser.add_argument(
        "--ratings-per-rater",
        type=int,
        metavar="N",
        help="ratings per rater, including repeats; each rater gets a balanced subset of the "
        "versions (default: every version once, and the repeats)",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="HR images that each rater sees twice, to measure consistency (default: 10, or a "
        "tenth of the ratings if that is less)",
    )
    parser.add_argument(
        "--calibration",
        type=path_or_name,
        default="samples",
        metavar="DIR|samples",
        help="photos for examples of the scores 1 and 5; rated ones are refused (default: crops "
        "of scikit-image's photos)",
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=20,
        metavar="N",
        help="number of calibration pairs (default: %(default)s)",
    )
    parser.add_argument(
        "--invitations",
        type=int,
        default=30,
        metavar="N",
        help="number of invitation codes, one per rater; the admin page shows them and creates "
        "more (default: %(default)s)",
    )
    parser.add_argument(
        "--open", action="store_true", help="let anyone who has the address join without a code"
    )
    parser.add_argument(
        "--title", default="Picture quality study", help='shown to raters (default: "%(default)s")'
    )
    parser.add_argument(
        "--consent",
        type=to_path,
        metavar="FILE",
        help="text that raters agree to, paragraphs separated by empty lines",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="an empty database, postgresql://USER:PASSWORD@HOST/DATABASE (default: in STUDY)",
    )
    parser.add_argument(
        "--scale",
        type=int,
        default=4,
        choices=(2, 4, 8),
        help="HR's side over LR's (default: %(default)s)",
    )
    parser.set_defaults(command=_create)


def _add_serve(actions) -> None:
    parser = actions.add_parser(
        "serve",
        help="let people rate",
        description="Serve a study to raters' browsers, and an admin page to its owner.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan mos serve study
  srgan mos serve study --host 0.0.0.0 --port 80

A rating is stored before the next picture shows, so the server can be stopped at any time. On the
open internet, put the server behind an HTTPS proxy on the same machine: it trusts the proxy's
X-Forwarded-For and X-Forwarded-Proto headers.""",
    )
    parser.add_argument("study", type=to_path, metavar="STUDY")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 picks a free one (default: %(default)s)"
    )
    parser.set_defaults(command=_serve)


def _add_report(actions) -> None:
    parser = actions.add_parser(
        "report",
        help="compute the opinion scores",
        description="Write a study's scores, their significance, raters' consistency, the "
        "distribution plot and all\nratings. The server may be running.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan mos report study
  srgan mos report study --out report --exclude 3,17""",
    )
    parser.add_argument("study", type=to_path, metavar="STUDY")
    parser.add_argument(
        "--out", type=to_path, metavar="DIR", help="output folder (default: STUDY/report)"
    )
    parser.add_argument(
        "--exclude",
        type=_numbers,
        default=set(),
        metavar="N,N",
        help="numbers of raters to exclude; the report lists them",
    )
    parser.set_defaults(command=_report)


def _create(arguments: argparse.Namespace) -> int:
    _require_extra()
    from srgan_tf.mos.database import MAX_INVITATIONS
    from srgan_tf.mos.design import PAPER_SETS

    sets = [escape_non_utf8(name) for name in arguments.sets]
    if arguments.methods:
        methods, paths = _parse_methods(arguments.methods, sets)
    else:
        unknown = [name for name in sets if name not in PAPER_SETS]
        if unknown:
            raise UserError(
                f"the paper's design has no set {unknown[0]}; give its methods with --methods"
            )
        methods, paths = {name: list(PAPER_SETS[name]) for name in sets}, {}
    invitations = 0 if arguments.open else arguments.invitations
    if not arguments.open and not 1 <= invitations <= MAX_INVITATIONS:
        raise UserError(
            f"--invitations must be from 1 to {MAX_INVITATIONS}; --open needs no invitations"
        )
    consent = _CONSENT
    if arguments.consent:
        try:
            consent = arguments.consent.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise UserError(
                f"--consent {arguments.consent}: can't be read ({first_line(error)})"
            ) from None

    import_tensorflow()
    from srgan_tf.mos.create import create

    try:
        design = create(
            arguments.study,
            arguments.data,
            methods,
            paths,
            title=escape_non_utf8(arguments.title),
            consent=consent,
            calibration=arguments.calibration,
            calibration_images=arguments.calibration_images,
            ratings_per_rater=arguments.ratings_per_rater,
            repeats=arguments.repeats,
            invitations=invitations,
            database=arguments.database,
            scale=arguments.scale,
        )
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; no study was created", file=sys.stderr)
        return STOPPED
    print(
        f"{arguments.study}: {len(design.versions)} versions of "
        f"{len({(v.set, v.image) for v in design.versions})} images; "
        f"{design.ratings_per_rater} ratings per rater, {design.repeats} of them repeats\n"
        f"Let people rate: srgan mos serve {shlex.quote(str(arguments.study))}"
    )
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    _require_extra()
    import uvicorn

    from srgan_tf.mos.study import Study
    from srgan_tf.mos.web import create_app

    study = Study(arguments.study)
    database = study.open_database()
    listener = socket.socket(socket.AF_INET6 if ":" in arguments.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((arguments.host, arguments.port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"{arguments.host}, port {arguments.port}: can't listen ({first_line(error)}); choose "
            "another with --host or --port"
        ) from None
    port = listener.getsockname()[1]
    host = socket.getfqdn() if arguments.host in ("0.0.0.0", "::") else arguments.host
    address = server_url(host, port)
    codes = ""
    if study.design.invitation_only:
        codes = ", which shows the invitation codes"
    print(
        f"{study.design.title}: {address}\n"
        f"Admin page: {address}admin{codes}; token {study.private.admin_token}\n"
        "Ctrl-C stops the server; no rating is lost",
        flush=True,
    )
    # No access log, as personal links are secrets.
    config = uvicorn.Config(
        create_app(study, database), log_level="warning", access_log=False, server_header=False
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        database.close()
    return 0


def _report(arguments: argparse.Namespace) -> int:
    _require_extra()
    from srgan_tf.mos.report import write_report
    from srgan_tf.mos.study import Study

    study = Study(arguments.study)
    folder = arguments.out or arguments.study / "report"
    write_report(study, folder, arguments.exclude)
    print(
        f"Done: {folder}/report.md, distribution.png and .svg, results.json, ratings.csv and .json"
    )
    return 0


def _require_extra() -> None:
    needed = ("fastapi", "uvicorn", "jinja2", "sqlalchemy", "psycopg", "limits", "matplotlib")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"srgan mos needs {', '.join(missing)}: {install_command('mos')}")


def _parse_methods(
    options: list[str], sets: list[str]
) -> tuple[dict[str, list[str]], dict[str, Path]]:
    """Return the methods of each set, and the paths of those given as NAME=PATH."""
    chosen: dict[str | None, list[str]] = {}  # by set; None for the other sets
    paths: dict[str, Path] = {}
    for option in options:
        set_name, colon, rest = option.partition(":")
        key, text = (set_name, rest) if colon and set_name in sets else (None, option)
        try:
            given = names(text)
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--methods: {error}") from None
        methods = []
        for method in given:
            method, path = named_path(method)
            if path is not None and paths.setdefault(method, path) != path:
                raise UserError(f"--methods: {method} has two paths; give one")
            if method in methods:
                raise UserError(f"--methods: {method} is given twice")
            methods.append(method)
        if key in chosen:
            raise UserError(f"--methods {option}: given twice; join the names with commas")
        chosen[key] = methods
    missing = [name for name in sets if name not in chosen]
    if missing and None not in chosen:
        raise UserError(
            f"--methods: no methods for {', '.join(missing)}; add --methods A,B for all sets, or "
            f"--methods {missing[0]}:A,B"
        )
    return {name: chosen[name if name in chosen else None] for name in sets}, paths


def _numbers(text: str) -> set[int]:
    try:
        return {int(number) for number in names(text)}
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be numbers of raters, such as 3,17"
        ) from None
