"""Versions of the shipped student that differ as a test wants, signed and with golden outputs of their own."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper
from tokenizers import Tokenizer

from models.bundle import MANIFEST, MODEL, TOKENIZER, default_bundle, load_manifest
from models.distil import score
from models.registry import Registry

Weights = dict[str, np.ndarray]


def registry(root: Path, versions: int) -> Registry:
    """A registry with so many versions; each says other probabilities than the one before, with the same vectors."""
    for version in range(1, versions + 1):
        add_version(root, version, shift=version - 1)
    return Registry(root / "nano")


def add_version(
    root: Path, version: int, *, shift: float = 0.0, change: Callable[[Weights], Weights] = lambda weights: {}
) -> Path:
    """Make root/nano/<version>: every logit moved by `shift`, and weights as `change` says."""
    path = Path(shutil.copytree(default_bundle(), root / "nano" / str(version)))
    model = onnx.load(path / MODEL)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    values = {name: numpy_helper.to_array(tensor) for name, tensor in weights.items()}
    changed = {"bias": values["bias"] + np.float32(shift), **change(values)}
    for name, value in changed.items():
        weights[name].CopyFrom(numpy_helper.from_array(value.astype(values[name].dtype), name))
    onnx.save(model, path / MODEL)
    content = (path / MODEL).read_bytes()
    manifest = json.loads((path / MANIFEST).read_bytes())
    texts = manifest["golden"]["texts"]
    tokenizer = Tokenizer.from_file(str(path / TOKENIZER))
    tokenizer.enable_truncation(manifest["max_tokens"])
    manifest["version"] = version
    manifest["files"][MODEL] = sha256(content).hexdigest()
    manifest["golden"]["probability"] = score(content, tokenizer, texts).probability.round(5).tolist()
    (path / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    load_manifest(path)
    return path


def elsewhere(weights: Weights) -> Weights:
    """The hidden units in another order: the same probabilities, vectors in another space."""
    order = np.random.default_rng(3).permutation(len(weights["hidden_bias"]))
    return {
        "hidden": weights["hidden"][:, order],
        "hidden_bias": weights["hidden_bias"][order],
        "heads": weights["heads"][order],
        "centre": weights["centre"][order],
    }


def damage(path: Path) -> None:
    """Flip one byte of a bundle's model."""
    content = (path / MODEL).read_bytes()
    (path / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
