"""The GPU benchmark's own logic, on the CPU; and that it measures nothing where there is no GPU."""

import subprocess
import sys

import onnxruntime as ort
import pytest

from tests.benchmarks.gpu import Grid, bench
from tests.benchmarks.gpu_model import FRAMES, TEXT, Shape

TINY_TEXT = Shape("text", layers=2, dim=16, heads=2, longest=8, vocabulary=50)
TINY_FRAMES = Shape("frames", layers=1, dim=16, heads=4, longest=4, patch=12)


def test_every_cell_is_measured_and_agrees_with_float64():
    grid = Grid((TINY_TEXT, TINY_FRAMES), batches=(1, 3), lengths=(4, 8), seconds=0.01)
    cells = list(bench("cpu", grid))
    kinds, batches, ways = 3, 2, 2  # fp32 with attention spelled and fused, fp16 spelled
    assert len(cells) == kinds * batches * ways * (2 + 1), "text has two lengths, frames have one"
    assert all(0 < cell.ms <= cell.p99_ms for cell in cells)
    worst = {half: max(cell.error for cell in cells if cell.half is half) for half in (False, True)}
    assert 0 < worst[False] < 1e-5 < worst[True] < 1e-2


def test_the_sizes_are_those_of_minilm_and_of_vit_b():
    assert TEXT.flops(1, 128) == pytest.approx(2.87e9, rel=0.01)
    assert FRAMES.flops(1, 196) == pytest.approx(35.1e9, rel=0.02)


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="there may be a GPU here")
def test_without_cuda_it_ends_with_one_line_that_says_why():
    found = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu"], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr == (
        "not measured: this ONNX Runtime was built without CUDA; install vibestream[gpu] on a CUDA machine\n"
    )
