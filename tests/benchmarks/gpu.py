"""Encoders on a CUDA machine: ONNX Runtime against torch and against the roofline; one line of JSON per measurement.

`python -m tests.benchmarks.gpu` starts strictly on CUDA: where ONNX Runtime would fall back to the CPU it ends with one
line that says why. Grid: text (MiniLM's size) and frames (ViT-B/16's), float32 and float16, batches and lengths in
buckets, numpy in and out, IO binding on the device, and a CUDA graph, with attention spelled and as one operator;
beside them, where torch is installed, torch eager and torch.compile with the same weights, and copies from pinned and
pageable memory. Every session's outputs are held against float64 first. `share` is the part of the peak that was
reached (--peak-tflops, that of float16).
"""

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.student import Provider, check_runtime
from schemas.errors import ConfigurationError
from tests.benchmarks.gpu_model import FRAMES, TEXT, Shape, Weights, graph, inputs, truth, weights

_CHECKED = 2  # rows that are held against float64
_MOST_ERROR = {False: 1e-3, True: 2e-2}  # relative, by half
_FEWEST = 5
_MODELS = {shape.name: shape for shape in (FRAMES, TEXT)}


@dataclass(frozen=True)
class Cell:
    """One measurement: medians of one call, in milliseconds; `error` is the largest against float64, relative."""

    model: str
    how: str
    half: bool
    fused: bool
    batch: int
    tokens: int
    ms: float
    p99_ms: float
    per_s: float
    tflops: float
    share: float
    error: float


@dataclass(frozen=True)
class Grid:
    """What to measure."""

    shapes: Sequence[Shape]
    halves: Sequence[bool] = (False, True)
    batches: Sequence[int] = (1, 32, 256, 1024)
    lengths: Sequence[int] = (64, 128, 256)
    seconds: float = 1.0
    peak_tflops: float = 790.0


def require_cuda() -> None:
    """Check that ONNX Runtime can run on CUDA here.

    Raises:
        ConfigurationError: it can't, and why.

    """
    check_runtime()
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ConfigurationError("this ONNX Runtime was built without CUDA; install vibestream[gpu] on a CUDA machine")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise ConfigurationError(f"no NVIDIA driver: {error}") from error
    ort.preload_dlls()


