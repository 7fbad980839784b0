"""A sentence encoder in ONNX that is shaped like BERT: where its hidden states are. Needs the extra `train`.

It takes input_ids, attention_mask and perhaps token_type_ids, int64 [n, tokens], gives the last hidden state first, and
its layers carry the names of Hugging Face's BERT, `...layer.5.attention.self.query.bias` and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from schemas.errors import ConfigurationError

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_QUERY = ".attention.self.query.bias"


@dataclass(frozen=True)
class Encoder:
    """A graph, and the names of what goes into each layer and of what comes out of the last one, [n, tokens, dim]."""

    model: onnx.ModelProto
    states: Sequence[str]
    vocabulary: int
    dim: int


def read_encoder(path: Path) -> Encoder:
    """Read an encoder's file.

    Raises:
        ConfigurationError: it can't be read, or is not shaped like BERT.

    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's DecodeError and onnx's ValidationError share no narrower base
        raise ConfigurationError(f"{path}: {error}; give the ONNX file of a sentence encoder") from error
    graph = model.graph
    inputs = {one.name for one in graph.input}
    if not {"input_ids", "attention_mask"} <= inputs <= _INPUTS:
        raise ConfigurationError(f"{path} takes {', '.join(sorted(inputs))}; expected {', '.join(sorted(_INPUTS))}")
    made = {output: node for node in graph.node for output in node.output}
    queries = {_layer(t.name): t.name for t in graph.initializer if t.name.endswith(_QUERY) and ".layer." in t.name}
    added = {name: node for node in graph.node for name in node.input if name.endswith(_QUERY)}
    words = [t for t in graph.initializer if "word_embeddings.weight" in t.name and len(t.dims) == 2 and t.dims[1] > 1]
    if not queries or not words or any(name not in added for name in queries.values()):
        raise ConfigurationError(
            f"{path} has no weights named ...layer.N{_QUERY} and ...word_embeddings.weight; the encoder must be a BERT"
            " whose export kept the names (torch.onnx.export and Optimum do)"
        )
    # The query is Add(MatMul(state, W), bias).
    products = [next(made[name] for name in added[bias].input if name != bias) for _, bias in sorted(queries.items())]
    states = [*(node.input[0] for node in products), graph.output[0].name]
    return Encoder(model, states, *words[0].dims)


def _layer(name: str) -> int:
    return int(name.partition(".layer.")[2].partition(".")[0])


def session(model: onnx.ModelProto, outputs: Sequence[str]) -> Any:
    """Return an ONNX Runtime session of the model with other outputs."""
    import onnxruntime as ort

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
