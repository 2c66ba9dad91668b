"""A network on a GPU, run with the requested backend or the fastest one."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from espnetv2 import __version__
from espnetv2.acceleration.backends import Backend
from espnetv2.acceleration.gpu.choose import Function, choose, free_memory
from espnetv2.acceleration.gpu.exact import without_tf32
from espnetv2.acceleration.gpu.fused import FusedNetwork
from espnetv2.acceleration.gpu.graphs import SHAPES_KEPT, Graphs
from espnetv2.acceleration.gpu.layout import layout
from espnetv2.acceleration.gpu.operators import has_triton
from espnetv2.acceleration.gpu.streams import with_streams
from espnetv2.errors import kind_and_first_line
from espnetv2.models.network import Network

_WORTH_IT = 3
_BOTH = "streams in graphs"
_CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}
_CLOSE_IN_HALF = 1e-2
_DIFFERING = 1e-3

log = logging.getLogger(__name__)


class Engine:
    """Runs a network on its GPU.

    With "auto", the first two images of a shape go through the plain network; then the fastest backend for that shape is
    measured once. "compile" is not measured, since building it takes a minute in every process. If anything fails, the plain
    network runs instead, and the log gives the reason. Convolutions in float32 never use TF32, regardless of torch's settings.

    Args:
        network: in evaluation mode, on a GPU; it is not copied, and must not be moved.
        backend: how to run it.
        answer: makes the output from logits; it must not hold the engine, whose memory would then not be freed.
        winners: None for logits, otherwise how many outputs are valid classes in a class map.

    Attributes:
        device: that of the network.
        fallback: why the plain network last ran instead of another backend; None if it never did.
    """

    def __init__(self, network: Network, backend: Backend, answer: Callable[[Tensor], Tensor], winners: int | None) -> None:
        self._network, self._backend, self._answer, self._winners = network, backend, answer, winners
        self.device = next(network.parameters()).device
        self.fallback: str | None = None
        self._eager: Function = lambda image: answer(network(image))
        self._lock = threading.Lock()
        self._built: dict[str, Function] = {}
        self._functions: OrderedDict[Hashable, Function] = OrderedDict()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()

    def __call__(self, image: Tensor) -> Tensor:
        """The output for an image (N, 3, H, W) of the network's type and on its device."""
        # Buffers that outlive this call must not belong to the caller's inference mode.
        with torch.inference_mode(False), torch.no_grad(), _current(image.device), without_tf32:
            key = (image.shape, layout(image))
            try:
                return self._function(key, image)(image)
            except Exception as error:
                self.fallback = kind_and_first_line(error)
                log.warning("torch's own operators take over for images %s: %s", tuple(image.shape), self.fallback)
                with self._lock:
                    if isinstance(error, torch.OutOfMemoryError):
                        self._drop()
                    self._keep(key, self._eager)
            return self._eager(image)

    def _drop(self) -> None:
        """Release everything that holds memory, which the plain network now needs."""
        self._built.clear()
        self._functions.clear()
        free_memory()

    def _function(self, key: Hashable, image: Tensor) -> Function:
        if image.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # The caller's graph would not keep the memory that ours reads; nor may anything be built while it is captured.
            return self._built.get("streams", self._eager) if self._backend == "streams" else self._eager
        with self._lock:
            found = self._functions.get(key)
            if found is not None:
                self._functions.move_to_end(key)
                return found
            if self._backend != "auto":
                return self._keep(key, self._named(image))
            calls = self._seen[key] = self._seen.pop(key, 0) + 1
            while len(self._seen) > SHAPES_KEPT:
                self._seen.popitem(last=False)
            return self._eager if calls < _WORTH_IT else self._keep(key, self._fastest(image))

    def _keep(self, key: Hashable, function: Function) -> Function:
        self._functions[key] = function
        while len(self._functions) > SHAPES_KEPT:
            self._functions.popitem(last=False)
        return function

    def _named(self, image: Tensor) -> Function:
        if self._backend not in self._built:
            function = self._made(self._backend)
            if not self._judge(image)(function(image)):
                raise RuntimeError(f"{self._backend} gives a different output than the plain network")
            self._built[self._backend] = function
        return self._built[self._backend]

    def _fastest(self, image: Tensor) -> Function:
        log.info("measuring the fastest backend for images %s on this GPU, once (up to a minute)", tuple(image.shape))
        names = ("eager", "streams", "graphs", _BOTH, *(("fused",) if has_triton() else ()))
        candidates = {name: functools.partial(self._build, name) for name in names}
        _, best = choose(self._key(image), candidates, image, self._judge(image), _seconds)
        # The others hold GPU memory.
        used = (best, *self._functions.values())
        self._built = {name: function for name, function in self._built.items() if function in used}
        return best

    def _build(self, name: str) -> Function:
        if name not in self._built:
            self._built[name] = self._made(name)
        return self._built[name]

    def _made(self, name: str) -> Function:
        if name == "streams":
            return self._streams()
        if name == "graphs":
            return Graphs(self._eager)
        if name == _BOTH:
            return Graphs(self._streams())
        if name == "compile":
            # Without fullgraph, a network too many for torch's cache would silently run uncompiled.
            return torch.compile(self._eager, dynamic=False, fullgraph=True)
        return self._fused() if name == "fused" else self._eager

    def _streams(self) -> Function:
        network, answer = with_streams(copy.deepcopy(self._network)), self._answer
        return lambda image: answer(network(image))

    def _fused(self) -> Function:
        fused = FusedNetwork(self._network, self._winners)
        if fused.gives_classes:
            return Graphs(fused, fused.held)
        answer = self._answer
        return Graphs(lambda image: answer(fused(image)), fused.held)

    def _judge(self, image: Tensor) -> Callable[[Tensor], bool]:
        """Whether an output is as close to the exact one as the plain network's, or as close as rounding allows."""
        # The first and the last image stand for all: double precision is slow and large.
        some, network = [0, -1], copy.deepcopy(self._network).double()
        exact = torch.cat([self._answer(network(image[index][None].double())) for index in some])
        shape = (len(image), *exact.shape[1:])

        def distance(answer: Tensor) -> float:
            if answer.shape != shape:
                return float("inf")
            answer = answer[some]
            if not answer.is_floating_point():
                return float((answer != exact).double().mean())
            return float((answer.double() - exact).norm() / exact.norm())

        own = distance(self._eager(image))
        close = _CLOSE.get(image.dtype, _CLOSE_IN_HALF) if exact.is_floating_point() else _DIFFERING
        limit = max(close, 2 * own)
        return lambda answer: distance(answer) <= limit

    def _key(self, image: Tensor) -> dict[str, Any]:
        layers = ",".join(f"{name}{tuple(value.shape)}" for name, value in self._network.state_dict().items())
        return {
            "device": torch.cuda.get_device_name(image.device),
            "model": hashlib.sha256(layers.encode()).hexdigest()[:16],
            "winners": self._winners,
            "shape": list(image.shape),
            "layout": str(layout(image)),
            "dtype": str(image.dtype),
            "torch": torch.__version__,
            "cuda": torch.version.cuda or torch.version.hip,
            "triton": has_triton(),
            "espnetv2": __version__,
        }


def _seconds(function: Function, image: Tensor) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function(image)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
