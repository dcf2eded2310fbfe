"""`srgan demo`: a web page that enlarges photos in the browser."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from srgan_tf.cli.common import import_tensorflow, names, server_url, to_path
from srgan_tf.errors import UserError


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="enlarge photos in the browser",
        description="Serve a web page that enlarges photos in the browser with LiteRT.js.\nPhotos "
        "never leave the visitor's machine.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  srgan demo
  srgan demo --models srgan-mobile,runs/mine/gan
  srgan demo --export site

--export writes one folder for any static host. With the headers Cross-Origin-Opener-Policy:
same-origin and Cross-Origin-Embedder-Policy: require-corp, WebAssembly uses all cores; without
them it uses one. Threads and WebGPU need HTTPS or localhost.""",
    )
    parser.add_argument(
        "--models",
        type=names,
        metavar="NAME|FILE,...",
        help="released names, .keras files or run folders, the first preselected (default: "
        "srgan-mobile-photo, the larger generators for photos, and two for clean pictures)",
    )
    parser.add_argument(
        "--export", type=to_path, metavar="DIR", help="write the page to DIR instead of serving it"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8001, help="0 picks a free one (default: %(default)s)"
    )
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from srgan_tf import demo

    demo.require_page()
    if arguments.export is None:
        with tempfile.TemporaryDirectory(prefix="srgan-demo-") as folder:
            server = demo.make_server(Path(folder), arguments.host, arguments.port)
            with server:
                _write(Path(folder), arguments.models)
                address = server_url(arguments.host, server.server_port)
                print(f"{address}\nCtrl-C stops", flush=True)
                with contextlib.suppress(KeyboardInterrupt):
                    server.serve_forever()
        return 0
    if arguments.export.exists() and not arguments.export.is_dir():
        raise UserError(f"{arguments.export}: not a folder")
    _write(arguments.export, arguments.models)
    print(f"Done: {arguments.export}; upload it to any static host")
    return 0


def _write(folder: Path, models: list[str] | None) -> None:
    import_tensorflow()
    from srgan_tf import demo
    from srgan_tf.cache import cache_folder
    from srgan_tf.weights import released

    if models is None:
        models = [name for name in demo.MODELS if name in released()]
    demo.write_site(folder, models, cache_folder() / "demo")
