"""MobileNetV2 (Sandler et al. 2018) as an ONNX graph, of a PyTorch state dict with torchvision's names.

Needs the extra `train`.
"""

# pyright: reportUnknownParameterType=false
# onnx has partial types.

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from schemas.errors import ConfigurationError

OPSET = 20
FEATURES = 1_280
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, RESIZE = 224, 256
_EPSILON = 1e-5
# Expansion, channels, blocks, stride of the first: table 2 of the paper.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

State = Mapping[str, NDArray[Any]]


class _Graph:
    """Collects nodes; normalisation after a convolution is folded into it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], output: str, **options: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **options))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def convolve(self, x: str, conv: str, norm: str, stride: int = 1, *, clipped: bool = True) -> str:
        state = self._state
        weight = state[f"{conv}.weight"].astype(np.float64)
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"].astype(np.float64) + _EPSILON)
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        kernel = weight.shape[2]
        y = self.add(
            "Conv",
            [
                x,
                self.constant(f"{conv}.weight", weight * scale[:, None, None, None]),
                self.constant(f"{conv}.bias", bias),
            ],
            f"{conv}.out",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=weight.shape[0] if weight.shape[1] == 1 and kernel > 1 else 1,
        )
        return self.add("Clip", [y, "zero", "six"], f"{conv}.relu6") if clipped else y


def build_mobilenet(state: State) -> onnx.ModelProto:
    """Return the model: `image` float32 [n, 3, 224, 224], normalised, to `features` [n, 1280] and `logits` [n, 1000].

    Raises:
        ConfigurationError: these are not the weights of a MobileNetV2.

    """
    graph = _Graph(state)
    graph.constant("zero", np.array(0))
    graph.constant("six", np.array(6))
    try:
        x = graph.convolve("image", "features.0.0", "features.0.1", 2)
        number, width = 1, 32
        for expansion, channels, blocks, first in _STAGES:
            for block in range(blocks):
                x = _inverted_residual(
                    graph, x, f"features.{number}.conv", expansion, width, channels, first if not block else 1
                )
                number, width = number + 1, channels
        x = graph.convolve(x, f"features.{number}.0", f"features.{number}.1")
        x = graph.add("GlobalAveragePool", [x], "pooled")
        graph.add("Flatten", [x], "features")
        weight, bias = (
            graph.constant(f"classifier.{part}", state[f"classifier.1.{part}"]) for part in ("weight", "bias")
        )
        graph.add("Gemm", ["features", weight, bias], "logits", transB=1)
    except (KeyError, IndexError) as error:
        raise ConfigurationError(f"these are not the weights of a MobileNetV2: {error} is not among them") from error
    made = helper.make_graph(
        graph.nodes,
        "mobilenet_v2",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", FEATURES]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1_000]),
        ],
        graph.initializers,
    )
    model = helper.make_model(
        made, producer_name="vibestream", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _inverted_residual(graph: _Graph, x: str, name: str, expansion: int, width: int, channels: int, stride: int) -> str:
    y, at = x, 0
    if expansion > 1:
        y, at = graph.convolve(y, f"{name}.0.0", f"{name}.0.1"), 1
    y = graph.convolve(y, f"{name}.{at}.0", f"{name}.{at}.1", stride)
    y = graph.convolve(y, f"{name}.{at + 1}", f"{name}.{at + 2}", clipped=False)
    return graph.add("Add", [x, y], f"{name}.sum") if stride == 1 and width == channels else y
