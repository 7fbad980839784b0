"""Encoders of the sizes that students and frames take, with random weights: an ONNX graph, and a float64 truth.

No weights of anybody's are needed to measure speed. The layers are those of a pre-norm transformer without a mask:
every bucket is full.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]
_OPSET = 20
_CONTRIB = "com.microsoft"
_EPSILON = 1e-5
_SCALE = 0.02


@dataclass(frozen=True)
class Shape:
    """An encoder of `vocabulary` token ids, or, where that is 0, of patches of `patch` numbers."""

    name: str
    layers: int
    dim: int
    heads: int
    longest: int
    vocabulary: int = 0
    patch: int = 0

    def flops(self, batch: int, tokens: int) -> float:
        """Return the floating-point operations of one call, two for a multiply-add."""
        dense = 2 * tokens * (self.layers * 12 * self.dim**2 + self.patch * self.dim)
        return batch * (dense + self.layers * 4 * tokens**2 * self.dim)


TEXT = Shape("text", layers=6, dim=384, heads=12, longest=256, vocabulary=30_522)
"""MiniLM-L6: 2.87 GFLOP at 128 tokens."""
FRAMES = Shape("frames", layers=12, dim=768, heads=12, longest=196, patch=768)
"""ViT-B/16 on 224 x 224 pixels: 35 GFLOP a frame."""


def weights(shape: Shape, seed: int = 1) -> Weights:
    """Return random weights, the same for the same seed."""
    rng, dim = np.random.default_rng(seed), shape.dim

    def normal(*size: int) -> NDArray[np.float32]:
        return (rng.standard_normal(size) * _SCALE).astype(np.float32)

    made = {"position": normal(shape.longest, dim)}
    made["embedding"] = normal(shape.vocabulary or shape.patch, dim)
    for layer in range(shape.layers):
        sizes = {"qkv": (dim, 3 * dim), "out": (dim, dim), "up": (dim, 4 * dim), "down": (4 * dim, dim)}
        for name, size in sizes.items():
            made[f"{layer}.{name}"] = normal(*size)
            made[f"{layer}.{name}.bias"] = normal(size[1])
        for name in ("norm1", "norm2"):
            made[f"{layer}.{name}"] = np.ones(dim, np.float32) + normal(dim)
            made[f"{layer}.{name}.bias"] = normal(dim)
    return made


def inputs(shape: Shape, batch: int, tokens: int, half: bool = False, seed: int = 2) -> NDArray[np.generic]:
    """Return a full bucket: ids [n, tokens] or patches [n, tokens, patch]."""
    rng = np.random.default_rng(seed)
    if shape.vocabulary:
        return rng.integers(shape.vocabulary, size=(batch, tokens))
    return rng.standard_normal((batch, tokens, shape.patch)).astype(np.float16 if half else np.float32)


def graph(shape: Shape, given: Weights, half: bool, *, fused: bool = False) -> bytes:
    """Return the encoder as an ONNX model: `input` to `vector` [n, dim], the mean over the tokens.

    `fused`: attention is one operator of ONNX Runtime's, which need not write all scores to memory; without, it is
    spelled as products and a softmax, which only some exporters' spelling would have fused.
    """
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    dtype = np.float16 if half else np.float32
    head = shape.dim // shape.heads
    constants = {
        "split": np.array([0, 0, 3, shape.heads, head], np.int64),
        "joined": np.array([0, 0, shape.dim], np.int64),
        "scale": np.array(head**-0.5, dtype),
        "tokens_axis": np.array([1], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
    }
    nodes: list[onnx.NodeProto] = []

    def node(op: str, takes: list[str], gives: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, takes, [gives], **attributes))
        return gives

    def dense(x: str, name: str) -> str:
        return node("Add", [node("MatMul", [x, name], f"{name}.product"), f"{name}.bias"], f"{name}.done")

    def norm(x: str, name: str) -> str:
        return node("LayerNormalization", [x, name, f"{name}.bias"], f"{name}.done", epsilon=_EPSILON)

    def attention(qkv: str, at: str) -> str:
        heads = node("Reshape", [qkv, "split"], at + "heads")
        nodes.append(helper.make_node("Split", [heads], [at + "q5", at + "k5", at + "v5"], axis=2, num_outputs=3))
        q, k, v = (node("Squeeze", [f"{at}{one}5", "two"], at + one) for one in "qkv")
        q = node("Transpose", [q], at + "qt", perm=[0, 2, 1, 3])
        k = node("Transpose", [k], at + "kt", perm=[0, 2, 3, 1])
        v = node("Transpose", [v], at + "vt", perm=[0, 2, 1, 3])
        scores = node("Mul", [node("MatMul", [q, k], at + "qk"), "scale"], at + "scores")
        mixed = node("MatMul", [node("Softmax", [scores], at + "attention", axis=-1), v], at + "mixed")
        return node("Reshape", [node("Transpose", [mixed], at + "back", perm=[0, 2, 1, 3]), "joined"], at + "joined")

    def fused_attention(qkv: str, at: str) -> str:
        parts = [at + one for one in "qkv"]
        nodes.append(helper.make_node("Split", [qkv], parts, axis=2, num_outputs=3))
        return node("MultiHeadAttention", parts, at + "mixed", num_heads=shape.heads, domain=_CONTRIB)

    x = node("Gather", ["embedding", "input"], "embedded") if shape.vocabulary else ""
    x = x or node("MatMul", ["input", "embedding"], "embedded")
    length = node("Shape", ["input"], "length", start=1, end=2)
    x = node("Add", [x, node("Slice", ["position", "zero", length, "zero"], "positions")], "x")
    for layer in range(shape.layers):
        at = f"{layer}."
        qkv = dense(norm(x, at + "norm1"), at + "qkv")
        mixed = fused_attention(qkv, at) if fused else attention(qkv, at)
        x = node("Add", [x, dense(mixed, at + "out")], at + "attended")
        up = node("Gelu", [dense(norm(x, at + "norm2"), at + "up")], at + "active")
        x = node("Add", [x, dense(up, at + "down")], at + "x")
    node("ReduceMean", [x, "tokens_axis"], "vector", keepdims=0)
    takes = (
        helper.make_tensor_value_info("input", TensorProto.INT64, ["n", "tokens"])
        if shape.vocabulary
        else helper.make_tensor_value_info("input", kind, ["n", "tokens", shape.patch])
    )
    gives = helper.make_tensor_value_info("vector", kind, ["n", shape.dim])
    held = {**{name: one.astype(dtype) for name, one in given.items()}, **constants}
    made = helper.make_graph(
        nodes, shape.name, [takes], [gives], [numpy_helper.from_array(one, name) for name, one in held.items()]
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)], ir_version=10
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def truth(shape: Shape, given: Weights, x: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return what the encoder gives in float64."""
    from scipy.special import erf

    w = {name: one.astype(np.float64) for name, one in given.items()}
    n, tokens = x.shape[:2]
    head = shape.dim // shape.heads

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + _EPSILON)
        return scaled * w[name] + w[f"{name}.bias"]

    def dense(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x @ w[name] + w[f"{name}.bias"]

    state = w["embedding"][x] if shape.vocabulary else x.astype(np.float64) @ w["embedding"]
    state = state + w["position"][:tokens]
    for layer in range(shape.layers):
        qkv = dense(norm(state, f"{layer}.norm1"), f"{layer}.qkv").reshape(n, tokens, 3, shape.heads, head)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) * head**-0.5
        attention = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (attention / attention.sum(-1, keepdims=True)) @ v
        state = state + dense(mixed.transpose(0, 2, 1, 3).reshape(n, tokens, shape.dim), f"{layer}.out")
        up = dense(norm(state, f"{layer}.norm2"), f"{layer}.up")
        state = state + dense(up * 0.5 * (1 + erf(up / np.sqrt(2))), f"{layer}.down")
    return state.mean(1)
