"""Latency of ``espnetv2.accelerate`` on a GPU against every other way to run the same network.

Run ``python benchmarks/gpu_inference.py``; ``--quick`` leaves out what is compiled for minutes, ``--only`` and ``--cases``
choose. Every contender gets the same image tensor and gives logits (classification) or a class map (segmentation), and its
answer is checked before it is timed. Contenders take turns within one run; times are medians by CUDA events. "eager" is the
authors' way: float32, NCHW, one branch after the other; "AMP" is channels-last under autocast; others run in ``--dtype``.
Weights are random: they do not change the work. The floor is the time in which the card could move the image and the maps
between the network's units, or do the multiply-accumulates, whichever is longer; in brackets, how many times that it takes.
"""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from gpu_common import Card, Run, accumulates, bytes_moved, clean, header, interleaved, need_gpu, parser, row, versions
from torch import Tensor, nn

import espnetv2
from espnetv2.acceleration.backends import Backend
from espnetv2.acceleration.inference import AcceleratedModel
from espnetv2.models.network import Network

Contender = Callable[[Tensor], Tensor]
PEERS = ("eager", "AMP", "streams", "graphs", "compile", "max-autotune", "TensorRT")
SLOW = ("compile", "max-autotune", "TensorRT")
CASES = {
    **{f"s1_0 224x224 x{batch}": ("espnetv2_s1_0", batch, 224, 224) for batch in (1, 8, 64)},
    **{f"seg_s0_5 512x1024 x{batch}": ("espnetv2_seg_s0_5", batch, 512, 1024) for batch in (1, 8, 64)},
    "seg_s2_0 512x1024 x1": ("espnetv2_seg_s2_0", 1, 512, 1024),
    **{f"seg_s0_5 1024x2048 x{batch}": ("espnetv2_seg_s0_5", batch, 1024, 2048) for batch in (1, 8, 64)},
}
AS_IT_IS = ("eager", "AMP")
"""Contenders that take the float32 image."""
DIFFERING = (0.1, 1e-3)
"""Share of pixels that may differ, in half precision and in float32: with random weights many classes are nearly tied."""
FAR = (0.03, 1e-4)
"""The same for the relative distance of logits."""


class Answer(nn.Module):
    """A network and, where it segments, the largest logit, as one graph."""

    def __init__(self, network: nn.Module, *, segments: bool) -> None:
        super().__init__()
        self.network, self.segments = network, segments

    def forward(self, image: Tensor) -> Tensor:
        """Image to class map or logits."""
        logits: Tensor = self.network(image)
        return logits.argmax(1) if self.segments else logits


def main() -> None:
    """Print the table."""
    made = parser(__doc__, ("ours", *PEERS), tuple(CASES))
    made.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    options = made.parse_args()
    need_gpu()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    dtype = getattr(torch, options.dtype)
    # float32 means float32 for everyone.
    torch.backends.cudnn.allow_tf32 = dtype != torch.float32
    # Shapes do not change, so torch may look for its fastest convolutions.
    torch.backends.cudnn.benchmark = True
    card = Card.measured(dtype)
    print(f"{card}; {versions()}; {options.dtype}\n")
    names = tuple(name for name in PEERS if name in options.only and not (options.quick and name in SLOW))
    print(header(names, ("difference",)))
    for case in options.cases:
        print(measured(case, dtype, names, options.rounds, card), flush=True)


@torch.no_grad()
def measured(case: str, dtype: torch.dtype, names: tuple[str, ...], rounds: int, card: Card, device: str = "cuda") -> str:
    """A row of the table; another device than "cuda" is for trying the script."""
    name, batch, height, width = CASES[case]
    torch.manual_seed(0)
    clean()
    model, segments = espnetv2.create_model(name).to(device).eval(), "_seg_" in name
    image = torch.randn(batch, 3, height, width, device=device)
    wanted = Answer(model, segments=segments)(image)
    runs: dict[str, Run] = {}
    differences: dict[str, float] = {}
    for contender in ("ours", *names):
        given = image if contender in AS_IT_IS else image.to(dtype)
        try:
            run = BUILDERS[contender](model, dtype, image, segments)
            differences[contender] = distance(run(given), wanted)
            if isinstance(run, AcceleratedModel) and run.fallback is not None:
                raise RuntimeError(f"the plain network answers instead: {run.fallback}")
        except Exception as error:
            print(f"{case}: {contender} fails: {type(error).__name__}: {str(error).strip().splitlines()[:1]}", flush=True)
            continue
        if differences[contender] > (DIFFERING if segments else FAR)[dtype == torch.float32]:
            print(
                f"{case}: {contender} gives another answer ({differences[contender]:.2g} of it), so it is not timed", flush=True
            )
        else:
            runs[contender] = functools.partial(run, given)
    times = interleaved(runs, rounds)
    if "ours" not in times:
        return f"{case}: there is nothing to compare"
    floor = card.floor(accumulates(model, tuple(image.shape)), bytes_moved(model, tuple(image.shape), dtype.itemsize))
    return f"{row(case, times, names, floor)} {differences['ours']:.1e} |"


def distance(found: Tensor, wanted: Tensor) -> float:
    """Share of pixels that differ, or the relative distance of logits."""
    if not found.is_floating_point():
        return float((found != wanted).float().mean())
    return float((found.float() - wanted).norm() / wanted.norm())


def _backend(backend: Backend) -> Callable[[Network, torch.dtype, Tensor, bool], Contender]:
    def build(model: Network, dtype: torch.dtype, _: Tensor, segments: bool) -> Contender:
        network = copy.deepcopy(model).to(dtype)
        return espnetv2.accelerate(network, output="classes" if segments else "logits", backend=backend)

    return build


def _eager(model: Network, _: torch.dtype, __: Tensor, segments: bool) -> Contender:
    return Answer(model, segments=segments)


def _amp(model: Network, dtype: torch.dtype, _: Tensor, segments: bool) -> Contender:
    graph = Answer(copy.deepcopy(model).to(memory_format=torch.channels_last), segments=segments)

    def run(image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32):
            out: Tensor = graph(image.contiguous(memory_format=torch.channels_last))
        return out

    return run


def _compiled(mode: str) -> Callable[[Network, torch.dtype, Tensor, bool], Contender]:
    def build(model: Network, dtype: torch.dtype, _: Tensor, segments: bool) -> Contender:
        compiled: Contender = torch.compile(Answer(copy.deepcopy(model).to(dtype), segments=segments), mode=mode, dynamic=False)
        return compiled

    return build


def _tensorrt(model: Network, dtype: torch.dtype, image: Tensor, segments: bool) -> Contender:
    if find_spec("torch_tensorrt") is None:
        raise ImportError("the package torch-tensorrt is not installed")
    graph = Answer(copy.deepcopy(model).to(dtype), segments=segments)
    compiled: Contender = import_module("torch_tensorrt").compile(
        graph, ir="dynamo", inputs=[image.to(dtype)], min_block_size=1
    )
    return compiled


BUILDERS: dict[str, Callable[[Any, torch.dtype, Tensor, bool], Contender]] = {
    "ours": _backend("fused"),
    "eager": _eager,
    "AMP": _amp,
    "streams": _backend("streams"),
    "graphs": _backend("graphs"),
    "compile": _compiled("default"),
    "max-autotune": _compiled("max-autotune"),
    "TensorRT": _tensorrt,
}


if __name__ == "__main__":
    main()