def start(model: bytes, provider: Provider, cuda_graph: bool = False) -> Any:
    """Start a session wholly on `provider`.

    Raises:
        ConfigurationError: ONNX Runtime chose another.

    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    wanted: Any = "CPUExecutionProvider"
    if provider == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        more = {"cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "1" if cuda_graph else "0"}
        wanted = ("CUDAExecutionProvider", more)
    session = ort.InferenceSession(model, options, providers=[wanted])
    if session.get_providers()[0] != (wanted if provider == "cpu" else wanted[0]):
        raise ConfigurationError(f"asked for {provider}, ONNX Runtime gave {session.get_providers()}")
    return session


def bench(provider: Provider, grid: Grid) -> Iterator[Cell]:
    """Measure every cell of the grid.

    Raises:
        ConfigurationError: a session does not start on `provider`.
        AssertionError: outputs are too far from float64.

    """
    for shape in grid.shapes:
        given = weights(shape)
        lengths = [n for n in grid.lengths if n <= shape.longest] if shape.vocabulary else [shape.longest]
        for half, fused in product(grid.halves, (False, True)):
            if provider == "cpu" and half and fused:
                continue  # ONNX Runtime has no such operator there
            model = graph(shape, given, half, fused=fused)
            session = start(model, provider)
            for tokens, batch in product(lengths, grid.batches):
                yield from _cells(provider, grid, shape, given, model, session, half, fused, batch, tokens)


def _cells(
    provider: Provider,
    grid: Grid,
    shape: Shape,
    given: Weights,
    model: bytes,
    session: Any,
    half: bool,
    fused: bool,
    batch: int,
    tokens: int,
) -> Iterator[Cell]:
    x = inputs(shape, batch, tokens, half)
    expected = truth(shape, given, x[:_CHECKED])

    def cell(how: str, run: Callable[[], Any], found: NDArray[np.generic] | None = None) -> Cell:
        error = 0.0 if found is None else _error(found[: len(expected)], expected)
        if error > _MOST_ERROR[half]:
            raise AssertionError(f"{shape.name} {how}, half {half}: off by {error:.2e} of float64, relative")
        ms, p99 = _timed(run, grid.seconds)
        tflops = shape.flops(batch, tokens) / ms / 1e9
        share = tflops / grid.peak_tflops
        return Cell(shape.name, how, half, fused, batch, tokens, ms, p99, batch / ms * 1e3, tflops, share, error)

    run = lambda: session.run(["vector"], {"input": x})[0]  # noqa: E731 - it is timed and called for its result
    yield cell("run", run, run())
    bound, output = _bound(session, provider, x, batch, shape.dim, half)
    bound()
    yield cell("bound", bound, output())
    if provider == "cuda":
        graphed = start(model, provider, cuda_graph=True)  # one graph per session, for one shape
        bound, output = _bound(graphed, provider, x, batch, shape.dim, half)
        bound()
        yield cell("CUDA graph", bound, output())
        if find_spec("torch") and not fused:
            from tests.benchmarks.gpu_torch import copies, runners

            for how, other in {**runners(shape, given, x, half), **copies(x)}.items():
                yield cell(how, other)


def _bound(
    session: Any, provider: Provider, x: NDArray[np.generic], batch: int, dim: int, half: bool
) -> tuple[Callable[[], None], Callable[[], NDArray[np.generic]]]:
    """Return what runs the session on values that stay on the device, and what reads its output."""
    import onnxruntime as ort

    binding = session.io_binding()
    source = ort.OrtValue.ortvalue_from_numpy(x, provider, 0)
    dtype = np.float16 if half else np.float32
    target = ort.OrtValue.ortvalue_from_shape_and_type((batch, dim), dtype, provider, 0)
    binding.bind_ortvalue_input("input", source)
    binding.bind_ortvalue_output("vector", target)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run, target.numpy


def _error(found: NDArray[np.generic], expected: NDArray[np.float64]) -> float:
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def _timed(run: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Return median and 99th percentile of one call in milliseconds, after a warm-up."""
    for _ in range(_FEWEST):
        run()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < _FEWEST or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        took.append(1000 * (time.perf_counter() - started))
    return float(np.median(took)), float(np.quantile(took, 0.99))


def show(cells: Sequence[Cell]) -> None:
    """Print a table of all cells."""
    table = Table()
    for heading in (
        "model", "how", "fp16", "fused", "batch", "tokens", "ms", "p99", "per s", "TFLOP/s", "of peak", "error",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for one in cells:
        table.add_row(
            one.model, one.how, str(one.half), str(one.fused), str(one.batch), str(one.tokens),
            f"{one.ms:.3f}", f"{one.p99_ms:.3f}", f"{one.per_s:,.0f}", f"{one.tflops:.1f}", f"{one.share:.1%}",
            f"{one.error:.1e}",
        )  # fmt: skip
    Console(stderr=True, width=140).print(table)


def main() -> None:
    """Measure on CUDA, or say why not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=Grid.seconds, help="of each measurement")
    parser.add_argument("--models", nargs="+", choices=sorted(_MODELS), default=sorted(_MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=Grid.batches)
    parser.add_argument("--lengths", type=int, nargs="+", default=Grid.lengths)
    parser.add_argument("--peak-tflops", type=float, default=Grid.peak_tflops, help="float16, dense, of this GPU")
    options = parser.parse_args()
    try:
        require_cuda()
    except ConfigurationError as error:
        sys.exit(f"not measured: {error}")
    grid = Grid(
        shapes=[_MODELS[name] for name in options.models],
        batches=options.batches,
        lengths=options.lengths,
        seconds=options.seconds,
        peak_tflops=options.peak_tflops,
    )
    cells: list[Cell] = []
    for cell in bench("cuda", grid):
        cells.append(cell)
        print(json.dumps(asdict(cell)), flush=True)
    show(cells)


if __name__ == "__main__":
    main()
