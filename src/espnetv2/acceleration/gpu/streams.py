"""Run the branches of EESP units concurrently on the GPU, each on its own stream.

Source: the authors' note that this improves inference speed, which they had tested on one GPU.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from espnetv2.models.eesp import BRANCHES, EESP, SplitTransformMerge

_side_streams = threading.local()


def with_streams(network: nn.Module) -> nn.Module:
    """Make the EESP units of ``network`` run their branches on side streams, in place; without a GPU they run as before.

    It works on the device of the input, current or not, and while a CUDA graph is being captured, which then contains
    concurrent branches.
    """
    for module in network.modules():
        if type(module) in _STREAMED:
            module.__class__ = _STREAMED[type(module)]
    return network


def side_streams(device: torch.device) -> tuple[torch.cuda.Stream, ...]:
    """Streams of a device for all branches but the first.

    Every thread has its own: on a shared one, the work of a thread would become part of the graph that another captures.
    """
    kept: dict[torch.device, tuple[torch.cuda.Stream, ...]] = _side_streams.__dict__.setdefault("of_device", {})
    if device not in kept:
        kept[device] = tuple(torch.cuda.Stream(device) for _ in range(BRANCHES - 1))
    return kept[device]


def side_by_side(branches: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Outputs of all branches for ``x``, computed concurrently and ready on the current stream of its device."""
    first, *others = branches
    here = torch.cuda.current_stream(x.device)
    sides = side_streams(x.device)
    ready = here.record_event()
    made: list[Tensor] = []
    for branch, side in zip(others, sides, strict=True):
        side.wait_event(ready)
        with torch.cuda.stream(side):
            made.append(branch(x))
        # The allocator must not reuse the memory of either on its own stream while the other still uses it.
        x.record_stream(side)
        made[-1].record_stream(here)
    own: Tensor = first(x)
    for side in sides:
        here.wait_stream(side)
    return [own, *made]


class _SplitTransformMerge(SplitTransformMerge):
    def transform(self, x: Tensor) -> Tensor:
        if x.device.type != "cuda":
            return super().transform(x)
        fused: list[Tensor] = []
        for made in side_by_side(self.branches, self.reduce(x)):
            fused.append(made + fused[-1] if fused else made)
        out: Tensor = self.expand(self.norm(torch.cat(fused, dim=1)))
        return out


class _EESP(_SplitTransformMerge, EESP):
    pass


_STREAMED: dict[type[nn.Module], type[nn.Module]] = {SplitTransformMerge: _SplitTransformMerge, EESP: _EESP}
