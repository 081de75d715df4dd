"""What can run the network: list it, build an engine of TensorRT for a GPU, compare an engine with torch f32."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastretina.cli.common import EXIT_INTERNAL, EXIT_OK, say
from fastretina.config import CHOICES, Config
from fastretina.errors import EngineError, InvalidInput

HELP = "list, build and verify what runs the network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=type(parser))
    listing = _action(actions, "list", "every engine, whether it is installed, and the engine files that were built")
    listing.add_argument("-d", "--directory", metavar="DIR", help="of engine files (default: where build writes)")
    _network_options(listing)
    listing.set_defaults(action=_list)

    build = _action(actions, "build", "build an engine file of TensorRT-RTX or TensorRT, with its sidecar")
    _network_options(build)
    build.add_argument(
        "--precision", type=_precision, default="f16", help="fp32, fp16, bf16, int8 (default %(default)s)"
    )
    for name, text in (("min", "least"), ("opt", "tuned"), ("max", "largest")):
        build.add_argument(f"--{name}-size", type=_size, metavar="HxW", help=f"{text} plane, px: 480x640, or 480")
    build.add_argument(
        "--batch", type=int, default=1, metavar="N", help="planes at once, at most (default %(default)s)"
    )
    build.add_argument("--flavour", choices=_flavours(), help="default: the first of them that is installed")
    build.add_argument(
        "--capability", action="append", default=[], metavar="X.Y", help="of a GPU to build for; repeat it"
    )
    build.add_argument("-o", "--output", metavar="DIR", help="default: $FASTRETINA_ENGINES, or the user's cache")
    build.set_defaults(action=_build)

    verify = _action(actions, "verify", "compare an engine with torch f32; exits with 1 beyond the stated bounds")
    _network_options(verify)
    verify.add_argument("--engine", choices=CHOICES["engine"], default=Config.engine, help="(default %(default)s)")
    verify.add_argument("--precision", type=_precision, default=Config.precision, help="(default %(default)s)")
    verify.add_argument("--device", default=Config.device, help="auto, cpu, cuda or cuda:N (default %(default)s)")
    verify.add_argument("--seed", type=int, default=0, help="of the synthetic pair (default %(default)s)")
    verify.set_defaults(action=_verify)


def run(args: argparse.Namespace) -> int:
    status: int = args.action(args)
    return status


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="print a traceback with an error"
    )
    parser.set_defaults(parser=parser)
    return parser


def _network_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default=Config.weights, help="a shipped weight set, or the path of a manifest")


def _flavours() -> list[str]:
    from fastretina.engines.tensorrt_file import FLAVOURS

    return list(FLAVOURS)


def _precision(text: str) -> str:
    """Other tools say fp16."""
    name = {"fp32": "f32", "fp16": "f16"}.get(text, text)
    if name not in CHOICES["precision"]:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: {', '.join(CHOICES['precision'])}")
    return name


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected HEIGHTxWIDTH, or one number for both")
    return int(sides[0]), int(sides[-1])


def _list(args: argparse.Namespace) -> int:
    from fastretina import engines
    from fastretina.engines import tensorrt_file

    installed = engines.available()
    for name in engines.ENGINES:
        default = " (default)" if installed[:1] == [name] else ""
        say(f"{name:12s} {'installed' + default if name in installed else 'not installed'}")
    folder = Path(args.directory) if args.directory else tensorrt_file.engines_folder()
    if args.directory and not folder.is_dir():
        raise InvalidInput(f"--directory: {folder} is no folder")
    for path in tensorrt_file.engine_files(folder):
        say(f"{path}: {_state(path, args.weights)}")
    return EXIT_OK


def _state(path: Path, weights: str) -> str:
    """Fresh, or why an engine file would be refused here. ``weights``: the network it is of, if not a shipped one."""
    from fastretina import engines
    from fastretina.engines import tensorrt_file

    try:
        sidecar = tensorrt_file.read_sidecar(path)
        manifest = engines.load_manifest(weights)
        if manifest.name != sidecar.network:
            manifest = engines.load_manifest(sidecar.network)
        tensorrt_file.read_engine(path, tensorrt_file.here(manifest, tensorrt_file.gpu_capability()))
    except (EngineError, InvalidInput) as error:
        return f"refused: {error}"
    sides = " ... ".join("x".join(map(str, shape)) for shape in (sidecar.min_shape, sidecar.max_shape))
    return f"fresh; batch x height x width {sides}; compute capability {', '.join(sidecar.capabilities)}"


def _build(args: argparse.Namespace) -> int:
    from fastretina import engines
    from fastretina.engines import tensorrt_build, tensorrt_file

    manifest = engines.load_manifest(args.weights)
    default = tensorrt_build.default_sizes(manifest, args.batch)
    sizes = tensorrt_build.Sizes(
        args.min_size or default.smallest, args.opt_size or default.best, args.max_size or default.largest, args.batch
    )
    folder = Path(args.output) if args.output else tensorrt_file.engines_folder()
    path = tensorrt_build.build(manifest, args.precision, sizes, folder, args.flavour, tuple(args.capability))
    say(f"{path}: {path.stat().st_size} bytes; {_state(path, args.weights)}")
    if path.parent != tensorrt_file.engines_folder():
        say(f"it is found where {tensorrt_file.FOLDER_VARIABLE}={path.parent} is set")
    return EXIT_OK


def _verify(args: argparse.Namespace) -> int:
    from fastretina.engines.verify import verify

    found = verify(args.weights, args.engine, args.precision, args.device, seed=args.seed)
    say(f"{found.engine} {found.precision} beside torch f32, synthetic pair {args.seed}")
    for what, measured, bound, kept in found.rows():
        say(f"{'ok' if kept else 'BEYOND':6s} {what:38s} {measured:>10s}   {bound}")
    return EXIT_OK if found.ok else EXIT_INTERNAL
