"""Run exported files in the runtimes that read them. The files are run unmodified; only a GPU requires torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from espnetv2.benchmarking.report import Answer
from espnetv2.benchmarking.timing import Run
from espnetv2.errors import MissingPackageError, UserError
from espnetv2.models.registry import Task
from espnetv2.runtimes.private import import_onnxruntime, import_openvino

if TYPE_CHECKING:
    from torch import Tensor

Image = npt.NDArray[np.float32]
FLOAT32 = ("tensor(float)", "f32")
"""The names in ONNX Runtime and OpenVINO."""
FileRun = Callable[[Path, Image, int], Run]


@dataclass(frozen=True)
class Signature:
    """Input and output of an exported file."""

    size: tuple[int, int]
    """Height and width."""
    task: Task
    answer: Answer


def read_signature(path: Path, size: tuple[int, int] | None, batch: int) -> Signature:
    """The signature of a file, with the input size at which it will be run.

    Raises:
        UserError: there is no such file, it cannot be read, or it does not accept the requested size or batch size.
    """
    if not path.is_file():
        raise UserError("there is no such file: check the path")
    shape, kind, answer = _onnx_shapes(path) if path.suffix.lower() == ".onnx" else _openvino_shapes(path)
    if len(shape) != 4 or shape[1] not in (3, None) or kind not in FLOAT32:
        raise UserError(f"it takes {kind} {shape}, but the benchmark gives float32 images (N, 3, H, W)")
    task: Task = "classification" if answer <= 2 else "segmentation"
    default = (224, 224) if task == "classification" else (512, 1024)
    wanted = (batch, *(size or (shape[2] or default[0], shape[3] or default[1])))
    for fixed, asked, what in zip((shape[0], shape[2], shape[3]), wanted, ("batch", "height", "width"), strict=True):
        if fixed not in (None, asked):
            raise UserError(f"it is fixed to {what} {fixed} and cannot take {asked}: use the fixed value, or export it again")
    return Signature(wanted[1:], task, "logits" if answer in (2, 4) else "class" if answer == 1 else "class map")


def plain_onnx_run(path: Path, image: Image) -> Run:
    """ONNX Runtime with all graph optimisations disabled, as the reference for other ways to run a file."""
    return _session_run(path, image, 1, optimise=False)


def onnxruntime_run(path: Path, image: Image, threads: int) -> Run:
    """ONNX Runtime on the CPU."""
    return _session_run(path, image, threads, optimise=True)


def openvino_run(path: Path, image: Image, threads: int) -> Run:
    """OpenVINO on the CPU, in float32, tuned for latency."""
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = _openvino().Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    # As in this package's own runtime: nothing is copied.
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)[0]


FILE_RUNS: dict[str, FileRun] = {"onnxruntime": onnxruntime_run, "openvino": openvino_run}


def gpu_run(path: Path, image: Tensor, provider: str) -> Run:
    """ONNX Runtime on a GPU with one of its execution providers, input and output in the GPU's memory.

    Raises:
        UserError: this build of ONNX Runtime or this machine does not offer the provider.
    """
    runtime = _onnxruntime()
    if provider not in runtime.get_available_providers():
        raise UserError(f"this build of ONNX Runtime has no {provider}: pip install onnxruntime-gpu instead of onnxruntime")
    index = image.device.index or 0
    settings: dict[str, int] = {"device_id": index}
    if provider == "CUDAExecutionProvider":
        # As in torch here. TensorRT has no such setting.
        settings["use_tf32"] = 0
    session = runtime.InferenceSession(str(path), providers=[(provider, settings)])
    # A provider that fails is replaced by the CPU's with only a warning.
    if session.get_providers()[0] != provider:
        raise UserError(f"ONNX Runtime could not start its {provider} here")
    binding = bound(session, image)

    def run() -> object:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding

    return run


def bound(session: Any, image: Tensor) -> Any:
    """A binding of the session's input to the memory of ``image``, and of its output to the same device."""
    binding, device, index = session.io_binding(), image.device.type, image.device.index or 0
    name, answer = session.get_inputs()[0].name, session.get_outputs()[0].name
    binding.bind_input(name, device, index, np.float32, list(image.shape), image.data_ptr())
    binding.bind_output(answer, device, index)
    return binding


def _session_run(path: Path, image: Image, threads: int, *, optimise: bool) -> Run:
    runtime = _onnxruntime()
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    if not optimise:
        settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: image})[0]


def _onnx_shapes(path: Path) -> tuple[list[int | None], str, int]:
    runtime = _onnxruntime()
    with _reading():
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken, given = session.get_inputs()[0], session.get_outputs()[0]
    return [side if isinstance(side, int) else None for side in taken.shape], taken.type, len(given.shape)


def _openvino_shapes(path: Path) -> tuple[list[int | None], str, int]:
    core = _openvino().Core()
    with _reading():
        model = core.read_model(str(path))
    shape: Sequence[Any] = list(model.inputs[0].partial_shape)
    sides = [side.get_length() if side.is_static else None for side in shape]
    return sides, model.inputs[0].element_type.get_type_name(), len(model.outputs[0].partial_shape)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Runtimes have exceptions of their own, and a damaged file can break a reader anywhere.
        raise UserError(f"it cannot be read ({type(error).__name__}): export it again") from error


def _onnxruntime() -> Any:
    try:
        return import_onnxruntime()
    except ImportError as error:
        raise MissingPackageError("onnxruntime", "export", "running an ONNX file") from error


def _openvino() -> Any:
    try:
        return import_openvino()
    except ImportError as error:
        raise MissingPackageError("openvino", "export", "running a network in OpenVINO") from error
