"""A frozen encoder, heads and calibration as one ONNX graph; needs the extra `train`."""

# pyright: reportUnknownParameterType=false
# onnx has partial types.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.encoder import Encoder
from models.word_graph import pair_nodes, pair_values
from models.words import PAIRS

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HeadWeights:
    """A attributes, V tokens, F pooled features, D hidden units.

    words [V + PAIRS, A], pooled as sum / sqrt(tokens); hidden [F, D] and hidden_bias [D]; heads [D, A], direct [F, A]
    and bias [A] join the calibrated logits, as do focus and value [G, A] over each token's states
    (`models.attention`); centre [D] is the mean hidden layer, taken off before a vector is normalised.
    """

    words: Floats
    hidden: Floats
    hidden_bias: Floats
    heads: Floats
    direct: Floats
    focus: Floats
    value: Floats
    bias: Floats
    centre: Floats


def build_encoder(
    encoder: Encoder,
    states: Sequence[str],
    tokens: Sequence[str],
    weights: HeadWeights,
    vocabulary: int,
    unknown: int,
) -> bytes:
    """Return the serialised model: (`ids`, `mask`) to (`probability`, `vector`), see `models.bundle`.

    `states` are pooled into the features, `tokens` are the states that attention sees; the encoder sees ids from
    `vocabulary` on as `unknown`. The operators used here mean the same from opset 13 on, whichever the encoder has.
    """
    model = onnx.ModelProto()
    model.CopyFrom(encoder.model)
    graph = model.graph
    attributes, dim = weights.heads.shape[1], weights.hidden.shape[1]
    values = {
        "table": weights.words[:-PAIRS].astype(np.float16),
        **pair_values(weights.words[-PAIRS:]),
        "hidden": weights.hidden,
        "hidden_bias": weights.hidden_bias,
        "heads": weights.heads,
        "direct": weights.direct,
        "focus": weights.focus,
        "value": weights.value,
        "states_axis": np.array([2], np.int64),
        "never": np.array(-1e9, np.float32),
        "bias": weights.bias,
        "centre": weights.centre,
        "vocabulary": np.array(vocabulary, np.int64),
        "unknown": np.array(unknown, np.int64),
        "tokens_axis": np.array([1], np.int64),
        "one": np.array(1, np.float32),
        "tiny": np.array(1e-6, np.float32),
    }

    def node(kind: str, inputs: Sequence[str], output: str, **options: Any) -> onnx.NodeProto:
        return helper.make_node(kind, [_own(name, values) for name in inputs], [output], **options)

    feeds = {
        "input_ids": [
            node("Less", ["ids", "vocabulary"], "student/known"),
            node("Where", ["student/known", "ids", "unknown"], "input_ids"),
        ],
        "attention_mask": [node("Identity", ["mask"], "attention_mask")],
        "token_type_ids": [node("Sub", ["ids", "ids"], "token_type_ids")],
    }
    before = [one for feed in graph.input for one in feeds[feed.name]]
    after = [
        node("Cast", ["mask"], "student/weight", to=TensorProto.FLOAT),
        node("ReduceSum", ["student/weight", "tokens_axis"], "student/count", keepdims=1),
        node("Max", ["student/count", "one"], "student/count1"),
        node("Unsqueeze", ["student/weight", "tokens_axis"], "student/weight_row"),
        node("Gather", ["table", "ids"], "student/rows16", axis=0),
        node("Cast", ["student/rows16"], "student/rows", to=TensorProto.FLOAT),
        node("MatMul", ["student/weight_row", "student/rows"], "student/word_row"),
        node("Squeeze", ["student/word_row", "tokens_axis"], "student/token_sum"),
        *pair_nodes(lambda name: f"student/{name}"),
        node("Add", ["student/token_sum", "student/pair_sum"], "student/word_sum"),
        node("Sqrt", ["student/count1"], "student/norm"),
        node("Div", ["student/word_sum", "student/norm"], "student/word_logits"),
    ]
    for i, state in enumerate(states):
        after += [
            node("MatMul", ["student/weight_row", state], f"student/row{i}"),
            node("Squeeze", [f"student/row{i}", "tokens_axis"], f"student/sum{i}"),
            node("Div", [f"student/sum{i}", "student/count1"], f"student/mean{i}"),
        ]
    after += [
        node("Concat", [f"student/mean{i}" for i in range(len(states))], "student/pooled", axis=1),
        node("Gemm", ["student/pooled", "hidden", "hidden_bias"], "student/pre"),
        node("Relu", ["student/pre"], "student/units"),
        node("Gemm", ["student/units", "heads", "bias"], "student/head_logits"),
        node("MatMul", ["student/pooled", "direct"], "student/direct_logits"),
        node("Concat", tokens, "student/states", axis=2),
        node("MatMul", ["student/states", "focus"], "student/match"),
        node("Unsqueeze", ["student/weight", "states_axis"], "student/there"),
        node("Sub", ["one", "student/there"], "student/absent"),
        node("Mul", ["student/absent", "never"], "student/barred"),
        node("Add", ["student/match", "student/barred"], "student/matched"),
        node("Softmax", ["student/matched"], "student/share", axis=1),
        node("MatMul", ["student/states", "value"], "student/said"),
        node("Mul", ["student/share", "student/said"], "student/heard"),
        node("ReduceSum", ["student/heard", "tokens_axis"], "student/token_logits", keepdims=0),
        node(
            "Sum",
            ["student/word_logits", "student/head_logits", "student/direct_logits", "student/token_logits"],
            "student/logits",
        ),
        node("Sigmoid", ["student/logits"], "probability"),
        node("Sub", ["student/units", "centre"], "student/centred"),
        node("Mul", ["student/centred", "student/centred"], "student/squares"),
        node("ReduceSum", ["student/squares", "tokens_axis"], "student/square", keepdims=1),
        node("Sqrt", ["student/square"], "student/length"),
        node("Max", ["student/length", "tiny"], "student/length1"),
        node("Div", ["student/centred", "student/length1"], "vector"),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"]) for name in ("ids", "mask")
    )
    graph.output.extend(
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", attributes]),
            helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", dim]),
        ]
    )
    graph.initializer.extend(numpy_helper.from_array(value, _own(name, values)) for name, value in values.items())
    model.producer_name = "vibestream"
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _own(name: str, values: Mapping[str, object]) -> str:
    """Keep our initializers' names apart from the encoder's."""
    return f"student/{name}" if name in values else name
