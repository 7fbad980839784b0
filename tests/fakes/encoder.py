"""A sentence encoder of one small layer with random weights, named like Hugging Face's BERT."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

DIM = 16
_PREFIX = "bert.encoder.layer.0"
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_encoder(folder: Path, words: list[str]) -> Path:
    """Write model.onnx and tokenizer.json, whose vocabulary is `words`; return the model's path."""
    vocabulary = {word: i for i, word in enumerate([*_SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    onnx.save(_model(len(vocabulary)), folder / "model.onnx")
    return folder / "model.onnx"


def _model(vocabulary: int) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    query = f"{_PREFIX}.attention.self.query"
    weights = {
        "bert.embeddings.word_embeddings.weight": rng.normal(0, 1, (vocabulary, DIM)),
        f"{query}.weight": rng.normal(0, DIM**-0.5, (DIM, DIM)),
        f"{query}.bias": np.zeros(DIM),
        "few": np.array(-1e9),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["bert.embeddings.word_embeddings.weight", "input_ids"], ["embedded"]),
        node("MatMul", ["embedded", f"{query}.weight"], ["asked"]),
        node("Add", [f"{query}.bias", "asked"], ["query"]),
        node("Transpose", ["embedded"], ["keys"], perm=[0, 2, 1]),
        node("MatMul", ["query", "keys"], ["match"]),
        node("Unsqueeze", ["attention_mask", "middle"], ["mask_row"]),
        node("Cast", ["mask_row"], ["there"], to=TensorProto.BOOL),
        node("Where", ["there", "match", "few"], ["masked"]),
        node("Softmax", ["masked"], ["share"], axis=-1),
        node("MatMul", ["share", "embedded"], ["context"]),
        node("Add", ["context", "embedded"], ["last_hidden_state"]),
    ]
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([1], np.int64), "middle"))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", DIM])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
