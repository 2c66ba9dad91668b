"""What needs a program of its own: that Triton stays away until it is used, and that its compiler takes every kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def python(*arguments: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    ran = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_nothing_imports_triton_on_a_cpu() -> None:
    python(
        "-c",
        """
import sys, torch, espnetv2
from espnetv2.acceleration.training import accelerate_training
model = espnetv2.create_model("espnetv2_seg_s0_5").eval()
espnetv2.accelerate(model)(torch.zeros(1, 3, 32, 32))
accelerate_training(model.train())
model(torch.zeros(2, 3, 32, 32)).sum().backward()
from espnetv2.acceleration.gpu.engine import Engine
from espnetv2.acceleration.gpu.fused import FusedNetwork
FusedNetwork(model.eval())
assert "triton" not in sys.modules
""",
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU, the kernels run on it")
@pytest.mark.parametrize(
    "kind",
    [("90", "float16", "contiguous_format"), ("80", "bfloat16", "channels_last"), ("86", "float32", "contiguous_format")],
)
def test_the_compiler_for_a_gpu_takes_every_kernel(kind: tuple[str, str, str], tmp_path: Path) -> None:
    pytest.importorskip("triton.backends.nvidia")
    program = str(Path(__file__).with_name("compile_kernels.py"))
    names = set(python(program, *kind, TRITON_CACHE_DIR=str(tmp_path)).split())
    assert names == {
        *("_branches", "_weights", "_input", "_pointwise", "_convolve", "_stages", "_fuse", "_classes", "_join"),
        *("_norm_act", "_norm_act_sums", "_norm_act_backward"),
    }
