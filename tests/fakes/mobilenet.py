"""Real weights and pictures out of installed packages: MobileNetV2, and what scikit-image ships."""

from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

from models.media import mobilenet
from models.media.encoder_build import Pixels, build_encoder
from models.media.torch_weights import read_state_dict
from topology.commands.frame_encoder import packaged_weights

PIXELS = Pixels(mobilenet.SIZE, mobilenet.RESIZE, mobilenet.MEAN, mobilenet.STD)


def mobilenet_encoder(out: Path, output: str = "features") -> Path:
    model = mobilenet.build_mobilenet(read_state_dict(packaged_weights()))
    return build_encoder(model, PIXELS, output, "mobilenet-v2", out, "test")


def picture(name: str) -> np.ndarray:
    """A picture that scikit-image ships, as it is; uint8 [height, width, 3]."""
    spec = find_spec("skimage")
    assert spec is not None, "make install"
    folder = Path(next(iter(spec.submodule_search_locations or ())))
    with av.open(str(folder / "data" / name)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def show(path: Path, pictures: list[np.ndarray], seconds_each: float = 1.0) -> Path:
    """A video of pictures, one after the other, each scaled to the size of the first."""
    height, width = (side // 2 * 2 for side in pictures[0].shape[:2])
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18", "preset": "ultrafast"}
        for one in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(one), format="rgb24")
            frame = frame.reformat(width=width, height=height, format="yuv420p")
            for _ in range(round(5 * seconds_each)):
                frame.pts = None
                out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
