"""The nano student as one ONNX graph; needs the extra `train`."""

# pyright: reportUnknownParameterType=false
# onnx has partial types.

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.word_graph import pair_nodes, pair_values

Floats = NDArray[np.float32]

OPSET = 20


@dataclass(frozen=True)
class Weights:
    """A attributes, V tokens, d features a token, D hidden units.

    words [V + PAIRS, A]: what a token or a pair adds to each logit; features [V, d]: what a token adds to the pooled
    text; both calibrated and pooled as sum / sqrt(tokens). hidden [d, D] and hidden_bias [D]; heads [D, A] and bias [A]
    join the calibrated logits; centre [D] is the mean hidden layer, taken off before a vector is normalised.
    """

    words: Floats
    features: Floats
    hidden: Floats
    hidden_bias: Floats
    heads: Floats
    bias: Floats
    centre: Floats


def build(weights: Weights) -> bytes:
    """Return the serialised model: (`ids`, `mask`) to (`probability`, `vector`), see `models.bundle`.

    The tables of tokens and pairs are float16, which halves the bundle; arithmetic is float32.
    """
    attributes, dim, vocabulary = weights.words.shape[1], weights.hidden.shape[1], len(weights.features)
    initializers = {
        "table": np.concatenate([weights.words[:vocabulary], weights.features], axis=1).astype(np.float16),
        **pair_values(weights.words[vocabulary:]),
        "widths": np.array([attributes, weights.features.shape[1]], np.int64),
        "hidden": weights.hidden,
        "hidden_bias": weights.hidden_bias,
        "heads": weights.heads,
        "bias": weights.bias,
        "centre": weights.centre,
        "tokens_axis": np.array([1], np.int64),
        "one": np.array(1, np.float32),
        "tiny": np.array(1e-6, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["rows16"], axis=0),
        node("Cast", ["rows16"], ["rows"], to=TensorProto.FLOAT),
        node("Cast", ["mask"], ["weight"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["weight", "tokens_axis"], ["weight_row"]),
        node("MatMul", ["weight_row", "rows"], ["sum_row"]),
        node("Squeeze", ["sum_row", "tokens_axis"], ["sum"]),
        node("ReduceSum", ["weight", "tokens_axis"], ["count"], keepdims=1),
        node("Max", ["count", "one"], ["count1"]),
        node("Sqrt", ["count1"], ["norm"]),
        node("Div", ["sum", "norm"], ["pooled"]),
        node("Split", ["pooled", "widths"], ["token_logits", "text"], axis=1),
        *pair_nodes(lambda name: name),
        node("Div", ["pair_sum", "norm"], ["pair_logits"]),
        node("Gemm", ["text", "hidden", "hidden_bias"], ["pre"]),
        node("Relu", ["pre"], ["units"]),
        node("Gemm", ["units", "heads", "bias"], ["head_logits"]),
        node("Sum", ["token_logits", "pair_logits", "head_logits"], ["logits"]),
        node("Sigmoid", ["logits"], ["probability"]),
        node("Sub", ["units", "centre"], ["centred"]),
        node("ReduceL2", ["centred", "tokens_axis"], ["length"], keepdims=1),
        node("Max", ["length", "tiny"], ["length1"]),
        node("Div", ["centred", "length1"], ["vector"]),
    ]
    graph = helper.make_graph(
        nodes,
        "nano",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"]) for name in ("ids", "mask")],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", attributes]),
            helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", dim]),
        ],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )
    model = helper.make_model(
        graph, producer_name="vibestream", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
