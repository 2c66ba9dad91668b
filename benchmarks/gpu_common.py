"""What both benchmarks on a GPU need: turns, floors, tables."""

from __future__ import annotations

import argparse
import copy
import gc
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espnetv2.models.cost import multiply_accumulates
from espnetv2.models.decoders.psp import PSPModule
from espnetv2.models.decoders.pyramid import EfficientPyramidPool, GatedProjection
from espnetv2.models.eesp import EESP, StridedEESP
from espnetv2.models.layers import ConvBNAct
from espnetv2.models.network import Network

Run = Callable[[], object]
UNITS = (EESP, StridedEESP, EfficientPyramidPool, GatedProjection, PSPModule, ConvBNAct)
WARM_UPS = 3
GIB = 2**30


@dataclass(frozen=True)
class Card:
    """A GPU and what it reaches in practice."""

    name: str
    bandwidth: float
    """Bytes a second of a large copy, read and written."""
    rate: float
    """Multiply-accumulates a second of a large matrix product in the type that is measured."""

    @classmethod
    def measured(cls, dtype: torch.dtype) -> Card:
        """The current GPU."""
        source = torch.empty(GIB // 2, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        matrix = torch.randn(8192, 8192, device="cuda").to(dtype)
        copying = min(seconds(lambda: target.copy_(source)) for _ in range(10))
        product = min(seconds(lambda: matrix @ matrix) for _ in range(10))
        return cls(torch.cuda.get_device_name(), 2 * source.numel() / copying, 8192**3 / product)

    def __str__(self) -> str:
        return f"{self.name}, copy {self.bandwidth / 1e12:.2f} TB/s, matrix product {2 * self.rate / 1e12:.0f} TFLOP/s"

    def floor(self, accumulates: float, moved: float) -> float:
        """Milliseconds that so many multiply-accumulates or bytes take at least."""
        return 1e3 * max(accumulates / self.rate, moved / self.bandwidth)


def need_gpu() -> None:
    """Leave with one line where there is none."""
    if not torch.cuda.is_available():
        print(
            f"{sys.argv[0]}: this measures a GPU, and none was found: run it where torch.cuda.is_available()", file=sys.stderr
        )
        raise SystemExit(2)


def versions() -> str:
    """What the figures depend on besides the card."""
    try:
        from triton import __version__ as triton
    except ImportError:
        triton = "none"
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}, triton {triton}"


def parser(text: str | None, contenders: tuple[str, ...], cases: tuple[str, ...]) -> argparse.ArgumentParser:
    """Options that both scripts have."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--only", nargs="+", choices=contenders, default=contenders, help="contenders, the first of them too")
    made.add_argument("--cases", nargs="+", default=cases, choices=cases, help="rows of the table")
    made.add_argument("--quick", action="store_true", help="leave out what is compiled for minutes")
    return made


def seconds(run: Run) -> float:
    """Of one run, on the GPU's clock."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def interleaved(contenders: Mapping[str, Run], rounds: int, clock: Callable[[Run], float] = seconds) -> dict[str, float]:
    """Milliseconds, medians; contenders take turns, so a clock that drifts favours none. Who runs out of memory is dropped."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(WARM_UPS + rounds):
        for name in list(times):
            try:
                taken = 1e3 * clock(contenders[name])
            except torch.OutOfMemoryError:
                print(f"{name} runs out of memory beside the others", flush=True)
                del times[name]
                torch.cuda.empty_cache()
                continue
            if turn >= WARM_UPS:
                times[name].append(taken)
    return {name: statistics.median(measured) for name, measured in times.items()}


def clean() -> None:
    """Give back what the case before held."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()


def bytes_moved(model: Network, shape: tuple[int, ...], size: int) -> float:
    """Image, parameters and, written and read once, the maps between a network's units; ``size`` bytes a value."""
    shadow = copy.deepcopy(model).to("meta").eval()
    found: list[int] = []

    def count(_: nn.Module, __: object, out: Tensor) -> None:
        found.append(math.prod(out.shape))

    def hook(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, UNITS):
                child.register_forward_hook(count)
            else:
                hook(child)

    hook(shadow)
    with torch.no_grad():
        out = shadow(torch.empty(shape, device="meta"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return float(size * (math.prod(shape) + parameters + 2 * sum(found) + (0 if out.ndim == 4 else out.numel())))


def accumulates(model: Network, shape: tuple[int, ...]) -> float:
    """Multiply-accumulates for a batch of images."""
    return float(shape[0] * multiply_accumulates(model, shape[2], shape[3]))


def header(names: tuple[str, ...], extra: tuple[str, ...] = ()) -> str:
    """The two lines above a table's rows."""
    columns = ("case", "floor", "ours", *names, "best / ours", *(f"{name} / ours" for name in names[:1]), *extra)
    return f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|"


def row(case: str, times: Mapping[str, float], names: tuple[str, ...], floor: float) -> str:
    """A row: the floor; ours and the others, each with its ratio to it; how many times ours the best and the first take."""
    ours = times["ours"]
    others = {name: times[name] for name in names if name in times}
    cells = [f"{times[name]:.3f} ({times[name] / floor:.1f})" if name in times else "-" for name in names]
    best = f"{min(others.values()) / ours:.2f}" if others else "-"
    first = [f"{others[name] / ours:.2f}" if name in others else "-" for name in names[:1]]
    return f"| {' | '.join((case, f'{floor:.3f}', f'**{ours:.3f}** ({ours / floor:.1f})', *cells, best, *first))} |"
