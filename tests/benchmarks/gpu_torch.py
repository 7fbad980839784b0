"""The same encoder in torch, eager and compiled: what ONNX Runtime is measured against on a CUDA machine."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.gpu_model import Shape, Weights


def runners(shape: Shape, weights: Weights, x: NDArray[np.generic], half: bool) -> dict[str, Callable[[], Any]]:
    """Return, by name, functions that run one batch which lies on the device, and wait for it."""
    import torch
    import torch.nn.functional as nn

    dtype = torch.float16 if half else torch.float32
    w = {name: torch.tensor(one, device="cuda", dtype=dtype) for name, one in weights.items()}
    given = torch.tensor(x, device="cuda") if shape.vocabulary else torch.tensor(x, device="cuda", dtype=dtype)

    def norm(x: Any, name: str) -> Any:
        return nn.layer_norm(x, (shape.dim,), w[name], w[f"{name}.bias"], 1e-5)

    def dense(x: Any, name: str) -> Any:
        return x @ w[name] + w[f"{name}.bias"]

    def forward(x: Any) -> Any:
        n, tokens = x.shape[:2]
        state = w["embedding"][x] if shape.vocabulary else x @ w["embedding"]
        state = state + w["position"][:tokens]
        for layer in range(shape.layers):
            qkv = dense(norm(state, f"{layer}.norm1"), f"{layer}.qkv").view(n, tokens, 3, shape.heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            mixed = nn.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, shape.dim)
            state = state + dense(mixed, f"{layer}.out")
            state = state + dense(nn.gelu(dense(norm(state, f"{layer}.norm2"), f"{layer}.up")), f"{layer}.down")
        return state.mean(1)

    def running(function: Callable[[Any], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                made = function(given)
            torch.cuda.synchronize()
            return made.float().cpu().numpy

        return run

    return {
        "torch eager": running(forward),
        "torch.compile": running(torch.compile(forward)),
        "torch.compile max-autotune": running(torch.compile(forward, mode="max-autotune")),
    }


def copies(x: NDArray[np.generic]) -> dict[str, Callable[[], Any]]:
    """Return functions that copy one batch to the device, from pageable and from pinned memory."""
    import torch

    pageable, target = torch.from_numpy(x), torch.empty(x.shape, dtype=torch.from_numpy(x[:1]).dtype, device="cuda")
    pinned = pageable.pin_memory()

    def copying(source: Any) -> Callable[[], Any]:
        def copy() -> None:
            target.copy_(source, non_blocking=True)
            torch.cuda.synchronize()

        return copy

    return {"copy pageable": copying(pageable), "copy pinned": copying(pinned)}
