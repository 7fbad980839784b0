"""Pairs of words inside an ONNX graph; needs the extra `train`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from models.words import PAIRS, STRIDE

Floats = NDArray[np.float32]


def pair_values(weights: Floats) -> Mapping[str, NDArray[np.generic]]:
    """Return the initializers that `pair_nodes` needs; `weights` [PAIRS, A] are what each place adds to the logits."""
    return {
        "pairs": weights.astype(np.float16),
        "places": np.array(PAIRS, np.int64),
        "stride": np.array(STRIDE, np.int64),
        "begin": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "end": np.array([2**31], np.int64),
    }


def pair_nodes(name: Callable[[str], str]) -> list[NodeProto]:
    """Return the nodes from `ids` and `weight_row` [n, 1, tokens] to `pair_sum` [n, A], see `models.words.pair_of`.

    Padding has id 0, so that a text's last token is followed by 0 in every batch. `name` makes names that are free.
    """

    def node(kind: str, inputs: list[str], output: str, **options: Any) -> NodeProto:
        return helper.make_node(kind, [one if one == "ids" else name(one) for one in inputs], [name(output)], **options)

    return [
        node("Slice", ["ids", "begin", "second", "tokens_axis"], "first"),
        node("Sub", ["first", "first"], "nothing"),
        node("Slice", ["ids", "second", "end", "tokens_axis"], "later"),
        node("Concat", ["later", "nothing"], "next", axis=1),
        node("Mul", ["ids", "stride"], "strided"),
        node("Add", ["strided", "next"], "mixed"),
        node("Mod", ["mixed", "places"], "pair_ids"),
        node("Gather", ["pairs", "pair_ids"], "pair_rows16", axis=0),
        node("Cast", ["pair_rows16"], "pair_rows", to=TensorProto.FLOAT),
        node("MatMul", ["weight_row", "pair_rows"], "pair_row"),
        node("Squeeze", ["pair_row", "tokens_axis"], "pair_sum"),
    ]
