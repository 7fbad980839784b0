"""Grafts modalities onto a student's graph: one graph for fusion and heads; needs the extra `train`."""

# pyright: reportUnknownParameterType=false
# onnx has partial types.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from models.media_rows import MediaRows

Floats = NDArray[np.float32]

_BEFORE, _FUSED = "pre", "fused"
"""What goes into the hidden layer of a nano student's graph, and what goes into it once it is fused."""


@dataclass(frozen=True)
class Modality:
    """frames or sound: weights [D, hidden] and bias [hidden] of its way into the hidden layer."""

    name: str
    weights: Floats
    bias: Floats

    def of(self, media: "MediaRows") -> tuple[Floats, Floats]:
        """Return the values [n, D] and which of them are there [n]."""
        values, there = (media.frames, media.has_frames) if self.name == "frames" else (media.sound, media.has_sound)
        return values, there.astype(np.float32)


def fuse(student: bytes, modalities: Sequence[Modality]) -> bytes:
    """Return the graph of a text student with inputs for `modalities` more; see `models.bundle` for their shapes.

    frames: the mean over those that the mask has. What is masked adds exactly nothing.
    """
    model = onnx.load_from_string(student)
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    terms = [_BEFORE]
    for one in modalities:
        dim = one.weights.shape[0]
        graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), f"{one.name}/{part}")
            for part, value in (("weights", one.weights), ("bias", one.bias))
        )
        shape = ["n", "frames", dim] if one.name == "frames" else ["n", dim]
        graph.input.extend(
            [
                helper.make_tensor_value_info(one.name, TensorProto.FLOAT, shape),
                helper.make_tensor_value_info(
                    f"{one.name}_mask", TensorProto.FLOAT, ["n", "frames" if one.name == "frames" else 1]
                ),
            ]
        )
        nodes += _mean_of_frames() if one.name == "frames" else []
        value, there = ("frames/mean", "frames/any") if one.name == "frames" else (one.name, f"{one.name}_mask")
        nodes += [
            helper.make_node("Gemm", [value, f"{one.name}/weights", f"{one.name}/bias"], [f"{one.name}/projected"]),
            helper.make_node("Mul", [f"{one.name}/projected", there], [f"{one.name}/term"]),
        ]
        terms.append(f"{one.name}/term")
    nodes.append(helper.make_node("Sum", terms, [_FUSED]))
    kept = list(graph.node)
    at = 1 + next(i for i, node in enumerate(kept) if _BEFORE in node.output)
    for node in kept[at:]:
        node.input[:] = [_FUSED if name == _BEFORE else name for name in node.input]
    del graph.node[:]
    graph.node.extend([*kept[:at], *nodes, *kept[at:]])
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _mean_of_frames() -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Unsqueeze", ["frames_mask", "tokens_axis"], ["frames/row"]),
        node("MatMul", ["frames/row", "frames"], ["frames/sum_row"]),
        node("Squeeze", ["frames/sum_row", "tokens_axis"], ["frames/sum"]),
        node("ReduceSum", ["frames_mask", "tokens_axis"], ["frames/count"], keepdims=1),
        node("Max", ["frames/count", "one"], ["frames/count1"]),
        node("Div", ["frames/sum", "frames/count1"], ["frames/mean"]),
        node("Min", ["frames/count", "one"], ["frames/any"]),
    ]
