"""A function as CUDA graphs, one for each input shape: one launch instead of several hundred."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espnetv2.acceleration.gpu.layout import dense

_GRAPHS_KEPT = 8
_WARM_UPS = 3
_capturing = threading.Lock()
"""Beginning a capture waits for the whole device, which must not happen while another thread captures."""


@dataclass
class _Graph:
    graph: torch.cuda.CUDAGraph
    image: Tensor
    """Where the graph reads its input."""
    answer: Tensor
    """Where it leaves its output."""
    held: object
    """Memory that the graph reads besides."""


class Graphs:
    """``function``, captured once for each shape, type and memory layout of its input, and replayed.

    An answer is a copy, so the next call does not change it. Calls may come from several threads and streams: the graphs
    share their memory, so one runs after the other. The last few shapes are kept.

    Args:
        function: of one CUDA tensor, deterministic in what it launches; nothing in it may wait for the GPU.
        held: called after a capture; returns whatever the graph reads that would else be freed.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], held: Callable[[], object] = lambda: None) -> None:
        self.function = function
        self._held = held
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._lock = threading.Lock()
        self._pools: dict[torch.device, Any] = {}
        self._ended: dict[torch.device, torch.cuda.Event] = {}

    def __call__(self, image: Tensor) -> Tensor:
        """The function's value for ``image``, on the current stream of its device.

        Raises:
            RuntimeError: it cannot be captured.
        """
        image = dense(image)
        key = (image.device, image.shape, image.stride(), image.dtype)
        with self._lock, torch.cuda.device(image.device):
            here = torch.cuda.current_stream()
            ended = self._ended.setdefault(image.device, torch.cuda.Event())
            # The call before, maybe on another stream, has to be done with the memory that the graphs share.
            here.wait_event(ended)
            found = self._graphs.pop(key, None)
            if found is None:
                found = self._capture(image)
            self._graphs[key] = found
            found.image.copy_(image)
            # It was made on the stream of the first call, and may be freed while this one still runs.
            found.image.record_stream(here)
            found.graph.replay()
            answer = found.answer.clone()
            ended.record(here)
            self._drop_old(ended)
            return answer

    def _capture(self, image: Tensor) -> _Graph:
        device = image.device
        static = torch.empty_strided(image.shape, image.stride(), dtype=image.dtype, device=device)
        static.copy_(image)
        side, here = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self.function(static)
        here.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool = self._pools.setdefault(device, torch.cuda.graph_pool_handle())
        # Other threads may go on using the GPU meanwhile.
        with _capturing, torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            answer = self.function(static)
        return _Graph(graph, static, answer, self._held())

    def _drop_old(self, ended: torch.cuda.Event) -> None:
        while len(self._graphs) > _GRAPHS_KEPT:
            # No graph may be destroyed while it runs.
            ended.synchronize()
            self._graphs.popitem(last=False)
