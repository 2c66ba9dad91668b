"""A function as CUDA graphs, one for each input shape: one launch instead of several hundred."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espnetv2.acceleration.gpu.layout import dense

SHAPES_KEPT = 32
_WARM_UPS = 3
_FIRST = -1
"""Priority of the streams to capture on: torch hands out streams in turn, and branches get theirs among the others."""
_capturing = threading.Lock()
_streams: dict[torch.device, torch.cuda.Stream] = {}
"""One for all captures on a device: graphs share memory only on the same stream. The capturing thread holds the lock."""


@dataclass
class _Graph:
    graph: torch.cuda.CUDAGraph
    image: Tensor
    """Where the graph reads its input."""
    answer: Tensor
    """Where it writes its output."""
    held: object
    """Other memory that the graph reads."""


class Graphs:
    """``function``, captured once for each shape, type and memory layout of its input, and replayed.

    The output is a copy, so the next call does not change it. Calls may come from several threads and streams: the graphs
    share their memory, so they run one after another. The most recent shapes are kept.

    Args:
        function: of one CUDA tensor, with deterministic launches; nothing in it may wait for the GPU.
        held: called after a capture; returns memory that the graph reads and that would otherwise be freed.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], held: Callable[[], object] = lambda: None) -> None:
        self.function = function
        self._held = held
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._lock = threading.Lock()
        self._pools: dict[torch.device, Any] = {}
        self._ended: dict[torch.device, torch.cuda.Event] = {}
        # No graph may be destroyed while it runs.
        weakref.finalize(self, _wait, self._ended).atexit = False

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
            # The previous call, maybe on another stream, must be done with the memory that the graphs share.
            here.wait_event(ended)
            found = self._graphs.pop(key, None)
            if found is None:
                found = self._capture(image)
            self._graphs[key] = found
            try:
                found.image.copy_(image)
                # It was created on the stream of the first call, and may be freed while this one still runs.
                found.image.record_stream(here)
                found.graph.replay()
                return found.answer.clone()
            finally:
                ended.record(here)
                self._drop_old()

    def _capture(self, image: Tensor) -> _Graph:
        device = image.device
        static = torch.empty_strided(image.shape, image.stride(), dtype=image.dtype, device=device)
        static.copy_(image)
        here, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        if device not in self._pools:
            self._pools[device] = torch.cuda.graph_pool_handle()
        with _capturing:
            if device not in _streams:
                _streams[device] = torch.cuda.Stream(priority=_FIRST)
            side = _streams[device]
            side.wait_stream(here)
            # Not torch.cuda.graph: it waits for the whole device, which aborts captures of other threads, and after a failed
            # capture it leaves the thread on the wrong stream.
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    self.function(static)
                graph.capture_begin(pool=self._pools[device], capture_error_mode="thread_local")
                try:
                    answer = self.function(static)
                finally:
                    graph.capture_end()
            here.wait_stream(side)
        return _Graph(graph, static, answer, self._held())

    def _drop_old(self) -> None:
        while len(self._graphs) > SHAPES_KEPT:
            _wait(self._ended)
            self._graphs.popitem(last=False)


def _wait(ended: dict[torch.device, torch.cuda.Event]) -> None:
    for event in ended.values():
        event.synchronize()
