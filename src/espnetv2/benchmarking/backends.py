"""The backends that can run a network, by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnetv2.acceleration.inference import accelerate
from espnetv2.benchmarking.contenders import Contender, Graph
from espnetv2.benchmarking.runtimes import FILE_RUNS, gpu_run
from espnetv2.benchmarking.timing import Run
from espnetv2.errors import MissingPackageError, UserError, nearest


@dataclass(frozen=True)
class Subject:
    """A contender, prepared for a backend."""

    contender: Contender
    image: Tensor
    """(N, 3, H, W), float32, on the device."""
    threads: int
    folder: Path
    """Where exported files go."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.image.device

    def graph(self) -> Graph:
        """A copy of the network on the device."""
        if self.contender.graph is None:
            raise UserError(f"{self.contender.name} is an exported file: choose a backend that reads it")
        return copy.deepcopy(self.contender.graph).to(self.device)

    def exported(self) -> Path:
        """The file, exported once: networks of this package as ``espnetv2 export`` does it, others by torch itself."""
        if self.contender.file is not None:
            return self.contender.file
        path = self.folder / "network.onnx"
        if not path.is_file():
            shape = (self.image.shape[0], 3, *self.contender.size)
            try:
                if self.contender.own is not None:
                    from espnetv2.exporting.onnx import convert

                    convert(self.contender.own, self.contender.output, shape, path)
                else:
                    graph = self.graph().cpu().eval()
                    torch.onnx.export(graph, (torch.zeros(shape),), path, dynamo=True, opset_version=18, verbose=False)
            except ImportError as error:
                raise MissingPackageError("onnx or onnxscript", "export", "exporting to ONNX") from error
        return path


@dataclass(frozen=True)
class Backend:
    """A way to run a network."""

    make: Callable[[Subject], Run]
    devices: tuple[str, ...]
    """Kinds of device that it supports."""
    takes: Callable[[Contender], bool]
    file: bool = False
    """Whether it runs an exported file."""


def find_backend(name: str, device: torch.device) -> Backend:
    """The backend of that name.

    Raises:
        UserError: there is none, or it does not support this device.
    """
    if name not in BACKENDS:
        raise UserError(f'no backend "{name}": {nearest(name, BACKENDS)}')
    backend = BACKENDS[name]
    if device.type not in backend.devices:
        raise UserError(f"{name} is for {' and '.join(backend.devices)}, but the device is {device.type}")
    return backend


def _eager(subject: Subject) -> Run:
    return _on_torch(subject.graph(), subject.image)


def _channels_last(subject: Subject) -> Run:
    graph = subject.graph().to(memory_format=torch.channels_last)
    return _on_torch(lambda image: graph(image.contiguous(memory_format=torch.channels_last)), subject.image)


def _compile(subject: Subject) -> Run:
    # Without fullgraph, what cannot be compiled, or is one network too many for torch's cache, would silently run uncompiled.
    return _on_torch(torch.compile(subject.graph(), fullgraph=True), subject.image)


def _accelerated(**options: Any) -> Callable[[Subject], Run]:
    def make(subject: Subject) -> Run:
        if subject.contender.own is None:
            raise UserError("its kernels only support networks of this package")
        network = copy.deepcopy(subject.contender.own).to(subject.device)
        made = accelerate(network, output=subject.contender.output, **options)
        # Otherwise torch's own operators would be timed under another name. On a GPU, a fallback only shows when it is called.
        if subject.device.type == "cuda":
            made(subject.image)
        reason = made.reason if subject.device.type == "cpu" else made.fallback
        if reason is not None:
            raise UserError(reason)
        return _on_torch(made, subject.image)

    return make


def _runtime(name: str) -> Callable[[Subject], Run]:
    def make(subject: Subject) -> Run:
        if subject.device.type == "cuda":
            return gpu_run(subject.exported(), subject.image, "CUDAExecutionProvider")
        return FILE_RUNS[name](subject.exported(), subject.image.numpy(), subject.threads)

    return make


def _tensorrt(subject: Subject) -> Run:
    return gpu_run(subject.exported(), subject.image, "TensorrtExecutionProvider")


def _on_torch(function: Callable[[Tensor], object], image: Tensor) -> Run:
    if image.device.type == "cpu":
        return lambda: function(image)

    def run() -> object:
        answer = function(image)
        if image.device.type == "cuda":
            torch.cuda.synchronize(image.device)
        else:
            torch.mps.synchronize()
        return answer

    return run


def _networks(contender: Contender) -> bool:
    return contender.graph is not None


def _own_networks(contender: Contender) -> bool:
    return contender.own is not None


def _onnx(contender: Contender) -> bool:
    return contender.file is None or contender.file.suffix.lower() == ".onnx"


def _any(_: Contender) -> bool:
    return True


BACKENDS: dict[str, Backend] = {
    "eager": Backend(_eager, ("cpu", "cuda", "mps"), _networks),
    "channels_last": Backend(_channels_last, ("cpu", "cuda", "mps"), _networks),
    "compile": Backend(_compile, ("cpu", "cuda"), _networks),
    "accelerated": Backend(_accelerated(), ("cpu", "cuda"), _own_networks),
    "streams": Backend(_accelerated(backend="streams"), ("cuda",), _own_networks),
    "graphs": Backend(_accelerated(backend="graphs"), ("cuda",), _own_networks),
    "fused": Backend(_accelerated(backend="fused"), ("cuda",), _own_networks),
    "onnxruntime": Backend(_runtime("onnxruntime"), ("cpu", "cuda"), _onnx, file=True),
    "openvino": Backend(_runtime("openvino"), ("cpu",), _any, file=True),
    "tensorrt": Backend(_tensorrt, ("cuda",), _onnx, file=True),
}
